"""The real command line, in process, on a small network and few real digits."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mimic.cli import main
from mimic.supervised.data.labelled import LabelledDigits
from mimic.supervised.module import SupervisedModule
from mimic.supervised.pictures import filter_grid

NETWORKS = {
    "digits": "{class_path: SmallCNN, init_args: {widths: [4, 4], hidden: 8}}",
    "linear": "{class_path: torch.nn.Identity}",
    "sprites": "{class_path: Coder, init_args: {n_out: 5, n_codes: 6, widths: [4, 4], hidden: 8}}",
}
TASKS = {
    "digits": "{class_path: Classification}",
    "linear": "{class_path: Classification}",
    "sprites": "{class_path: FactorRegression, init_args: {factor_sizes: [3, 4, 12, 16, 16]}}",
}
DATA = {
    "digits": "{class_path: LabelledDigits, init_args: {batch_size: 32}}",
    "linear": "{class_path: LabelledDigits, init_args: {batch_size: 32}}",
    "sprites": "{class_path: RenderedSprites, init_args: {n_train: 64, n_val: 32, n_test: 32}}",
}
CONFIG = """
model:
  class_path: mimic.supervised.module.SupervisedModule
  init_args:
    network: {network}
    task: {task}
    optimizer: {{class_path: torch.optim.Adam, init_args: {{lr: 0.01}}}}
data: {data}
trainer:
  accelerator: cpu
  max_epochs: 2
  limit_train_batches: 20
  limit_val_batches: 2
  limit_predict_batches: 2
  num_sanity_val_steps: 0
  enable_progress_bar: false
  enable_model_summary: false
  log_every_n_steps: 1
"""


@pytest.fixture
def config(request, tmp_path):
    name = getattr(request, "param", "digits")
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG.format(network=NETWORKS[name], task=TASKS[name], data=DATA[name]))
    return path


def call(config, subcommand, *options):
    root = config.parent / "runs"
    given = ["--config", str(config), "--trainer.default_root_dir", str(root)]
    main([subcommand, *given, *options])


def version(config):
    return config.parent / "runs" / "mimic" / "tiny" / "version_0"


def test_a_trained_network_is_judged_asked_and_shown(config, capsys):
    call(config, "fit")
    events = EventAccumulator(str(version(config)))
    events.Reload()
    scalars = set(events.Tags()["scalars"])
    assert {"train/loss", "val/loss", "val/accuracy", "val/ece"} <= scalars
    losses = [event.value for event in events.Scalars("val/loss")]
    best = version(config) / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(best, weights_only=True)
    (kept,) = [c for key, c in checkpoint["callbacks"].items() if "val/loss" in key]
    assert float(kept["best_model_score"]) == pytest.approx(min(losses))

    module = SupervisedModule.load_from_checkpoint(best).eval()
    for name, value in module.state_dict().items():
        assert torch.equal(value, checkpoint["state_dict"][name]), name

    call(config, "test", "--ckpt_path", "best")
    call(config, "predict", "--ckpt_path", "best")
    rows = list(csv.DictReader((version(config) / "predictions.csv").open()))
    images = LabelledDigits().images("test")[:64]
    with torch.no_grad():
        expected = module(images).argmax(1).tolist()
    assert [int(row["answer"]) for row in rows] == expected

    capsys.readouterr()
    call(config, "filters", "--ckpt_path", "best", "--zoom", "4")
    path = version(config) / "filters.png"
    assert f"filters: {path}" in capsys.readouterr().out
    call(config, "filters", "--ckpt_path", "best", "--zoom", "4")
    assert f"filters: {path.with_name('filters-2.png')}" in capsys.readouterr().out
    shown = torch.from_numpy(np.array(Image.open(path)))
    assert torch.equal(shown, filter_grid(module.network.conv1.conv.weight, zoom=4)[0])


@pytest.mark.parametrize("config", ["sprites"], indirect=True)
def test_answers_of_several_numbers_are_an_array(config, capsys):
    call(config, "fit", "--trainer.fast_dev_run", "true")
    call(config, "fit")
    call(config, "predict", "--ckpt_path", "last")
    with np.load(version(config) / "predictions.npz") as arrays:
        assert arrays["answer"].shape == (32, 5)
        assert arrays["index"].tolist() == list(range(32))
    call(config, "filters", "--ckpt_path", "last", "--out", str(config.parent / "f.png"))
    assert f"filters: {config.parent / 'f.png'}" in capsys.readouterr().out
    assert (config.parent / "f.png").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.network.n_out", "9"], "network of 9 outputs, Classification needs 10"),
        (["--model.network.shape", "[3, 28, 28]"], "images are 1 × 28 × 28 but the network"),
        (["--data", "RenderedSprites"], "1 × 32 × 32 but the network was configured for 1 × 28"),
        (["--data", "EmbeddedDigits"], "EmbeddedDigits has no labels"),
        (["--model.network.widths", "[2, 2, 2, 2, 2]"], "5 halvings leave nothing"),
        (["--model.task.label_smoothing", "2.0"], "label_smoothing 2"),
        (["--data.batch_size", "0"], "batch_size 0"),
    ],
)
def test_mistakes_end_with_one_message(config, options, message, capsys):
    with pytest.raises(SystemExit) as stop:
        call(config, "fit", *options)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("config", ["sprites"], indirect=True)
def test_a_task_for_other_factors_is_refused(config, capsys):
    with pytest.raises(SystemExit):
        call(config, "fit", "--data.n_scales", "5")
    assert "labels have (3, 5, 12, 16, 16) classes but the task" in capsys.readouterr().err


def test_filters_need_a_checkpoint_of_this_network(config, capsys):
    with pytest.raises(SystemExit):
        call(config, "filters")
    assert "filters needs --ckpt_path" in capsys.readouterr().err
    call(config, "fit", "--trainer.limit_train_batches", "1")
    with pytest.raises(SystemExit):
        call(config, "filters", "--ckpt_path", "last", "--model.network.widths", "[4, 5]")
    assert "the checkpoint is of another model" in capsys.readouterr().err
