"""Signals, kills, full disks and moved folders cost a run nothing."""

import os
import pty
import random
import resource
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager, suppress

import pytest

from tests.harness import (
    command,
    last,
    run_folder,
    same_weights,
    server,
    start,
    step_of,
)

STEPS = 160  # of the undisturbed run
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT)


@pytest.fixture(scope="module")
def context():
    return server()


@pytest.fixture(scope="module")
def whole(context, tmp_path_factory):
    """Folder of an undisturbed run, and the seconds that it took."""
    root = tmp_path_factory.mktemp("whole") / "runs"
    begin = time.monotonic()
    process = start(context, root)
    process.join()
    assert process.exitcode == 0, root.with_suffix(".log").read_text()
    assert step_of(root) == STEPS
    return root, time.monotonic() - begin


@pytest.fixture
def spawn():
    """Starts a command in a process group of its own, which is gone when the test ends."""
    started = []

    def call(*arguments):
        # A shell's background job ignores SIGINT, and its children would too.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        process = subprocess.Popen(
            command(*arguments), stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        signal.signal(signal.SIGINT, before)
        started.append(process)
        return process

    yield call
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def waited_for(path, process=None, seconds=120):
    """Waits until a file exists."""
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, path
        assert process is None or process.poll() is None
        time.sleep(0.005)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_saves_and_the_run_goes_on_as_if_there_had_been_none(
    number, context, whole, tmp_path
):
    root = tmp_path / "runs"
    process = start(context, root)
    waited_for(last(root))
    os.kill(process.pid, number)
    process.join(30)
    assert process.exitcode == 128 + number
    log = root.with_suffix(".log").read_text()
    assert f"stopped by {number.name} after step {step_of(root)}" in log
    assert step_of(root) < STEPS
    again = start(context, root, "--ckpt_path", "last")
    again.join()
    assert again.exitcode == 0, root.with_suffix(".log").read_text()
    assert same_weights(root, whole[0])


def test_a_second_interrupt_ends_at_once(context, tmp_path):
    root = tmp_path / "runs"
    process = start(context, root, "--trainer.max_epochs", "1000")
    waited_for(last(root))
    os.kill(process.pid, signal.SIGSTOP)  # both interrupts arrive within one batch
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.1)
    os.kill(process.pid, signal.SIGCONT)
    os.kill(process.pid, signal.SIGINT)
    process.join(30)
    assert process.exitcode in (-signal.SIGINT, 128 + signal.SIGINT)


def processes_of(group):
    """Living processes of a process group."""
    rows = subprocess.run(["ps", "-eo", "pid,pgid,stat"], capture_output=True, text=True).stdout
    return [
        row
        for row in map(str.split, rows.splitlines()[1:])
        if row[1] == str(group) and not row[2].startswith("Z")
    ]


TWO = ("--trainer.devices", "2", "--trainer.strategy", "ddp", "--trainer.max_epochs", "1000")


@pytest.mark.parametrize(
    "number",
    [SIGNALS[0], *(pytest.param(number, marks=pytest.mark.slow) for number in SIGNALS[1:])],
    ids=lambda number: number.name,
)
@pytest.mark.parametrize("everyone", [False, True], ids=["one rank", "all ranks"])
def test_a_signal_stops_two_ranks_and_leaves_no_process(number, everyone, spawn, tmp_path):
    root = tmp_path / "runs"
    process = spawn(root, *TWO)
    waited_for(last(root), process)
    (os.killpg if everyone else os.kill)(process.pid, number)
    _, log = process.communicate(timeout=30)
    assert process.returncode != 0
    assert f"stopped by {number.name} after step {step_of(root)}" in log
    deadline = time.monotonic() + 30
    while processes_of(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.slow
def test_two_ranks_go_on_after_a_signal(spawn, tmp_path):
    root = tmp_path / "runs"
    few = (*TWO[:4], "--trainer.max_epochs", "3")
    process = spawn(root, *few)
    waited_for(last(root), process)
    process.terminate()
    assert process.wait(30) != 0
    subprocess.run(command(root, *few, "--ckpt_path", "last"), check=True)
    assert step_of(root) == 3 * 40


def test_a_signal_before_the_training_ends_the_command_with_its_status(spawn, tmp_path):
    for wait in (0.2, 1.0, 3.0):
        process = spawn(tmp_path / "runs")
        time.sleep(wait)
        process.terminate()
        assert process.wait(30) == 128 + signal.SIGTERM


def test_a_data_worker_that_gets_the_signal_too_does_not_spoil_the_save(spawn, tmp_path):
    root = tmp_path / "runs"
    options = ("--data.num_workers", "2", "--trainer.max_epochs", "1000")
    process = spawn(root, *options)
    waited_for(last(root), process)
    os.killpg(process.pid, signal.SIGTERM)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, log
    assert "stopped by SIGTERM" in log


def killed_until_done(context, whole, root, kills):
    """Kills a run at random times, resumes it each time, and lets it end; counts what was hit."""
    draw = random.Random(0)
    counts = {"kills": 0, "during a save": 0, "before the first save": 0}
    # The last epoch ends far off, so that every kill hits a run that trains.
    options = ("--trainer.max_epochs", "4")
    while counts["kills"] < kills:
        process = start(context, root, *options, "--ckpt_path", "last")
        process.join(draw.uniform(0.2, whole[1] / 2))
        if process.exitcode is not None:
            shutil.rmtree(root)  # it was done: begin another run
            continue
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        counts["kills"] += 1
        counts["before the first save"] += not last(root).exists()
        counts["during a save"] += bool(list(root.rglob(".*.partial")))
    process = start(context, root, *options, "--ckpt_path", "last")
    process.join()
    assert process.exitcode == 0, root.with_suffix(".log").read_text()
    assert not list(root.rglob(".*.partial"))
    return counts


@pytest.mark.parametrize("kills", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_random_kills_change_no_bit_of_the_final_weights(kills, context, whole, tmp_path, capsys):
    root = tmp_path / "runs"
    counts = killed_until_done(context, whole, root, kills)
    with capsys.disabled():
        print("\n" + ", ".join(f"{value} {name}" for name, value in counts.items()))
    assert same_weights(root, whole[0])


def test_a_broken_newest_checkpoint_falls_back_to_the_one_before(context, whole, tmp_path):
    root = tmp_path / "runs"
    shutil.copytree(whole[0], root)
    before = last(root).stat().st_size
    with last(root).open("r+b") as file:
        file.truncate(before // 2)
    options = ("--trainer.max_epochs", "5", "--ckpt_path", "last")
    process = start(context, root, *options)
    process.join()
    log = root.with_suffix(".log").read_text()
    assert process.exitcode == 0, log
    assert "the checkpoint before it is used" in log
    assert step_of(root) == STEPS + 40


def test_a_run_whose_terminal_is_closed_saves(tmp_path):
    root = tmp_path / "runs"
    words = command(root, "--trainer.max_epochs", "1000", "--trainer.enable_progress_bar", "true")
    process, terminal = pty.fork()
    if process == 0:
        os.execv(words[0], words)
    while not last(root).exists():
        os.read(terminal, 2**16)
    os.close(terminal)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGHUP
    assert step_of(root) >= 1


def test_a_run_under_nohup_outlives_the_terminal(context, tmp_path):
    root = tmp_path / "runs"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = subprocess.Popen(command(root), stderr=subprocess.DEVNULL)
    finally:
        signal.signal(signal.SIGHUP, before)
    waited_for(last(root), process)
    process.send_signal(signal.SIGHUP)
    assert process.wait(120) == 0
    assert step_of(root) == STEPS


def test_only_one_training_writes_into_a_run(context, tmp_path):
    root = tmp_path / "runs"
    process = start(context, root, "--trainer.max_epochs", "1000")
    waited_for(last(root))
    second = start(context, root, "--trainer.max_epochs", "1000", "--ckpt_path", "last")
    second.join(60)
    assert second.exitcode == 2
    assert f"is in training by process {process.pid}" in root.with_suffix(".log").read_text()
    process.terminate()
    process.join(30)


@contextmanager
def mounted(folder, options):
    """Context with a small file system of its own in a folder; gives a function that fills it."""
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder])
    if made.returncode != 0:
        # Others have `test_a_file_that_grows_too_large…`, without a mount.
        pytest.skip("only the superuser can mount a small disk")  # justified: CI mounts it

    def fill():
        with suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    try:
        yield fill
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_leaves_the_checkpoint_before_it_and_says_where(spawn, tmp_path):
    root = tmp_path / "disk" / "runs"
    root.parent.mkdir()
    with mounted(root.parent, "size=1m") as fill:
        process = spawn(root, "--trainer.max_epochs", "1000")
        waited_for(last(root), process)
        fill()
        _, log = process.communicate(timeout=60)
        assert process.returncode == 1
        errors = [line for line in log.splitlines() if line.startswith("error: ")]
        assert errors, log
        assert "No space left on device" in errors[0]
        assert str(run_folder(root)) in errors[0]
        assert "Traceback" not in log
        assert step_of(root) > 0
        assert not list(root.rglob(".*.partial"))


def test_a_file_that_grows_too_large_leaves_the_checkpoint_before_it(spawn, tmp_path):
    root = tmp_path / "runs"
    process = spawn(root, "--trainer.max_epochs", "1000")
    waited_for(last(root), process)
    # The write of a checkpoint fails half-way, as on a full disk; any user may set this limit.
    half = last(root).stat().st_size // 2
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (half, half))
    _, log = process.communicate(timeout=60)
    assert process.returncode == 1, log
    assert "File too large" in log
    assert str(last(root).parent) in log
    assert "Traceback" not in log
    assert step_of(root) > 0
    assert not list(root.rglob(".*.partial"))


def test_a_run_on_another_file_system_leaves_nothing_in_the_temporary_folder(tmp_path):
    root, temporary = tmp_path / "disk" / "runs", tmp_path / "tmp"
    root.parent.mkdir()
    temporary.mkdir()
    with mounted(root.parent, "size=64m"):
        done = subprocess.run(
            command(root, "--trainer.max_epochs", "1"),
            env={**os.environ, "TMPDIR": str(temporary)},
        )
        assert done.returncode == 0
        assert step_of(root) == 40
        kept = sorted(path.name for path in last(root).parent.iterdir())
    assert kept == ["best.ckpt", "last.ckpt", "last.ckpt.previous"]
    assert not [path for path in temporary.rglob("*") if path.is_file()]


def test_a_folder_that_becomes_read_only_ends_the_run_with_its_name(spawn, tmp_path):
    root = tmp_path / "runs"
    process = spawn(root, "--trainer.max_epochs", "1000")
    waited_for(last(root), process)
    with mounted(last(root).parent, "ro"):
        _, log = process.communicate(timeout=60)
    assert process.returncode == 1, log
    assert "Read-only file system" in log
    assert str(last(root).parent) in log
    assert "Traceback" not in log
    assert step_of(root) > 0


def test_a_moved_run_keeps_its_best(context, whole, tmp_path):
    root = tmp_path / "elsewhere"
    shutil.copytree(whole[0], root)
    best = run_folder(root) / "checkpoints" / "best.ckpt"
    before = best.read_bytes()
    # A rate of this size spoils the weights, so every later validation is worse.
    worse = ("--model.optimizer.lr", "10", "--allow_changes", "true")
    options = ("--trainer.max_epochs", "6", "--ckpt_path", "last", *worse)
    process = start(context, root, *options)
    process.join()
    assert process.exitcode == 0, root.with_suffix(".log").read_text()
    assert best.read_bytes() == before


def test_a_dead_data_worker_ends_with_a_clear_message(spawn, tmp_path):
    process = spawn(tmp_path / "runs", "--data.num_workers", "2", "--trainer.max_epochs", "1000")
    waited_for(last(tmp_path / "runs"), process)
    rows = subprocess.run(
        ["ps", "--ppid", str(process.pid), "-o", "pid="], capture_output=True, text=True
    ).stdout
    os.kill(int(rows.split()[0]), signal.SIGKILL)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 1, log
    assert "data.num_workers" in log
    assert "Traceback" not in log
    assert (run_folder(tmp_path / "runs") / "failure.txt").is_file()
