"""Callback that compares the configuration of a resumed training with that of its checkpoint."""

import re
from importlib import metadata
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn

from common.errors import InputError
from common.training.checkpoints import SETTINGS
from common.training.resuming import plain_schedules, renew_optimizers
from common.training.system import System

# Changes that leave the weights of every step as they would have been.
WITHOUT_EFFECT = (
    r"trainer\.(enable_\w+|log_every_n_steps|default_root_dir|devices|num_nodes|profiler"
    r"|num_sanity_val_steps|limit_(val|test|predict)_batches|detect_anomaly)"
    r"|(best|last|evaluation)\..*|skip\.give_up_after|.*\.num_workers"
)
OF_THE_COMMAND = r"trainer\.logger.*|run_id|ckpt_path|allow_changes|weights_only"
# Changes that take effect, or have no effect, and may well be wanted.
TOLERATED = (
    r"seed_everything|skip\..*|.*\.(root|folder|path)"
    r"|trainer\.(max_|min_|precision|accelerator|strategy|callbacks|plugins|deterministic|benchmark"
    r"|val_check_interval|check_val_every_n_epoch|reload_dataloaders_every_n_epochs).*"
)


class Settings(Callback):
    """Keeps the configuration of the training in its checkpoints, and compares it on resuming.

    A change without effect on the weights is said; a change that may be wanted is a warning; any
    other change, such as that of the learning rate, is an error unless it is allowed. If it is
    allowed, the optimisers go on with the new settings.

    Args:
        values: Configuration, as one dictionary of plain data with dotted keys.
        allow_changes: Go on with changed settings.
    """

    def __init__(self, values: dict[str, Any], allow_changes: bool = False) -> None:
        self.values = {k: v for k, v in values.items() if not re.fullmatch(OF_THE_COMMAND, k)}
        self.allow_changes = allow_changes

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        names = ("dynamical-vision", "torch")
        versions = {name: metadata.version(name) for name in names}
        values = {**self.values, "world_size": trainer.world_size}
        checkpoint[SETTINGS] = {"versions": versions, "values": values}

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        if not (checkpoint.get("optimizer_states") and checkpoint.get("loops")):
            raise InputError(
                "the checkpoint has weights only, without the state of the optimiser: training "
                "can't be resumed from it; test, predict and the like can use it"
            )
        if isinstance(pl_module, System):
            checkpoint["lr_schedulers"] = plain_schedules(checkpoint["lr_schedulers"])
        _check_end(trainer, checkpoint)
        saved = checkpoint.get(SETTINGS)
        if not isinstance(saved, dict) or not isinstance(saved.get("values"), dict):
            rank_zero_warn("the checkpoint holds no settings, so they aren't compared")
            return
        own = {**self.values, "world_size": trainer.world_size}
        changed = self._compare(saved["values"], own)
        if any("optimizer" in key and key.endswith("class_path") for key in changed):
            checkpoint["optimizer_states"] = []  # of another optimiser

    # Not earlier: Lightning restores the optimisers with the settings that they had.
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.ckpt_path is not None and isinstance(pl_module, System):
            renew_optimizers(trainer, pl_module)

    def _compare(self, saved: dict[str, Any], own: dict[str, Any]) -> list[str]:
        """Says what has changed, and returns the keys of the changes that matter."""
        keys = [k for k in sorted({*saved, *own}) if _value(saved, k) != _value(own, k)]
        changes = {key: f"{key} {_short(saved.get(key))} → {_short(own.get(key))}" for key in keys}
        for key in keys:
            if re.fullmatch(WITHOUT_EFFECT, key):
                rank_zero_info(f"changed since the checkpoint: {changes.pop(key)}")
            elif re.fullmatch(TOLERATED, key):
                rank_zero_warn(f"changed since the checkpoint: {changes.pop(key)}")
        if "seed_everything" in keys:
            rank_zero_warn("the random numbers go on from the checkpoint, not from the new seed")
        shown = ", ".join(list(changes.values())[:3]) + (", …" if len(changes) > 3 else "")
        if changes and not self.allow_changes:
            raise InputError(
                f"{len(changes)} settings changed since the checkpoint: {shown}; take its "
                "settings, start a new run without --ckpt_path, or give --allow_changes true"
            )
        if changes:
            rank_zero_warn(f"the training goes on with changed settings: {shown}")
        return list(changes)


def _check_end(trainer: Trainer, checkpoint: dict[str, Any]) -> None:
    epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    limits = {
        "max_epochs": (trainer.max_epochs, epochs),
        "max_steps": (trainer.max_steps, checkpoint["global_step"]),
    }
    for name, (limit, done) in limits.items():
        if limit is not None and 0 <= limit < done:
            raise InputError(
                f"got trainer.{name} {limit}, but the checkpoint has done {done} already; give "
                f"{done} or more"
            )


def flattened(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _value(settings: dict[str, Any], key: str) -> Any:
    """Value of a setting; of a class, its package and name: packages export names of modules."""
    value = settings.get(key)
    if key.endswith("class_path") and isinstance(value, str):
        return re.sub(r"^(\w+)\..*\.(\w+)$", r"\1.\2", value)
    return value


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
