"""Callbacks that show a run on the terminal, in place of Lightning's own."""

from typing import Any

from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ModelSummary, ProgressBar

from common import progress
from common.training.callbacks.parts_table import PartsTable
from common.training.callbacks.progress import make_progress


def display(trainer: Any) -> list[Callback]:
    """Callbacks of the configuration, and those that show progress and model, if wanted.

    Args:
        trainer: Settings of the trainer, with instances of the callbacks.
    """
    given = trainer.callbacks or []
    callbacks = list(given) if isinstance(given, list | tuple) else [given]
    wants_bar = trainer.enable_progress_bar is not False and not trainer.barebones
    wants_table = trainer.enable_model_summary is not False and not trainer.barebones
    progress.show(wants_bar)
    if wants_bar and not any(isinstance(c, ProgressBar) for c in callbacks):
        callbacks.append(make_progress())
    if wants_table and not any(isinstance(c, ModelSummary) for c in callbacks):
        callbacks.append(PartsTable())
    return callbacks
