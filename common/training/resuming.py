"""Optimisers and schedules of a resumed training: checked states, with the settings of now."""

from typing import Any

import torch
from pytorch_lightning import Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from common.errors import InputError
from common.files import is_ordinary
from common.training.system import Player, System


def plain_schedules(states: Any) -> list[dict[str, Any]]:
    """States of schedules without all that the configuration gives; the step is what is left.

    Raises:
        InputError: A state has no step.
    """
    plain = []
    for state in states if isinstance(states, list) else [None]:
        step = state.get("last_epoch") if isinstance(state, dict) else None
        if type(step) is not int or step < 0:
            raise InputError(
                "the checkpoint is damaged: a schedule of it has no step; take another"
            )
        plain.append({"last_epoch": step, "_step_count": step + 1, "lr_lambdas": [None]})
    return plain


def renew_optimizers(trainer: Trainer, system: System) -> None:
    """Gives restored optimisers the settings of the configuration, and the learning rate of now.

    Raises:
        InputError: Their restored state is that of other weights or of another optimiser.
    """
    players = system.players().values()
    for player, optimizer, config in zip(
        players, trainer.optimizers, trainer.lr_scheduler_configs, strict=True
    ):
        keys, defaults = _fresh(player)
        schedule: Any = config.scheduler
        schedule.base_lrs = [defaults["lr"]] * len(optimizer.param_groups)
        for group, factor in zip(optimizer.param_groups, schedule.lr_lambdas, strict=True):
            lr = defaults["lr"] * factor(schedule.last_epoch)
            group.update({**defaults, "initial_lr": defaults["lr"], "lr": lr})
        schedule._last_lr = [group["lr"] for group in optimizer.param_groups]
        if not all(_fits(state, p, keys) for p, state in optimizer.state.items()):
            raise InputError(
                "the state of the optimiser in the checkpoint is damaged, or that of another "
                "optimiser or other weights; take another checkpoint"
            )


def _fresh(player: Player) -> tuple[set[str] | None, dict[str, Any]]:
    """Keys of the state that a player's optimiser keeps (None: not known), and its settings."""
    weight = nn.Parameter(torch.zeros(2, 2))
    optimizer: Optimizer = player.optimizer([weight])
    weight.grad = torch.ones_like(weight)
    try:
        optimizer.step()
    except TypeError:  # it needs a closure
        return None, optimizer.defaults
    return set(optimizer.state[weight]), optimizer.defaults


def _fits(state: Any, weight: Any, keys: set[str] | None) -> bool:
    """True if an optimiser with these state keys could have this state for this weight."""
    if not isinstance(state, dict) or (keys is not None and state and set(state) != keys):
        return False
    tensors = [x for x in state.values() if isinstance(x, Tensor)]
    return keys is None or all(is_ordinary(x) and x.shape in ((), weight.shape) for x in tensors)
