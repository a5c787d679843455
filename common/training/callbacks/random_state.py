"""Callback that keeps the states of the random number generators in checkpoints."""

import random
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer


class RandomState(Callback):
    """Saves and restores the states of the generators of Python and torch, for exact resumption.

    If there are several processes, a checkpoint keeps the torch state of the first one. The other
    processes have their own seeds, which depend on the rank and, after a resume, on the step. The
    generator of Python is used for choices that must be the same on all processes, so it has the
    same state on all of them.
    """

    def __init__(self) -> None:
        self._states: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        version, internal, gauss = random.getstate()
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
            "python": [version, list(internal), gauss],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # Tried out here, so that damaged states are refused before the training begins.
        random.Random().setstate(_python(state_dict))
        torch.Generator().set_state(state_dict["torch"].cpu())
        self._states = state_dict

    # Not earlier: the sanity check and the creation of the loaders draw random numbers.
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_rank > 0:
            torch.manual_seed(torch.initial_seed() + trainer.global_rank + trainer.global_step)
        if self._states is None:
            return
        random.setstate(_python(self._states))
        if trainer.global_rank == 0:
            torch.set_rng_state(self._states["torch"].cpu())
            if self._states["cuda"] is not None and torch.cuda.is_initialized():
                torch.cuda.set_rng_state(self._states["cuda"].cpu())
        self._states = None


def _python(states: dict[str, Any]) -> tuple[Any, ...]:
    version, internal, gauss = states["python"]
    return (version, tuple(internal), gauss)
