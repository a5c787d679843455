"""Progress of training and evaluation: bars on a terminal, plain lines in pipes and logs."""

import math
import time
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ProgressBar, RichProgressBar
from pytorch_lightning.callbacks.progress.rich_progress import (
    BatchesProcessedColumn,
    CustomBarColumn,
    ProcessingSpeedColumn,
    RichProgressBarTheme,
)
from rich.progress import Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from common import progress
from common.training.system import System

SOON = 10.0  # seconds before the first line, and between other lines and one about a validation


def make_progress() -> ProgressBar:
    """Callback that shows the progress in the way that suits the standard output."""
    return TerminalBar() if progress.on_terminal() else ProgressLines()


class _Training:
    """Progress of a training since it began, or was resumed."""

    def __init__(self, trainer: Trainer, system: LightningModule) -> None:
        self.trainer = trainer
        total = system.total_batches if isinstance(system, System) else math.inf
        self.total = total if math.isinf(total) else math.ceil(total)
        self._begin, self._first = time.monotonic(), self.done

    @property
    def done(self) -> int:
        """Number of batches that are done, also those before a resume."""
        return self.trainer.fit_loop.total_batch_idx + 1

    @property
    def left(self) -> str:
        """Time left as text; empty if it isn't known."""
        done = self.done - self._first
        if done < 1 or self.total == math.inf:
            return ""
        return progress.left((time.monotonic() - self._begin) / done * (self.total - self.done))

    @property
    def epoch(self) -> str:
        """Number of the epoch, from 1, such as `3/28`."""
        begun, last = self.trainer.fit_loop.epoch_progress.current.ready, self.trainer.max_epochs
        return f"{begun}/{last}" if last and last > 0 else str(begun)

    def metrics(self) -> dict[str, float]:
        """Numbers logged for the bar, and those that choose checkpoints."""
        known: dict[str, Any] = dict(self.trainer.progress_bar_metrics)
        every = self.trainer.callback_metrics
        chosen = [getattr(c, "monitor", None) for c in self.trainer.checkpoint_callbacks]
        known |= {name: every[name] for name in chosen if name in every}
        return {name: float(value) for name, value in known.items()}


class TerminalBar(RichProgressBar):
    """Bar of the whole training, or of an evaluation, on a terminal."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=10, theme=RichProgressBarTheme(metrics_format=".4g"))
        self._training: _Training | None = None
        self._redrawn = 0.0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        progress.show(trainer.is_global_zero)

    @property
    def total_train_batches(self) -> int | float:
        return self._training.total if self._training else super().total_train_batches

    def configure_columns(self, trainer: Trainer) -> list[Any]:
        colour, done = self.theme.progress_bar, self.theme.progress_bar_finished
        width = max(6, min(20, self._console.width - 78 if self._console else 20))
        bar = CustomBarColumn(width, complete_style=colour, finished_style=done)
        numbers = (BatchesProcessedColumn(""), ProcessingSpeedColumn("dim"), _Left(self))
        return [TextColumn("{task.description}"), bar, *numbers]

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        return dict(self._training.metrics()) if self._training else {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._training = _Training(trainer, pl_module)
        super().on_train_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.is_disabled and self.train_progress_bar_id is None:
            self._initialize_train_progress_bar_id()
        self._show(trainer)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        # Seldom, because reading the metrics makes a GPU wait.
        if not self.is_disabled and time.monotonic() - self._redrawn > progress.REDRAWN:
            self._redrawn = time.monotonic()
            self._show(trainer)
            self._update_metrics(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show(trainer)
        super().on_train_epoch_end(trainer, pl_module)

    def _show(self, trainer: Trainer) -> None:
        bar, training = self.train_progress_bar_id, self._training
        if self.progress is None or bar is None or training is None:
            return
        text = f"Epoch {training.epoch}"
        self.progress.update(bar, completed=training.done, description=text)
        self.refresh()


class _Left(TimeRemainingColumn):
    """Column of the time left; that of a training counts the validations to come."""

    def __init__(self, bar: TerminalBar) -> None:
        super().__init__()
        self._bar = bar

    def render(self, task: Task) -> Text:
        training = self._bar._training
        whole = training and task.id == self._bar.train_progress_bar_id
        return Text(training.left) if training and whole else super().render(task)


class ProgressLines(ProgressBar):
    """Plain lines on standard error: one a minute, and one at the end of a validation.

    In training they say step, epoch, loss, metric, steps a second and time left. The first line
    comes after ten seconds, and no line follows another one within ten seconds but the last.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._training: _Training | None = None
        self._evaluation: progress.Lines | None = None
        self._told, self._step, self._pause = 0.0, 0, SOON
        self._validating, self._validated = 0.0, 0.0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        progress.show(trainer.is_global_zero)

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._training = _Training(trainer, pl_module)
        self._told, self._step, self._pause = time.monotonic(), trainer.global_step, SOON
        self._validated = 0.0

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if time.monotonic() - self._told > self._pause:
            self._tell(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validating = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validated += time.monotonic() - self._validating
        training = trainer.state.fn == "fit" and not trainer.sanity_checking
        if training and time.monotonic() - self._told > SOON:
            self._tell(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._tell(trainer)

    def on_validation_batch_start(self, *batch: Any) -> None:
        self._evaluate("val", *batch)

    def on_test_batch_start(self, *batch: Any) -> None:
        self._evaluate("test", *batch)

    def on_predict_batch_start(self, *batch: Any) -> None:
        self._evaluate("predict", *batch)

    def _evaluate(
        self,
        stage: str,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not self._enabled:
            return
        if self.has_dataloader_changed(dataloader_idx) or self._evaluation is None:
            total = getattr(self, f"total_{stage}_batches_current_dataloader")
            self._evaluation = progress.Lines(f"{stage} batches", total)
        if batch_idx:
            self._evaluation.at(batch_idx)

    def _tell(self, trainer: Trainer) -> None:
        """Writes a line about the training."""
        if not self._enabled or self._training is None or trainer.global_step == self._step:
            return
        seconds = time.monotonic() - self._told - self._validated
        speed, self._validated = (trainer.global_step - self._step) / max(seconds, 1e-9), 0.0
        self._told, self._step, self._pause = time.monotonic(), trainer.global_step, progress.PAUSE
        parts = [f"step {trainer.global_step}", f"epoch {self._training.epoch}"]
        parts += [f"{name} {value:.4g}" for name, value in self._training.metrics().items()]
        parts += [f"{speed:.3g} steps/s", self._training.left]
        progress.write_line(", ".join(part for part in parts if part))
