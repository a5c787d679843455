"""A checkpoint from a stranger loads or ends in one clear error, and does nothing else."""

import gc
import os
import pickle
import shutil
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

import mimic.cli
import msflow.cli
import video_ode.cli
from common.errors import InputError
from common.training import checkpoints
from common.training.checkpoints import load_weights
from common.training.cli import BestCheckpoint
from common.training.system import System
from mimic.supervised.module import SupervisedModule
from msflow.module import MultiScaleFlowModule
from tests import tiny
from tests.evil_checkpoints import evil_checkpoints
from tests.tripwires import Hang, Tripwires, wants_too_much
from video_ode.module import VideoPredictionModule
from video_ode.srvp.convert import convert, load_published

CONFIGS = {
    "msflow": tiny.FLOW + "data: {class_path: EmbeddedDigits, init_args: {batch_size: 4}}",
    "video_ode": tiny.video("srvp")
    + """
data:
  class_path: MovingDigits
  init_args:
    {n_digits: 1, canvas: 16, digit: 8, n_frames: 4, n_train: 4, n_val: 2, n_test: 2,
      batch_size: 2}""",
    "mimic": tiny.NETWORK + "data: {class_path: LabelledDigits, init_args: {batch_size: 4}}",
}
TRAINER = """
trainer:
  accelerator: cpu
  max_epochs: 1
  limit_train_batches: 2
  limit_val_batches: 1
  limit_test_batches: 1
  limit_predict_batches: 1
  num_sanity_val_steps: 0
  enable_progress_bar: false
  enable_model_summary: false
"""
MAINS = {"msflow": msflow.cli.main, "video_ode": video_ode.cli.main, "mimic": mimic.cli.main}
CLASSES = {
    "msflow": MultiScaleFlowModule,
    "video_ode": VideoPredictionModule,
    "mimic": SupervisedModule,
}
# Parts of a checkpoint that only a training which goes on reads, and parts that only it doesn't.
PROGRESS = (
    "callback",
    "random",
    "optimizer",
    "schedule",
    "loop",
    "loader",
    "lr",
    "epoch",
    "global",
)
RECORDED = ("names", "record", "hyper", "hparams")
# These fire in a loader without checks, and they show that the tripwires are real.
LIVE = """names_system names_system_walk names_torch_load_walk names_function_of_ours names_i3d
    names_class_of_a_payload names_non_ascii names_json_string names_json_string_escaped
    names_yaml_flow_escaped names_yaml_block_escaped names_leading_space names_main
    names_linear names_in_hparams names_in_module_arguments""".split()  # noqa: SIM905
QUIET = ["ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"]
pytestmark = [pytest.mark.filterwarnings(words) for words in QUIET]


def run(place, subcommand, *options):
    """The command line of a package, in process; its outputs are thrown away, or returned."""
    shutil.rmtree(place.folder / "runs", ignore_errors=True)
    common = ["--config", str(place.folder / "tiny.yaml")]
    common += ["--trainer.default_root_dir", str(place.folder / "runs")]
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()) as errors:
        try:
            MAINS[place.name]([subcommand, *common, *options])
        except SystemExit as stop:
            return stop.code, errors.getvalue()
    return 0, errors.getvalue()


@contextmanager
def inside(folder):
    """Context with a folder as the working folder and as a folder of modules."""
    before = os.getcwd()
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        os.chdir(before)
        sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """For each package a folder with a good checkpoint, evil ones and tripwires, once made."""
    made = {}

    def place(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            (folder / "tiny.yaml").write_text(CONFIGS[name] + TRAINER)
            new = SimpleNamespace(name=name, folder=folder, good=folder / "good.ckpt")
            assert run(new, "fit")[0] == 0
            shutil.copy(next((folder / "runs").rglob("last.ckpt")), new.good)
            new.wires = Tripwires(folder)
            with inside(folder):
                new.cases = evil_checkpoints(new.good, folder)
            assert not new.wires.sprung()
            made[name] = new
        made[name].wires.use()
        return made[name]

    return place


def happened(place, call):
    """What a call did that it must not do, in words; empty if it kept the law."""
    found = ""
    try:
        with inside(place.folder), place.wires.around(), redirect_stdout(StringIO()):
            code, errors = call() or (0, "")
        if code not in (0, None):
            found = (
                _unclear(errors[errors.rfind("error:") :]) if "error:" in errors else "no words"
            )
            found = found or ("" if code in (1, 2) else f"exit {code}")
            found = "Traceback" if "Traceback" in errors else found
    except InputError as error:
        found = "too much memory" if wants_too_much(error) else _unclear(str(error))
    except Hang:
        found = "hangs"
    except BaseException as error:
        found = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        found = "too much memory" if wants_too_much(error) else found
    if sprung := place.wires.sprung():
        found = f"SPRUNG {sprung} {found}"
    return found


def _unclear(message):
    """Why a message isn't clear; empty if it is."""
    if len(message.strip().splitlines()) > 5:
        return f"{len(message.splitlines())} lines of error"
    if len(message) > 3000:
        return f"{len(message)} letters of error"
    odd = sorted({c for c in message if not c.isprintable()} - {"\n"})
    return f"prints {odd}" if odd else "" if message.strip() else "no message"


def failures(place, names, call):
    """What happened, by the name of the case, where the law was broken.

    The environment variable `EVIL_REPORT` names a file to which each one is also added at once.
    """
    found = {}
    for name in names:
        what = happened(place, lambda name=name: call(place.cases[name]))
        if what:
            found[name] = what
            _note(name, what)
        gc.collect(0)
    return found


def _note(name, what):
    if report := os.environ.get("EVIL_REPORT"):
        test = os.environ["PYTEST_CURRENT_TEST"].split("::")[-1].split()[0]
        with open(report, "a") as file:
            file.write(f"{test}\t{name}\t{what}\n")


def some(cases, every, start, leave=()):
    """Names of every n-th case, and of none of the kinds left out."""
    names = [name for name in cases if not name.startswith(leave)]
    return names[start % every :: every]


def loaders(place):
    """Ways to load a file, by name, in the folder of a package."""
    model = CLASSES[place.name].load_from_checkpoint(place.good)
    target = str(place.folder / "converted.ckpt")

    def class_method(path):
        CLASSES[place.name].load_from_checkpoint(path)

    def inspect(path):
        show = getattr(checkpoints, "inspect_file", None) or checkpoints.inspect
        assert isinstance(show(path), str)

    return {
        "class": class_method,
        "System": lambda path: System.load_from_checkpoint(path) and None,
        "load_weights": lambda path: load_weights(model, path),
        "load_published": lambda path: load_published(path) and None,
        "convert": lambda path: convert(path, target),
        "inspect_file": inspect,
    }


# Way, package, and n for every n-th case by default.
WAYS = [
    *(("class", "msflow", 7), ("class", "video_ode", 7), ("class", "mimic", 3)),
    *(("System", "mimic", 8), ("load_weights", "msflow", 3), ("inspect_file", "mimic", 4)),
    *(("load_published", "video_ode", 8), ("convert", "video_ode", 20)),
]


@pytest.mark.parametrize(("way", "name", "every"), WAYS)
def test_no_way_of_loading_breaks_the_law(way, name, every, places):
    place = places(name)
    load = loaders(place)[way]
    good = place.cases["published_good"] if way in ("load_published", "convert") else place.good
    assert not happened(place, lambda: load(str(good)))
    leave = PROGRESS + (RECORDED if way in ("load_weights", "convert", "load_published") else ())
    assert not failures(place, some(place.cases, every, list(MAINS).index(name), leave), load)


@pytest.mark.slow
@pytest.mark.parametrize(("way", "name"), [(way, name) for way, name, _ in WAYS])
def test_no_way_of_loading_breaks_the_law_with_any_file(way, name, places):
    place = places(name)
    assert not failures(place, place.cases, loaders(place)[way])


SUBCOMMANDS = {
    "msflow": ("fit", "test", "predict", "validate", "sample"),
    "video_ode": ("fit", "test", "predict", "validate", "swap", "interpolate"),
    "mimic": ("fit", "test", "predict", "validate", "filters"),
}
COMMANDS = [(name, word) for name, words in SUBCOMMANDS.items() for word in words]


def command(place, subcommand):
    options = ["--trainer.max_epochs", "2"] if subcommand == "fit" else []
    if subcommand in ("sample", "swap", "interpolate", "filters"):
        options += ["--out", str(place.folder / "out.png")]
    if (place.name, subcommand) == ("video_ode", "predict"):
        options += ["--out", str(place.folder / "out"), "--n", "1", "--formats", "[png]"]
    return lambda path: run(place, subcommand, f"--ckpt_path={path}", *options)


@pytest.mark.parametrize(("name", "subcommand"), COMMANDS)
def test_no_command_breaks_the_law(name, subcommand, places):
    place, start = places(name), COMMANDS.index((name, subcommand))
    call = command(place, subcommand)
    assert not happened(place, lambda: call(place.good))
    fit = subcommand == "fit"
    leave = RECORDED if fit else RECORDED + PROGRESS
    every = {"fit": 30 if name == "mimic" else 100, "test": 80, "predict": 80}
    names = some(place.cases, every.get(subcommand, 160), 7 * start, leave)
    assert not failures(place, names, call)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "subcommand"), COMMANDS)
def test_no_command_breaks_the_law_with_any_file(name, subcommand, places):
    place = places(name)
    core = subcommand in ("fit", "test", "predict")
    leave = () if subcommand == "fit" else PROGRESS
    names = some(place.cases, 1 if core else 6, 0, leave)
    assert not failures(place, names, command(place, subcommand))


def fired(place, call):
    """What the tripwires say about a call, whatever its outcome."""
    return "SPRUNG" in happened(place, call)


def test_the_payloads_in_pickles_are_live(places, monkeypatch):
    place = places("mimic")
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    names = [
        n for n in place.cases if n.startswith("pickle_") and not n.startswith("pickle_numpy")
    ]
    names += ["published_pickle"]

    def naive(name):
        content = Path(place.cases[name]).read_bytes()
        if content[:2] != b"PK" and "legacy" not in name and "tar" not in name:
            pickle.loads(content)
        elif name == "pickle_torchscript":
            torch.jit.load(place.cases[name])
        else:
            torch.load(place.cases[name], weights_only=False)

    dead = [name for name in names if not fired(place, lambda n=name: naive(n))]
    assert dead == []


def test_the_named_payloads_are_live(places, monkeypatch):
    place = places("mimic")
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)

    def naive(path):  # the loader of Lightning
        LightningModule.load_from_checkpoint.__func__(SupervisedModule, path, weights_only=True)

    dead = [name for name in LIVE if not fired(place, lambda n=name: naive(place.cases[n]))]
    assert dead == []


def test_the_records_of_files_are_live(places, monkeypatch):
    place = places("mimic")
    if hasattr(checkpoints, "CheckpointFiles"):
        remove = TorchCheckpointIO.remove_checkpoint
        monkeypatch.setattr(checkpoints.CheckpointFiles, "remove_checkpoint", remove)
    naive = ModelCheckpoint.load_state_dict
    for kind in BestCheckpoint.__mro__[: BestCheckpoint.__mro__.index(ModelCheckpoint)]:
        monkeypatch.setattr(kind, "load_state_dict", naive)
    call = command(place, "fit")
    assert fired(place, lambda: call(place.cases["callbacks_victim_parents"]))
