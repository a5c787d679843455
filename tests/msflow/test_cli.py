"""The real command line, in process, on a small flow and few real digits."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from common.errors import InputError
from common.training.checkpoints import export
from msflow.cli import main
from msflow.module import MultiScaleFlowModule
from tests.common.data.mixed_images import write_mixed
from tests.tiny import FLOW

CONFIG = (
    FLOW
    + """
data: {class_path: EmbeddedDigits, init_args: {batch_size: 16}}
trainer:
  max_epochs: 2
  limit_train_batches: 6
  limit_val_batches: 1
  limit_test_batches: 1
  limit_predict_batches: 1
  num_sanity_val_steps: 0
  enable_progress_bar: false
  log_every_n_steps: 1
  callbacks:
    - {class_path: common.training.callbacks.sample_grid.SampleGrid, init_args: {n: 4}}
    - {class_path: pytorch_lightning.callbacks.EMAWeightAveraging, init_args: {decay: 0.5}}
"""
)

OWN = "ImageFolder, init_args: {size: 28, channels: 1, strict: false, "


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG)
    return path


def command(config, subcommand, *options):
    root = config.parent / "runs"
    return [subcommand, "--config", str(config), "--trainer.default_root_dir", str(root), *options]


def call(config, subcommand, *options):
    main(command(config, subcommand, *options))


def version(config, k=0):
    return config.parent / "runs" / "msflow" / "tiny" / f"version_{k}"


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.fixture
def trained(config):
    call(config, "fit")
    return config


def test_fit_leaves_checkpoints_samples_and_logs_and_the_rest_uses_them(config, capfd):
    call(config, "fit")
    folder = version(config)
    assert f"samples: {folder / 'samples.png'}" in capfd.readouterr().out
    names = {path.name for path in (folder / "checkpoints").glob("*.ckpt*")}
    assert names == {
        f"{which}.ckpt{kept}" for which in ("best", "last") for kept in ("", ".previous")
    }
    events = EventAccumulator(str(folder))
    events.Reload()
    scalars = set(events.Tags()["scalars"])
    assert {"val/bpd", "val/bpd_pixel", *(f"val/bpd_scale_{s}" for s in range(3))} <= scalars
    assert {"val/nfe_forward/flow.scales.2.blocks.0", "train/skipped_steps"} <= scalars
    assert "samples" in events.Tags()["images"]
    parts = [
        events.Scalars(f"val/bpd_{name}")[0].value
        for name in ("pixel", "scale_0", "scale_1", "scale_2")
    ]
    assert sum(parts) == pytest.approx(events.Scalars("val/bpd")[0].value, abs=1e-4)
    assert events.Scalars("val/nfe_forward/flow.scales.2.blocks.0")[0].value == 8

    call(config, "validate", "--ckpt_path", "best")
    call(config, "test", "--ckpt_path", "last")
    table = capfd.readouterr().out
    for words in (
        "bpd, uniform dequantization (rk4, step 0.5, trace by Hutchinson, mean of 3 draws)",
        "midpoint",
        "PNG",
        "lossless WebP, one file of all",
    ):
        assert words in table
    call(config, "predict", "--ckpt_path", str(folder / "checkpoints" / "best.ckpt"))
    out = capfd.readouterr().out
    path = Path(out[out.index("predictions: ") :].split()[1])
    rows = path.read_text().split()
    assert rows[0] == "index,bpd"
    assert len(rows) == 1 + 16
    picture = config.parent / "grid.png"
    call(config, "sample", "--ckpt_path", "best", "--n", "3", "--out", str(picture))
    assert f"samples: {picture}" in capfd.readouterr().out
    before = picture.read_bytes()
    with pytest.raises(SystemExit):
        call(config, "sample", "--ckpt_path", "best", "--n", "3", "--out", str(picture))
    assert "grid.png exists; give another file" in capfd.readouterr().err
    assert picture.read_bytes() == before
    for end in ("", "-2"):
        call(config, "sample", "--ckpt_path", "best", "--n", "3", "--temperature", "0.5")
        path = folder / f"samples_temperature0.5{end}.png"
        assert f"samples: {path}" in capfd.readouterr().out


def table(out):
    """Rows of the table whose path a command printed."""
    path = re.search(r"predictions: (.*)", out)[1]
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.reader(file))


def test_a_folder_of_mixed_images_is_trained_sampled_and_scored(config, capfd):
    """Three commands and one configuration; every whole image gets a score under its name."""
    names = write_mixed(config.parent / "own", 300, broken=9)
    lines = CONFIG.replace("EmbeddedDigits, init_args: {", OWN).replace("limit_predict", "limit_x")
    config.write_text("\n".join(x for x in lines.splitlines() if "limit_x" not in x))
    root = ["--data.root", str(config.parent / "own")]
    call(config, "fit", *root)
    picture = config.parent / "grid.png"
    call(config, "sample", *root, "--ckpt_path", "best", "--n", "3", "--out", str(picture))
    assert picture.is_file()
    capfd.readouterr()
    call(config, "predict", *root, "--ckpt_path", "best", "--model.n_draws", "1")
    head, *rows = table(capfd.readouterr().out)
    assert head == ["name", "bpd"]
    assert [name for name, _ in rows] == names
    assert all(0 < float(bits) < 40 for _, bits in rows)


def test_the_table_has_the_number_of_each_image_beside_its_name(trained, capfd, monkeypatch):
    greys = {"b.png": 9, "a/c, d.png": 200, 'a/"e".png': 3, os.fsdecode(b"\xff.png"): 77}
    for name, grey in greys.items():
        path = trained.parent / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (5, 7), grey).save(path)
    mean = lambda self, pixels, batch_idx: pixels.float().mean((1, 2, 3))
    monkeypatch.setattr(MultiScaleFlowModule, "predict_step", mean)
    data = ["--data", "ImageFolder", "--data.size", "28", "--data.channels", "1"]
    root = ["--data.root", str(trained.parent / "own"), "--data.batch_size", "3"]
    options = [*data, *root, "--trainer.limit_predict_batches", "2", "--ckpt_path", "best"]
    call(trained, "predict", *options)
    assert {name: float(x) for name, x in table(capfd.readouterr().out)[1:]} == greys


def test_a_killed_run_continues_as_if_it_had_not_been(config):
    options = ["--last.every_n_train_steps", "4", "--trainer.max_epochs", "3"]
    call(config, "fit", *options)
    process = subprocess.Popen(
        [sys.executable, "-m", "msflow.cli", *command(config, "fit", *options)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    last = version(config, 1) / "checkpoints" / "last.ckpt"
    deadline = time.time() + 120
    while not last.exists():
        assert process.poll() is None or last.exists()
        assert time.time() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = torch.load(last, weights_only=True)["global_step"]
    assert done < 18
    call(config, "fit", *options, "--ckpt_path", "last")
    assert not version(config, 2).exists()  # it went on in the same folder
    whole, resumed = (weights(version(config, k) / "checkpoints" / "last.ckpt") for k in (0, 1))
    for name in whole:
        assert torch.equal(whole[name], resumed[name]), name


def test_two_processes_train_together(config):
    options = ["--trainer.devices", "2", "--trainer.accelerator", "cpu"]
    subprocess.run(
        [sys.executable, "-m", "msflow.cli", *command(config, "fit", *options)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert (version(config) / "samples.png").is_file()
    assert (version(config) / "checkpoints" / "best.ckpt").is_file()


def test_a_run_ends_its_communication(config):
    call(config, "fit", "--trainer.devices", "1", "--trainer.strategy", "ddp")
    assert not torch.distributed.is_initialized()


def test_a_checkpoint_alone_rebuilds_the_model_even_after_it_was_saved_again(trained, tmp_path):
    import pytorch_lightning as pl

    path = version(trained) / "checkpoints" / "best.ckpt"
    pixels = torch.randint(0, 256, (4, 1, 28, 28), dtype=torch.uint8)

    def bits(model):
        torch.manual_seed(0)
        with torch.no_grad():
            return model.eval()(pixels)

    first = MultiScaleFlowModule.load_from_checkpoint(path)
    assert first.flow.pyramid.n_scales == 3
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, max_epochs=0)
    trainer.strategy.connect(first)
    trainer.save_checkpoint(tmp_path / "again.ckpt")
    second = MultiScaleFlowModule.load_from_checkpoint(tmp_path / "again.ckpt")
    assert torch.equal(bits(first), bits(second))


def test_checkpoints_neither_override_the_command_line_nor_import(trained, tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')")
    monkeypatch.syspath_prepend(tmp_path)
    path = version(trained) / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    record = checkpoint["hyper_parameters"]
    record["n_draws"] = 7
    record["objective"]["class_path"] = "evil.Objective"
    torch.save(checkpoint, tmp_path / "evil.ckpt")
    seen = []
    monkeypatch.setattr(
        MultiScaleFlowModule,
        "on_predict_start",
        lambda self: seen.append(self.n_draws),
        raising=False,
    )
    call(trained, "predict", "--model.n_draws", "2", "--ckpt_path", str(tmp_path / "evil.ckpt"))
    assert seen == [2]
    for value in ({"class_path": "evil.F"}, "evil.F", '{"class_path": "evil.F"}', ["evil.F"]):
        record["objective"] = value
        torch.save(checkpoint, tmp_path / "evil.ckpt")
        with pytest.raises(
            InputError, match=r"names 'evil\.F', which loading would import|may stand for more"
        ):
            MultiScaleFlowModule.load_from_checkpoint(tmp_path / "evil.ckpt")
    assert "evil" not in sys.modules


def test_coarse_to_fine_trains_one_scale_at_a_time(config):
    call(config, "fit", "--trainer.max_epochs", "0")
    call(
        config,
        "fit",
        "--model.epochs_per_scale",
        "[1,1,1]",
        "--trainer.max_epochs",
        "2",
        "--trainer.callbacks",
        "null",
    )
    after = weights(version(config, 1) / "checkpoints" / "last.ckpt")
    heads = [float(after[f"flow.scales.{s}.blocks.0.field.head.weight"].norm()) for s in range(3)]
    assert heads[0] > 0  # heads start at zero
    assert heads[1] > 0
    assert heads[2] == 0


def test_a_laplacian_run_logs_pyramid_bpd_and_never_bpd(config, capfd):
    laplacian = [
        "--model.flow.pixel_map.bits",
        "4",
        "--model.flow.pyramid",
        "common.flows.pyramid.LaplacianPyramid",
        "--model.flow.pyramid.sizes",
        "[3,13,28]",
    ]
    call(
        config,
        "fit",
        *laplacian,
        "--best.monitor",
        "val/pyramid_bpd",
        "--model.objective",
        "msflow.objectives.Likelihood",
        "--trainer.max_epochs",
        "1",
        "--trainer.limit_train_batches",
        "2",
    )
    events = EventAccumulator(str(version(config)))
    events.Reload()
    scalars = set(events.Tags()["scalars"])
    assert {"train/pyramid_bpd", "val/pyramid_bpd"} <= scalars
    capfd.readouterr()
    call(config, "test", "--ckpt_path", "best", *laplacian)
    call(config, "predict", "--ckpt_path", "best", *laplacian)
    out = capfd.readouterr().out
    assert "pyramid_bpd, uniform dequantization" in out
    assert "midpoint" not in out
    assert 1 < float(re.search(r"([\d.]+)  PNG", out)[1]) < 2.5  # files of the same images: 4 bits
    path = Path(out[out.index("predictions: ") :].split()[1])
    assert path.read_text().split()[0] == "index,pyramid_bpd"
    assert not any(tag.endswith("/bpd") for tag in scalars)


ERRORS = {
    "unknown option": (["--model.n_drawss", "3"], "'?n_drawss'?"),
    "unknown option of a class": (
        ["--model.flow.solver.methd", "rk4"], "methd"),
    "unknown solver": (["--model.flow.solver.method", "rk5"], "rk5"),
    "size": (
        ["--model.flow.pyramid.n_scales", "5"],
        "28 × 28 pixels can't be halved 4 times: lower the pyramid's n_scales"),
    "channels": (
        ["--model.flow.shape", "[3,28,28]"],
        "images are 1 × 28 × 28 but the flow was configured for 3 × 28 × 28"),
    "data root": (
        ["--data", "MNIST", "--data.root", "/nowhere/mnist"], "/nowhere/mnist"),
    "checkpoint file": (
        ["--ckpt_path", "/nowhere/x.ckpt"], "there is no file /nowhere/x.ckpt"),
    "monitor": (
        ["--model.flow.pyramid", "common.flows.pyramid.LaplacianPyramid",
         "--model.flow.pyramid.sizes", "[7,28]"], "set --best.monitor val/pyramid_bpd"),
    "steer": (["--model.objective", "msflow.objectives.Likelihood",
               "--model.objective.steer", "2"], "got steer 2"),
    "scales": (["--model.epochs_per_scale", "[1]"], "1 entries, but the flow has 3 scales"),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_mistakes_end_with_one_clear_message(config, case, capfd):
    options, message = ERRORS[case]
    with pytest.raises(SystemExit) as exit:
        call(config, "fit", *options)
    assert exit.value.code == 2
    error = capfd.readouterr().err

    assert re.search(message, error.replace("\n", " ")), error
    assert "Traceback" not in error
    assert len(error[error.index("error:") :].splitlines()) <= 12


def test_fit_without_a_config_names_those_that_ship(capfd):
    with pytest.raises(SystemExit):
        main(["fit"])
    error = capfd.readouterr().err
    for name in ("digits", "photos", "cifar10"):
        assert f"{name}.yaml" in error


@pytest.mark.parametrize(("subcommand", "path"), [("test", None), ("sample", "best")])
def test_what_needs_a_checkpoint_says_so(config, subcommand, path, capfd):
    with pytest.raises(SystemExit):
        call(config, subcommand, *(["--ckpt_path", path] if path else []))
    error = capfd.readouterr().err
    assert ("needs --ckpt_path" if path is None else "no best.ckpt in the runs of") in error


@pytest.mark.parametrize("subcommand", ["fit", "test", "sample"])
def test_a_checkpoint_of_another_model_is_refused(trained, subcommand, capfd):
    with pytest.raises(SystemExit):
        call(trained, subcommand, "--model.flow.field.width", "6", "--ckpt_path", "last")
    error = capfd.readouterr().err
    assert "the checkpoint is of another model" in error
    assert "weights differ, the first is flow.scales.0.blocks.0.field." in error


def test_the_path_of_a_checkpoint_is_enough(config, tmp_path, monkeypatch, capsys):
    call(config, "fit", "--trainer.max_epochs", "1")
    best = version(config) / "checkpoints" / "best.ckpt"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    main(["sample", "--ckpt_path", str(best), "--n", "4", "--out", "grid.png"])
    assert (tmp_path / "elsewhere" / "grid.png").is_file()
    main(["predict", f"--ckpt_path={best}"])
    assert (version(config) / "predictions.csv").is_file()
    assert not (tmp_path / "elsewhere" / "lightning_logs").exists()
    assert not (version(config).parent / "version_1").exists()
    export(str(best), "model.safetensors")
    call(config, "test", "--ckpt_path", "model.safetensors")
    assert "uniform dequantization" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["sample", "--ckpt_path", "model.safetensors"])
    assert "sample needs --config FILE" in capsys.readouterr().err  # its own isn't a shipped one
