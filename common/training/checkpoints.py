"""Checkpoints from which a model can be rebuilt without running code of other packages."""

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

# Injected modules are hyper-parameters here on purpose: a checkpoint records their class paths.
warnings.filterwarnings("ignore", message=r".*is an instance of `nn.Module` and is already saved")

TRUSTED = ("common", "msflow", "video_ode", "mimic", "torch.nn", "torch.optim")
INSTANTIATOR = "pytorch_lightning.cli.instantiate_module"  # Lightning itself allows this name


class Reloadable(LightningModule):
    """LightningModule that `load_from_checkpoint(path)` rebuilds from its checkpoint alone.

    A checkpoint of the command line records class paths and arguments, no live objects; so it
    loads with `weights_only=True`. A model that was rebuilt from it and saved again keeps this
    record. A model built by hand has no such record: its checkpoint leaves the injected modules
    out, and they must be given again on loading.
    """

    _record: dict[str, Any] | None = None

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: str | Path, *args: Any, trusted: tuple[str, ...] = (), **kwargs: Any
    ) -> Any:
        """Model rebuilt from a checkpoint file.

        Args:
            checkpoint_path: Local file.
            trusted: Packages, beside those of this project, whose classes the checkpoint may name.
            args: Further arguments of Lightning's method.
            kwargs: Further arguments of Lightning's method; they override recorded arguments.

        Raises:
            InputError: There is no such file, or it names a class of a package that is not
                trusted: to import that class would run the code of its package.
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
            # The call was that of a base class, such as System.load_from_checkpoint.
            return written_by.load_from_checkpoint(
                checkpoint_path, *args, trusted=trusted, **kwargs
            )
        return super().load_from_checkpoint(
            checkpoint_path, *args, **{**kwargs, "weights_only": True}
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        # The factory of an optimiser that the command line makes refers to the whole command line,
        # and so to the trainer with its threads. Copies, such as averaged weights, share the
        # factory.
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
        saved = {name: tuple(x.shape) for name, x in checkpoint["state_dict"].items()}
        own = {name: tuple(x.shape) for name, x in self.state_dict().items()}
        if saved != own:
            names = sorted(n for n in {*saved, *own} if saved.get(n) != own.get(n))
            first = names[0]
            raise InputError(
                f"the checkpoint is of another model: {len(names)} weights differ, the first is "
                f"{first}, with shape {saved.get(first, 'absent')} in the checkpoint and "
                f"{own.get(first, 'absent')} in the model; use the configuration of its training"
            )


class _Checkpoint(ModelCheckpoint):
    """Checkpoint callback that trusts the record of older files only within its own folder.

    Lightning deletes the files that this record names.
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
    """Callback that keeps `best.ckpt`, the checkpoint with the best value of a logged number.

    Args:
        monitor: Log key of the number, which validation must log.
        mode: `min` if small values are better, `max` if large values are better.
    """

    def __init__(self, monitor: str = "val/bpd", mode: Literal["min", "max"] = "min") -> None:
        super().__init__(monitor=monitor, mode=mode, filename="best", enable_version_counter=False)


class LastCheckpoint(_Checkpoint):
    """Callback that keeps `last.ckpt`, from which training can be resumed.

    It saves after every epoch, or more often. If a validation follows a step, the step is saved
    after the validation: when training is resumed, Lightning takes the validation as done.

    Args:
        every_n_train_steps: Number of steps from one save to the next within an epoch, for long
            epochs. None: save at the end of an epoch only.
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
        # Otherwise the first batches that accumulate gradients would save the same step again.
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
        # If training stops within an epoch, a save at the end of the epoch would count the epoch
        # as complete.
        stops = trainer.should_stop and trainer.fit_loop._can_stop_early
        last = stops or 0 <= trainer.max_steps <= step
        # Several optimisers take several steps in a batch, so the count may jump over a multiple.
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
    """Content of a local checkpoint file, loaded without running any code from it.

    Raises:
        InputError: There is no such file, or it isn't a checkpoint of Lightning.
    """
    if not Path(path).is_file():
        raise InputError(f"there is no checkpoint file {path}")
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file may raise any exception
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path} can't be read as a checkpoint of weights: {reason}") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise InputError(f"{path} isn't a checkpoint of Lightning: it has no state_dict")
    return checkpoint


def _named_objects(record: Any) -> list[str]:
    """Dotted names in the strings of nested plain data whose first part can be imported.

    All strings count, because not only a `class_path` can name a class.
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
