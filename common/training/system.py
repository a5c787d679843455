"""Systems: the LightningModules of this project, with one optimiser or several.

With any number of optimisers, a system has schedules of the learning rate and a training progress
that counts batches; it skips a step if a solve fails in it; and it resumes exactly.
"""

import abc
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from pytorch_lightning.cli import OptimizerCallable
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from common.errors import InputError, RunError, check_counts
from common.ode.evaluations import SolveError
from common.training.checkpoints import Reloadable
from common.training.schedules import Schedule

UNDERFLOW = (
    "the step size of the adjoint's solve underflowed backward in time: raise rtol and atol, use "
    "gradient: direct or checkpoint, or a fixed-grid method"
)


class Player(NamedTuple):
    """Part of a system that one optimiser trains.

    Attributes:
        module: Module whose parameters are trained.
        optimizer: Factory of the optimiser, from parameters.
        schedule: Schedule of the learning rate.
        every: Number of turns from one step of this player to the next one.
    """

    module: nn.Module
    optimizer: OptimizerCallable
    schedule: Schedule = Schedule()
    every: int = 1


class System(Reloadable, abc.ABC):
    """LightningModule of this project: base of `AutomaticSystem` and `ManualSystem`."""

    def __init__(self) -> None:
        super().__init__()
        self._total_steps: float | None = None

    @abc.abstractmethod
    def players(self) -> dict[str, Player]:
        """Players by name, in the order in which they take their steps."""

    @property
    def progress(self) -> float:
        """Share of the training batches that are done, in `[0, 1]`; 1 if training has no end."""
        total = self.total_batches
        done = max(0, self.trainer.fit_loop.total_batch_idx)
        return 1.0 if math.isinf(total) else min(1.0, done / total)

    @property
    def steps_per_batch(self) -> float:
        """Mean number of optimiser steps of a batch, all optimisers together."""
        return 1 / self.trainer.accumulate_grad_batches

    def configure_optimizers(self) -> Any:
        self._total_steps = None
        configured = []
        for player in self.players().values():
            try:
                optimizer = player.optimizer(player.module.parameters())
            except ValueError as error:
                raise InputError(f"optimizer: {error}") from error
            scheduler = LambdaLR(optimizer, self._rate(player))
            configured.append(
                {
                    "optimizer": optimizer,
                    "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
                }
            )
        return configured

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Backward pass; if the solve of an adjoint fails in it, the step is left out.

        Raises:
            RunError: It failed on one of several devices: the others wait for its gradient.
        """
        try:
            super().backward(loss, *args, **kwargs)
        except (SolveError, AssertionError) as error:
            underflow = "underflow in dt" in str(error)  # torchdiffeq's own assertion
            if not (underflow or isinstance(error, SolveError)):
                raise
            reason = UNDERFLOW if underflow else str(error)
            if self.trainer.world_size > 1:
                raise RunError(f"step {self.global_step}: {reason}") from error
            rank_zero_warn(f"step {self.global_step} is left out: {reason}")
            for parameter in self.parameters():
                if parameter.requires_grad:
                    parameter.grad = torch.full_like(parameter, torch.nan)

    def left_out(self, error: Exception) -> Tensor:
        """NaN loss for a step in which a solve failed, so that `SkipBadSteps` skips the step.

        The gradient of this loss is NaN for every parameter, so that all devices skip the step.

        Args:
            error: Error of the solve; a warning shows it.
        """
        rank_zero_warn(f"step {self.global_step} is left out: {error}")
        return torch.stack([p.sum() for p in self.parameters()]).sum() * torch.nan

    def _rate(self, player: Player) -> Callable[[int], float]:
        def factor(step: int) -> float:
            # Asking for the number of steps at step 0 would make Lightning set up the loaders
            # before it has read their state from the checkpoint: a resumed epoch would start again
            # from its first batch.
            return player.schedule.factor(step, math.inf if step == 0 else self._steps_of(player))

        return factor

    def _steps_of(self, player: Player) -> float:
        """Number of steps of a player in the whole training."""
        if self._total_steps is None:
            self._total_steps = float(self.trainer.estimated_stepping_batches)
        return self._total_steps

    @property
    def total_batches(self) -> float:
        """Number of batches of the whole training; infinite if it has no end."""
        trainer, total = self.trainer, math.inf
        if trainer.max_epochs is not None and trainer.max_epochs != -1:
            if trainer.train_dataloader is None:
                trainer.fit_loop.setup_data()
            total = float(trainer.num_training_batches * max(1, trainer.max_epochs))
        if trainer.max_steps != -1:
            total = min(total, trainer.max_steps / self.steps_per_batch)
        return total


class AutomaticSystem(System):
    """System with one optimiser, whose steps Lightning takes (automatic optimisation).

    Args:
        optimizer: Factory of the optimiser, from parameters.
        schedule: Schedule of the learning rate. None: a constant rate.
    """

    def __init__(self, optimizer: OptimizerCallable, schedule: Schedule | None) -> None:
        super().__init__()
        self.optimizer, self.schedule = optimizer, schedule or Schedule()

    def players(self) -> dict[str, Player]:
        return {"model": Player(self, self.optimizer, self.schedule)}


class ManualSystem(System):
    """System with several optimisers that take turns, such as a GAN (manual optimisation).

    A subclass writes `players` and `loss`; `training_step` is final. In each turn, the players
    whose step is due take one step each, in order and on the same batches; the parameters of the
    other players are frozen during the step. Skipping of bad steps, schedules, averaged weights,
    mixed precision, exact resume and `best.ckpt` work as with automatic optimisation. Lightning
    counts the steps of all players: `trainer.max_steps` 1000 gives 500 turns of two players. DDP
    needs `--trainer.strategy ddp_find_unused_parameters_true`.

    Args:
        accumulate: Number of batches of a turn; each step takes the mean gradient over these
            batches, as over one larger batch. (Lightning's `accumulate_grad_batches` must stay 1.)
        clip: Largest norm of a player's gradient; a longer gradient is scaled down. None: no
            clipping. (Lightning's `gradient_clip_val` must stay unset.)

    Raises:
        InputError: Values out of range.
    """

    turns: Tensor

    def __init__(self, accumulate: int = 1, clip: float | None = None) -> None:
        super().__init__()
        check_counts(1, accumulate=accumulate)
        if clip is not None and not clip > 0:
            raise InputError(f"got clip {clip}; give more than 0, or null for no clipping")
        self.automatic_optimization = False
        self.accumulate, self.clip = accumulate, clip
        self.register_buffer("turns", torch.zeros((), dtype=torch.int64))
        self._batches: list[Any] = []

    @abc.abstractmethod
    def loss(self, player: str, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss that a player minimises on a batch, and numbers to log, by name.

        Args:
            player: Name of the player that takes the step.
            batch: Training batch.
        """

    def after_step(self, player: str) -> None:
        """Hook after a player's step, for example to clip its weights; by default it is empty."""

    @property
    def steps_per_batch(self) -> float:
        return sum(1 / player.every for player in self.players().values()) / self.accumulate

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self._batches.append(batch)
        if len(self._batches) < self.accumulate and not self.trainer.is_last_batch:
            return
        batches, self._batches = self._batches, []
        optimizers, schedulers = (
            self._as_list(self.optimizers()),
            self._as_list(self.lr_schedulers()),
        )
        turn = int(self.turns)
        for i, (name, player) in enumerate(self.players().items()):
            if turn % player.every == 0:
                self._take_step(name, optimizers[i], batches)
                schedulers[i].step()
                self.after_step(name)
        self.turns += 1

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        if self.clip is not None:
            self.clip_gradients(
                optimizer, gradient_clip_val=self.clip, gradient_clip_algorithm="norm"
            )

    def _take_step(self, name: str, optimizer: Any, batches: list[Any]) -> None:
        self.toggle_optimizer(optimizer)
        optimizer.zero_grad()
        for batch in batches:
            try:
                loss, terms = self.loss(name, batch)
            except SolveError as error:
                loss, terms = self.left_out(error), {}
            self.manual_backward(loss / len(batches))
        self.log(f"train/{name}_loss", loss.detach(), prog_bar=True)
        self.log_dict({f"train/{key}": value for key, value in terms.items()})
        optimizer.step()
        self.untoggle_optimizer(optimizer)

    def _steps_of(self, player: Player) -> float:
        return self.total_batches / (self.accumulate * player.every)

    @staticmethod
    def _as_list(found: Any) -> list[Any]:
        """Optimisers or schedulers as a list; Lightning returns a single one without a list."""
        return list(found) if isinstance(found, list) else [found]
