"""What every system that trains shares: optimiser, learning rate, and steps that break off."""

import math
from typing import Any

import torch
from pytorch_lightning.cli import OptimizerCallable
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from common.training.checkpoints import Reloadable
from common.training.schedules import Schedule


class System(Reloadable):
    """A LightningModule with one optimiser and a schedule of its learning rate.

    Args:
        optimizer: From parameters to an optimiser.
        schedule: Of the learning rate; constant if none.
    """

    def __init__(self, optimizer: OptimizerCallable, schedule: Schedule | None) -> None:
        super().__init__()
        self.optimizer, self.schedule = optimizer, schedule or Schedule()
        self._total_steps: float | None = None

    @property
    def progress(self) -> float:
        """Share of training that is done, in `[0, 1]`; 1 where no end is set."""
        steps = self._steps()
        return 1.0 if math.isinf(steps) else min(1.0, self.global_step / steps)

    def configure_optimizers(self) -> Any:
        self._total_steps = None
        optimizer = self.optimizer(self.parameters())
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self._rate(step))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def left_out(self, error: Exception) -> Tensor:
        """The loss of a step that broke off, so that it is skipped (`SkipBadSteps`)."""
        rank_zero_warn(f"step {self.global_step} is left out: {error}")
        # NaN reaches every gradient on every device, so that all of them skip the step.
        return torch.stack([p.sum() for p in self.parameters()]).sum() * torch.nan

    def _rate(self, step: int) -> float:
        # To ask for the number of steps at step 0 would make Lightning set up the loaders before
        # it has read from the checkpoint where they were: a resumed epoch would start anew.
        return self.schedule.factor(step, math.inf if step == 0 else self._steps())

    def _steps(self) -> float:
        if self._total_steps is None:
            self._total_steps = float(self.trainer.estimated_stepping_batches)
        return self._total_steps
