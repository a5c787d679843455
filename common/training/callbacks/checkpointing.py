"""Callbacks that keep `best.ckpt` and `last.ckpt`."""

import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from common import signals
from common.errors import InputError, check_counts


class _Checkpoint(ModelCheckpoint):
    """Checkpoint callback that finds the files of its record by name in its own folder.

    So a run can be moved, and a record can't name files elsewhere, which Lightning would delete.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def own(path: str) -> str:
            file = Path(self.dirpath or "") / Path(path).name
            return str(file) if path and file.is_file() else ""

        best = {own(path): score for path, score in state_dict["best_k_models"].items()}
        names = ("best_model_path", "kth_best_model_path", "last_model_path")
        paths = {name: own(state_dict[name]) for name in names}
        best.pop("", None)
        super().load_state_dict(
            {**state_dict, **paths, "best_k_models": best, "dirpath": self.dirpath}
        )


class BestCheckpoint(_Checkpoint):
    """Callback that keeps `best.ckpt`, the checkpoint with the best value of a logged number.

    It logs the best value so far, for example `best/bpd` for `val/bpd`.

    Args:
        monitor: Log key of the number, which validation must log.
        mode: `min` if small values are better, `max` if large values are better.

    Raises:
        InputError: The first validation does not log such a number.
    """

    def __init__(self, monitor: str = "val/bpd", mode: Literal["min", "max"] = "min") -> None:
        super().__init__(monitor=monitor, mode=mode, filename="best", enable_version_counter=False)

    @property
    def title(self) -> str:
        """Log key of the best value so far."""
        return f"best/{str(self.monitor).removeprefix('val/')}"

    def _update_best_and_save(self, current: Tensor, trainer: Trainer, *rest: Any) -> None:
        super()._update_best_and_save(current, trainer, *rest)
        assert self.best_model_score is not None
        best = {self.title: float(self.best_model_score)}
        for logger in trainer.loggers:
            logger.log_metrics(best, trainer.fit_loop.epoch_loop._batches_that_stepped)

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        known = sorted(trainer.callback_metrics)
        # Other callbacks may log numbers of other names later.
        odd = str(self.monitor).startswith("val/") or get_close_matches(str(self.monitor), known)
        if odd and self.monitor not in known:
            raise InputError(
                f"got best.monitor {self.monitor!r}; give a number that validation logs: "
                f"{', '.join(known)}"
            )


class LastCheckpoint(_Checkpoint):
    """Callback that keeps `last.ckpt`, from which training can be resumed.

    It saves after every epoch, or more often. If a validation follows a step, the step is saved
    after the validation: when training is resumed, Lightning takes the validation as done.

    If a signal asks the run to stop (SIGTERM, SIGHUP, SIGUSR1 or Ctrl-C), all processes save after
    the batch and end. A second Ctrl-C ends at once.

    Args:
        every_n_train_steps: Number of steps from one save to the next within an epoch, for long
            epochs. None: save at the end of an epoch only.

    Raises:
        InputError: `every_n_train_steps` is below 1.
    """

    def __init__(self, every_n_train_steps: int | None = None) -> None:
        if every_n_train_steps is not None:
            check_counts(1, every_n_train_steps=every_n_train_steps)
        super().__init__(
            filename="last",
            every_n_epochs=1,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self.every_n_train_steps = every_n_train_steps
        self._step_before = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        # Otherwise the first batches that accumulate gradients would save the same step again.
        self._last_global_step_saved = trainer.global_step
        signals.defer(True)

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        self._step_before = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        fetcher, loop = trainer.fit_loop._data_fetcher, trainer.fit_loop.epoch_loop
        assert fetcher is not None
        if not loop._should_check_val_fx(fetcher) or loop.val_loop.skip:
            self._save_if_due(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._save_if_due(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        self._stop_if(_asked_to_stop(trainer), trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        signals.defer(False)

    # Also after an error.
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        signals.defer(False)

    def _save_if_due(self, trainer: Trainer) -> None:
        if trainer.is_last_batch:
            return  # saved at the end of the epoch
        every, step = self.every_n_train_steps, trainer.global_step
        # In the middle of an accumulation a save would lose the gradient so far.
        signal = _asked_to_stop(trainer) if step > self._step_before else None
        # If training stops within an epoch, a save at the end of the epoch would count the epoch
        # as complete.
        stops = trainer.should_stop and trainer.fit_loop._can_stop_early
        last = signal is not None or stops or 0 <= trainer.max_steps <= step
        # Several optimisers take several steps in a batch, so the count may jump over a multiple.
        due = last or (every is not None and step // every > self._last_global_step_saved // every)
        if due and not self._should_skip_saving_checkpoint(trainer):
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))
        self._stop_if(signal, trainer)

    def _stop_if(self, signal: int | None, trainer: Trainer) -> None:
        if signal is not None:
            stopped = signals.Stopped(signal)
            if trainer.is_global_zero:
                saved = self._last_checkpoint_saved
                where = f"saved: {Path(saved).resolve()}" if saved else "nothing was saved"
                print(
                    f"stopped by {stopped.name} after step {trainer.global_step}; {where}",
                    file=sys.stderr,
                )
            raise stopped


def _asked_to_stop(trainer: Trainer) -> int | None:
    """Signal number that one of the processes has received. None: no signal so far."""
    number = signals.noted() or 0
    if trainer.world_size > 1:
        own = torch.tensor(float(number), device=trainer.strategy.root_device)
        number = int(trainer.strategy.reduce(own, reduce_op="max"))
    return number or None
