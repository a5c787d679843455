"""Callback that skips optimiser steps with gradients that would spoil the weights."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer

from common.errors import RunError, check_counts, check_positive
from common.files import written_whole
from common.training.failures import place_of
from common.training.system import System


class SkipBadSteps(Callback):
    """Skips and counts the optimiser steps whose gradient norm is not finite or too large.

    The gradient is that before clipping and after the mean over processes, so that all processes
    make the same decision. Logs `train/gradient_norm` and `train/skipped_steps`, the total so far;
    with several optimisers there is one pair of log keys `…/<name>` for each. The batches of the
    first three bad steps are kept in the run's folder, in `bad_steps/`.

    Args:
        max_norm: Largest norm of a step that is taken (MRCNF: 5 times its clipping value).
        give_up_after: Number of bad steps in a row after which training stops with an error; 1
            stops at the first one.

    Raises:
        InputError: Numbers out of range.
        RunError: In training, after that many bad steps.
    """

    def __init__(self, max_norm: float = float("inf"), give_up_after: int = 100) -> None:
        check_counts(1, give_up_after=give_up_after)
        check_positive(max_norm=None if max_norm == float("inf") else max_norm)
        self.max_norm, self.give_up_after = max_norm, give_up_after
        self.skipped: dict[str, int] = {}  # by name of the optimiser
        self._in_a_row: dict[str, int] = {}
        self._batch: Any = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._batch = batch

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        self._batch = None  # its memory is needed for the next one

    def state_dict(self) -> dict[str, dict[str, int]]:
        return {"skipped": dict(self.skipped)}

    def load_state_dict(self, state_dict: dict[str, dict[str, int]]) -> None:
        self.skipped = dict(state_dict["skipped"])

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not gradients:
            return
        norm = float(torch.nn.utils.get_total_norm(gradients))
        name = _name(trainer, pl_module, optimizer)
        suffix = f"/{name}" if len(trainer.optimizers) > 1 else ""
        if norm <= self.max_norm and norm != float("inf"):  # False for NaN
            self._in_a_row[name] = 0
            pl_module.log(f"train/gradient_norm{suffix}", norm)
        else:
            self.skipped[name] = self.skipped.get(name, 0) + 1
            self._in_a_row[name] = self._in_a_row.get(name, 0) + 1
            for parameter in parameters:
                parameter.grad = None
            self._report(trainer, norm)
        pl_module.log(f"train/skipped_steps{suffix}", float(self.skipped.get(name, 0)))
        if self._in_a_row[name] >= self.give_up_after:
            raise RunError(
                f"{self._in_a_row[name]} steps of the {name} in a row had a gradient that is not "
                f"finite or longer than {self.max_norm:g}; the last norm was {norm:g}: lower the "
                "learning rate, warm up longer, or raise max_norm"
            )

    def _report(self, trainer: Trainer, norm: float) -> None:
        """Says which step is skipped, and keeps the batches of the first three."""
        if sum(self.skipped.values()) > 3:
            return
        where, batch = place_of(trainer), self._batch
        rank_zero_warn(f"{where} is skipped: its gradient has the norm {norm:g}")
        folder = Path(trainer.loggers[0].log_dir or "") if trainer.loggers else Path()
        if trainer.is_global_zero and folder != Path() and folder.is_dir():
            kept = batch if isinstance(batch, Tensor | dict) else list(batch)
            path = folder / "bad_steps" / f"step_{trainer.global_step}.pt"
            with suppress(OSError), written_whole(path) as file:
                torch.save({"place": where, "norm": norm, "batch": kept}, file)


def _name(trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> str:
    """Name of the player that an optimiser trains."""
    place = next(i for i, known in enumerate(trainer.optimizers) if known is optimizer)
    return list(pl_module.players())[place] if isinstance(pl_module, System) else str(place)
