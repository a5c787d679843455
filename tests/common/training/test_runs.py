"""Where runs go, which run a command means, and what may change when one is resumed."""

import logging
import shutil
import warnings

import pytest
import torch

from common.errors import InputError
from common.files import read_torch
from common.training import runs
from common.training.runs import checked_id, checked_root, newest_checkpoint, run_name
from msflow.cli import main
from tests.harness import last, run_folder, words

SHORT = ("--trainer.max_epochs", "2", "--trainer.limit_train_batches", "3")


@pytest.fixture
def fit(tmp_path, monkeypatch, caplog):
    """Trains for two short epochs; returns what was logged."""
    monkeypatch.setattr("sys.argv", ["msflow"])
    monkeypatch.setattr(logging.getLogger("pytorch_lightning"), "propagate", True)

    def call(*options, subcommand="fit"):
        caplog.clear()
        with warnings.catch_warnings(), caplog.at_level(logging.INFO):
            warnings.simplefilter("ignore")
            main(words(tmp_path / "runs", *SHORT, *options, subcommand=subcommand))
        return caplog.text

    return call


def refused(fit, *options, subcommand="fit"):
    with pytest.raises(SystemExit) as end:
        fit(*options, subcommand=subcommand)
    assert end.value.code == 2


def test_the_name_of_a_run_is_that_of_all_its_files():
    assert run_name(["a/digits.yaml", "b/mimic.yaml"]) == "digits+mimic"
    assert run_name([]) == "unnamed"


def test_the_newest_run_that_has_the_file_is_taken(tmp_path):
    for k, which in enumerate(("best", "last", "best")):
        folder = tmp_path / f"version_{k}" / "checkpoints"
        folder.mkdir(parents=True)
        (folder / f"{which}.ckpt").touch()
    (tmp_path / "version_3" / "checkpoints").mkdir(parents=True)
    assert newest_checkpoint(tmp_path, "best").parts[-3] == "version_2"
    assert newest_checkpoint(tmp_path, "last").parts[-3] == "version_1"
    assert newest_checkpoint(tmp_path, "best", "version_0").parts[-3] == "version_0"
    assert newest_checkpoint(tmp_path, "best", "version_1") is None


@pytest.mark.parametrize(
    ("array", "name"), [(None, "job_12"), (("7", "3"), "job_7_3")], ids=["job", "array"]
)
def test_a_job_of_a_cluster_names_its_run(array, name, monkeypatch):
    for key in ("SLURM_JOB_NAME", "SLURM_ARRAY_JOB_ID"):
        monkeypatch.delenv(key, raising=False)
    assert checked_id(None) is None
    for key, value in {"SLURM_NTASKS": "1", "SLURM_JOB_ID": "12"}.items():
        monkeypatch.setenv(key, value)
    if array:
        monkeypatch.setenv("SLURM_ARRAY_JOB_ID", array[0])
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", array[1])
    assert checked_id(None) == name
    assert checked_id("mine") == "mine"
    with pytest.raises(InputError, match="letters, digits"):
        checked_id("../mine")


def test_roots_that_are_no_folders_are_refused(tmp_path):
    (tmp_path / "file").touch()
    for root in ("", "  ", tmp_path / "file", tmp_path / "file" / "runs", "x" * 5000):
        with pytest.raises(InputError, match="default_root_dir"):
            checked_root(root)
    assert checked_root(tmp_path / "new" / "runs") == tmp_path / "new" / "runs"


def test_two_runs_that_begin_at_once_get_two_folders(tmp_path):
    loggers = [runs.RunLogger(str(tmp_path), "a", exists=False, waits=True) for _ in range(2)]
    assert {logger.version for logger in loggers} == {0}
    assert not list(tmp_path.iterdir())
    for logger in loggers:
        logger.log_hyperparams({"width": 3})
        logger.begin()
    assert [logger.version for logger in loggers] == [0, 1]
    jobs = [
        runs.RunLogger(str(tmp_path), "a", "job_5", exists=False, waits=True) for _ in range(3)
    ]
    for logger in jobs:
        logger.begin()
    assert [logger.version for logger in jobs] == ["job_5", "job_5-2", "job_5-3"]
    named = [runs.RunLogger(str(tmp_path), "a", "mine", exists=False) for _ in range(2)]
    named[0].begin()
    with pytest.raises(InputError, match="exists"):
        named[1].begin()
    runs.release_locks()


def test_a_run_below_a_relative_folder_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["msflow"])
    main(words("runs", *SHORT))
    main(words("runs", *SHORT, "--trainer.max_epochs", "3", "--allow_changes", "true",
               "--ckpt_path", "last"))  # fmt: skip
    assert read_torch(last(tmp_path / "runs"))["epoch"] == 2


def test_a_refused_run_leaves_no_folder_and_a_named_one_is_not_overwritten(fit, tmp_path):
    refused(fit, "--model.flow.shape", "[3,28,28]")
    assert not (tmp_path / "runs").exists()
    fit("--run_id", "mine")
    assert (run_folder(tmp_path / "runs").parent / "mine" / "config.yaml").is_file()
    refused(fit, "--run_id", "mine")
    fit("--run_id", "mine", "--ckpt_path", "last", "--trainer.max_epochs", "3")
    assert len(list(run_folder(tmp_path / "runs").parent.iterdir())) == 1


def test_changed_settings_are_said_warned_of_or_refused(fit, tmp_path):
    root = tmp_path / "runs"
    fit()
    kept = tmp_path / "kept"
    shutil.copytree(root, kept)
    more = ("--ckpt_path", "last", "--trainer.max_epochs", "3")
    assert "data.init_args.num_workers 0 → 1" in fit(*more, "--data.num_workers", "1")
    assert read_torch(last(root))["global_step"] == 9
    for options, word in (
        (("--trainer.logger", "false"), None),
        ((), r"trainer\.max_epochs 2 → 3"),
        (("--model.optimizer.lr", "0.5"), "lr 0.01 → 0.5"),
        (("--data.batch_size", "4"), "batch_size 8 → 4"),
        (("--trainer.accumulate_grad_batches", "3"), "accumulate_grad_batches 1 → 3"),
    ):
        shutil.rmtree(root)
        shutil.copytree(kept, root)
        if options and word:
            refused(fit, *more, *options)
        with pytest.warns(UserWarning, match=word):
            main(words(root, *SHORT, *more, *options, "--allow_changes", "true"))
    refused(fit, "--ckpt_path", "last", "--trainer.max_epochs", "1")
    with pytest.warns(UserWarning, match="go on from the checkpoint"):
        main(words(root, *SHORT, *more, "--trainer.max_epochs", "4", "--seed_everything", "3",
                   "--trainer.accumulate_grad_batches", "3"))  # fmt: skip


def test_an_allowed_change_of_the_optimiser_takes_effect(fit, tmp_path):
    root = tmp_path / "runs"
    fit()
    more = ("--ckpt_path", "last", "--allow_changes", "true")
    fit(*more, "--trainer.max_epochs", "3", "--model.optimizer.lr", "0.125")
    (state,) = read_torch(last(root))["optimizer_states"]
    assert state["param_groups"][0]["lr"] == 0.125
    assert all(s["step"] == 9 for s in state["state"].values())  # the momentum went on
    fit(*more, "--trainer.max_epochs", "4", "--model.optimizer", "torch.optim.SGD",
        "--model.optimizer.lr", "0.25", "--model.optimizer.momentum", "0.9")  # fmt: skip
    (state,) = read_torch(last(root))["optimizer_states"]
    assert state["param_groups"][0]["momentum"] == 0.9
    assert state["param_groups"][0]["lr"] == 0.25


def test_weights_alone_can_be_tested_but_not_resumed(fit, tmp_path, capfd):
    fit()
    checkpoint = read_torch(last(tmp_path / "runs"))
    for key in ("optimizer_states", "loops", "lr_schedulers"):
        del checkpoint[key]
    torch.save(checkpoint, tmp_path / "weights.ckpt")
    given = ("--ckpt_path", str(tmp_path / "weights.ckpt"))
    refused(fit, *given)
    assert "weights only" in "".join(capfd.readouterr())
    fit(*given, "--trainer.limit_test_batches", "1", subcommand="test")


def test_a_run_can_be_repeated_from_its_own_configuration(fit, tmp_path):
    fit()
    fit("--ckpt_path", "last", "--trainer.max_epochs", "3")
    kept = run_folder(tmp_path / "runs") / "config.yaml"
    assert "RunLogger" not in kept.read_text()
    before = last(tmp_path / "runs").read_bytes()
    main(["fit", "--config", str(kept)])
    assert last(tmp_path / "runs").read_bytes() == before
    assert (kept.parents[1] / "version_1" / "checkpoints" / "last.ckpt").is_file()


def test_best_begins_a_new_run_and_a_linked_run_is_found(fit, tmp_path):
    folder = run_folder(tmp_path / "runs")
    fit()
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    fit("--ckpt_path", "last", "--trainer.max_epochs", "3")
    assert [path.name for path in folder.parent.iterdir()] == ["version_0"]
    fit("--ckpt_path", "best", "--trainer.max_epochs", "4")
    assert (folder.parent / "version_1" / "checkpoints" / "last.ckpt").is_file()
