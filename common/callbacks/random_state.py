"""Random number generators that come back with a checkpoint."""

import random
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer


class RandomState(Callback):
    """Saves and restores the states of Python's and torch's generators, for exact resumption.

    With several processes every one but the first draws on from its own seed: a checkpoint keeps
    the first's state only.
    """

    def __init__(self) -> None:
        self._states: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        version, internal, gauss = random.getstate()
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "python": [version, list(internal), gauss],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._states = state_dict

    # Not sooner: the sanity check and the loaders' creation draw random numbers.
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._states is None or trainer.global_rank > 0:
            return
        torch.set_rng_state(self._states["torch"].cpu())
        if self._states["cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all([state.cpu() for state in self._states["cuda"]])
        version, internal, gauss = self._states["python"]
        random.setstate((version, tuple(internal), gauss))
        self._states = None
