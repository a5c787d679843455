"""Checkpoints that rebuild their model by themselves, and run no code of others on the way."""

import copy
import functools
import importlib
import importlib.util
import re
import sys
import warnings
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from common.errors import InputError

# Injected modules belong among the hyper-parameters here: a checkpoint records their class paths.
warnings.filterwarnings("ignore", message=r".*is an instance of `nn.Module` and is already saved")

TRUSTED = ("common", "msflow", "video_ode", "mimic", "torch.nn", "torch.optim")
INSTANTIATOR = "pytorch_lightning.cli.instantiate_module"  # what Lightning itself allows


class Reloadable(LightningModule):
    """A LightningModule whose checkpoint is enough to rebuild it: `load_from_checkpoint(path)`.

    Under the command line a checkpoint records class paths and arguments, no live objects, and so
    loads with `weights_only=True`. A model rebuilt from it and saved again keeps that record. One
    built by hand has none: its injected modules are left out, to be given again on loading.
    """

    _record: dict[str, Any] | None = None

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: str | Path, *args: Any, trusted: tuple[str, ...] = (), **kwargs: Any
    ) -> Any:
        """Rebuilds the model of a checkpoint file.

        Args:
            checkpoint_path: A local file.
            trusted: Packages beside this project's whose classes the checkpoint may name.
            args: As in Lightning.
            kwargs: As in Lightning; overrides recorded arguments.

        Raises:
            InputError: There is no such file, or it names a class of a package not trusted:
                importing it would run its code.
        """
        checkpoint = read_checkpoint(checkpoint_path)
        for path in _named_objects(checkpoint.get("hyper_parameters", {})):
            if path != INSTANTIATOR and not path.startswith(
                tuple(f"{t}." for t in TRUSTED + trusted)
            ):
                raise InputError(
                    f"{checkpoint_path} names {path}, which loading would import and run; if you "
                    f"trust it, pass trusted=({path.split('.')[0]!r},)"
                )
        written_by = _class_of(checkpoint)
        if written_by not in (None, cls) and issubclass(written_by, cls):
            return written_by.load_from_checkpoint(  # from `System.load_from_checkpoint`, say
                checkpoint_path, *args, trusted=trusted, **kwargs
            )
        return super().load_from_checkpoint(
            checkpoint_path, *args, **{**kwargs, "weights_only": True}
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        # An optimiser's factory, as the command line makes it, holds all of the command line, the
        # trainer with its threads included. Copies (of averaged weights, say) share it.
        memo |= {id(v): v for v in self.__dict__.values() if isinstance(v, functools.partial)}
        memo[id(self)] = twin = type(self).__new__(type(self))
        twin.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return twin

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "_instantiator" in checkpoint.get("hyper_parameters", {}):
            return
        checkpoint.pop("hyper_parameters", None)
        if self._record is not None:
            checkpoint["hyper_parameters"] = self._record

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._record = checkpoint.get("hyper_parameters")
        theirs = {name: tuple(x.shape) for name, x in checkpoint["state_dict"].items()}
        ours = {name: tuple(x.shape) for name, x in self.state_dict().items()}
        if theirs != ours:
            names = sorted(n for n in {*theirs, *ours} if theirs.get(n) != ours.get(n))
            first = names[0]
            raise InputError(
                f"the checkpoint is of another model: {len(names)} weights differ, the first is "
                f"{first}, {theirs.get(first, 'absent')} there and {ours.get(first, 'absent')} "
                "here; use the configuration it was trained with"
            )


class _Checkpoint(ModelCheckpoint):
    """A checkpoint's record of older files is believed only inside its own folder.

    Lightning deletes what the record names.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        folder = Path(self.dirpath).resolve() if self.dirpath else None

        def inside(path: str) -> str:
            resolved = Path(path).resolve()
            return str(resolved) if path and resolved.parent == folder else ""

        best = {inside(path): score for path, score in state_dict["best_k_models"].items()}
        names = ("best_model_path", "kth_best_model_path", "last_model_path")
        paths = {name: inside(state_dict[name]) for name in names}
        best.pop("", None)
        super().load_state_dict(
            {**state_dict, **paths, "best_k_models": best, "dirpath": self.dirpath}
        )


class BestCheckpoint(_Checkpoint):
    """Keeps `best.ckpt`, judged by a number logged in validation.

    Args:
        monitor: Name of the number.
        mode: Whether it shall be small (`min`) or large (`max`).
    """

    def __init__(self, monitor: str = "val/bpd", mode: Literal["min", "max"] = "min") -> None:
        super().__init__(monitor=monitor, mode=mode, filename="best", enable_version_counter=False)


class LastCheckpoint(_Checkpoint):
    """Keeps `last.ckpt`, to go on from: after every epoch, and oftener where asked.

    Where validation follows a step, it is over before the step is saved: Lightning would count it
    as done on resuming.

    Args:
        every_n_train_steps: Save every so many steps too, for long epochs.
    """

    def __init__(self, every_n_train_steps: int | None = None) -> None:
        super().__init__(
            filename="last",
            every_n_epochs=1,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self.every_n_train_steps = every_n_train_steps

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        # Or the batches that accumulate towards the next step would save the last one again.
        self._last_global_step_saved = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        fetcher, loop = trainer.fit_loop._data_fetcher, trainer.fit_loop.epoch_loop
        assert fetcher is not None
        if not loop._should_check_val_fx(fetcher) or loop.val_loop.skip:
            self._save_if_due(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save_if_due(trainer)

    def _save_if_due(self, trainer: Trainer) -> None:
        every, step = self.every_n_train_steps, trainer.global_step
        # An epoch that is broken off here would count as a whole one when saved at its end.
        stops = trainer.should_stop and trainer.fit_loop._can_stop_early
        last = stops or 0 <= trainer.max_steps <= step
        # Several optimisers take several steps a batch, which may pass over a multiple.
        due = last or (every is not None and step // every > self._last_global_step_saved // every)
        if due and not trainer.is_last_batch and not self._should_skip_saving_checkpoint(trainer):
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))


def load_weights(model: Reloadable, path: str | Path) -> None:
    """Loads the weights of a checkpoint file into a model of the same configuration.

    Raises:
        InputError: There is no such file, or it belongs to another model.
    """
    checkpoint = read_checkpoint(path)
    model.on_load_checkpoint(checkpoint)
    model.load_state_dict(checkpoint["state_dict"])


def _class_of(checkpoint: dict[str, Any]) -> Any:
    """Class that wrote a checkpoint, whose name has been checked. None: not recorded."""
    path = checkpoint.get("hyper_parameters", {}).get("_class_path")
    if not isinstance(path, str) or "." not in path:
        return None
    module, _, name = path.rpartition(".")
    found = getattr(importlib.import_module(module), name, None)
    return found if isinstance(found, type) else None


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The contents of a local checkpoint file, loaded without running anything in it."""
    if not Path(path).is_file():
        raise InputError(f"there is no checkpoint file {path}")
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file may raise anything
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path} can't be read as a checkpoint of weights: {reason}") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise InputError(f"{path} isn't a checkpoint of Lightning: it has no state_dict")
    return checkpoint


def _named_objects(record: Any) -> list[str]:
    """Every dotted name, in any string of nested plain data, whose first part can be imported.

    In any string, as a class may be named by more than a `class_path`.
    """
    if isinstance(record, dict):
        return [p for pair in record.items() for v in pair for p in _named_objects(v)]
    if isinstance(record, list | tuple):
        return [p for v in record for p in _named_objects(v)]
    if not isinstance(record, str):
        return []
    names = re.findall(r"[A-Za-z_]\w*(?:\.\w+)+", record)
    roots = {name: name.split(".")[0] for name in names}
    return [
        n for n, root in roots.items() if root in sys.modules or importlib.util.find_spec(root)
    ]
