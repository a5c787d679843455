"""What a run writes on a terminal and into logs, beside its results."""

import io
from functools import partial
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelSummary, RichModelSummary, RichProgressBar
from rich.console import Console
from torch import nn

from common import progress
from common.training.callbacks import progress as callbacks
from common.training.callbacks.display import display
from common.training.callbacks.parts_table import PartsTable, parts_table
from common.training.callbacks.progress import ProgressLines, TerminalBar
from common.training.system import AutomaticSystem
from tests.common.training.games import Numbers

SETTINGS = {
    "callbacks": None,
    "enable_progress_bar": None,
    "enable_model_summary": None,
    "barebones": False,
}


class Line(AutomaticSystem):
    """A line through zero; a step takes a second, a validation half a minute."""

    def __init__(self, clock):
        super().__init__(partial(torch.optim.SGD, lr=0.1), None)
        self.weight, self.clock = nn.Parameter(torch.ones(3)), clock

    def training_step(self, batch, batch_idx):
        self.clock[0] += 1
        loss = (batch @ self.weight).square().mean()
        self.log("train/loss", loss.detach() * 0 + 0.5, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.clock[0] += 30
        self.log("val/bpd", 2.0)
        self.log("val/other", 3.0)


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: now[0])
    yield now
    progress.reset()


def fit(clock, callback, folder=None, ckpt_path=None, **options):
    best = pl.callbacks.ModelCheckpoint(folder, "best", "val/bpd")
    last = pl.callbacks.ModelCheckpoint(folder, "last", every_n_epochs=1)
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=folder is not None,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[callback, *([best, last] if folder else [])],
        **options,
    )
    trainer.fit(Line(clock), Numbers(100), ckpt_path=ckpt_path)
    return trainer


def test_lines_a_minute_and_one_at_the_end_of_a_validation(clock, capsys, tmp_path):
    fit(clock, ProgressLines(), tmp_path, max_epochs=2, limit_val_batches=1)
    lines = capsys.readouterr().err.splitlines()
    lines = [line for line in lines if line.startswith("step")]
    assert [line.split(",")[0] for line in lines] == ["step 11", "step 50", "step 100"]
    assert lines[0] == "step 11, epoch 1/2, train/loss 0.5, 1 steps/s, 0:01:29 left"
    assert lines[2] == "step 100, epoch 2/2, train/loss 0.5, val/bpd 2, 1 steps/s, 0:00:00 left"
    # The time left counts validations; the speed doesn't.
    assert lines[1] == "step 50, epoch 1/2, train/loss 0.5, val/bpd 2, 1 steps/s, 0:01:20 left"


def test_lines_go_on_after_a_resume(clock, capsys, tmp_path):
    fit(clock, ProgressLines(), tmp_path, max_epochs=1, limit_val_batches=1)
    capsys.readouterr()
    last = tmp_path / "last.ckpt"
    fit(clock, ProgressLines(), tmp_path, last, max_epochs=2, limit_val_batches=1)
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("step")]
    assert lines[0] == "step 61, epoch 2/2, train/loss 0.5, 1 steps/s, 0:00:39 left"


def test_evaluations_tell_how_far_they_are(clock, capsys):
    trainer = pl.Trainer(accelerator="cpu", logger=False, callbacks=[ProgressLines()])
    trainer.validate(Line(clock), Numbers(8), verbose=False)
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("val")]
    assert lines == ["val batches: 2/4, 0.0333/s, 0:01:00 left"]


def test_the_bar_is_that_of_the_whole_training(clock, monkeypatch):
    console = Console(file=io.StringIO(), force_terminal=True, width=90, _environ={})
    name = "pytorch_lightning.callbacks.progress.rich_progress"
    monkeypatch.setattr(f"{name}.get_console", lambda: console)
    monkeypatch.setattr(f"{name}.reconfigure", lambda **_: None)
    bar = TerminalBar()
    fit(clock, bar, max_epochs=2, limit_val_batches=1, limit_train_batches=5)
    shown = console.file.getvalue()
    assert "Epoch 2/2" in shown
    assert "10/10" in shown
    assert "train/loss: 0.5" in shown
    assert "v_num" not in shown


def test_the_display_is_chosen_and_can_be_left_out(monkeypatch):
    settings = SimpleNamespace(**SETTINGS)
    assert [type(c) for c in display(settings)] == [ProgressLines, PartsTable]
    monkeypatch.setattr(progress, "on_terminal", lambda: True)
    assert [type(c) for c in display(settings)] == [TerminalBar, PartsTable]
    own = [RichProgressBar(), RichModelSummary()]
    assert display(SimpleNamespace(**{**SETTINGS, "callbacks": own})) == own
    off = {**SETTINGS, "enable_progress_bar": False, "enable_model_summary": False}
    assert display(SimpleNamespace(**off)) == []
    assert list(progress.Progress("ab", "x")) == ["a", "b"]
    assert not progress._State.shown
    progress.reset()


def test_table_of_the_parts_of_a_model():
    inside = nn.ModuleDict({"encoder": nn.Linear(9, 10), "decoder": nn.Linear(10, 9)})
    inside.requires_grad_(False)
    model = nn.ModuleDict({"flow": nn.Sequential(inside)})
    rows = [row.split() for row in parts_table(model).splitlines()[1:]]
    assert rows[:2] == [["flow.0.encoder", "Linear", "100"], ["flow.0.decoder", "Linear", "99"]]
    assert rows[2] == ["199", "weights,", "199", "of", "them", "not", "trained"]
    model.own = nn.Parameter(torch.zeros(1000))
    assert parts_table(model).splitlines()[3].split() == ["other", "weights", "1,000"]
    assert "FLOP" not in parts_table(model)
    assert issubclass(PartsTable, ModelSummary)  # so that Lightning adds none
