"""Checkpoints: files from which a model is rebuilt, or its training resumed, and no code runs.

    python -m common.training.checkpoints inspect FILE
    python -m common.training.checkpoints export CHECKPOINT MODEL.safetensors

The first shows what a file holds, without loading any code; the second writes a model file, which
is a small checkpoint of weights only.
"""

import copy
import functools
import io
import warnings
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities import rank_zero_warn

from common.errors import InputError, RunError, check_output, reason
from common.files import check_content, is_file, is_ordinary, read_torch, shown, written_whole
from common.training.model_files import (
    CONFIGURATION,
    ENDING,
    package_of,
    read_model_file,
    shipped_models,
    write_model_file,
)
from common.training.runs import configuration_of, run_name
from common.training.trust import named_classes, plain_record, trusted_class

# Injected modules are hyper-parameters here on purpose: a checkpoint records their class paths.
warnings.filterwarnings("ignore", message=r".*is an instance of `nn.Module` and is already saved")

SETTINGS = "settings"  # key of the configuration of the training, see `Settings`
OF_TRAINING = ("callbacks", "loops", "lr_schedulers", "optimizer_states", SETTINGS)
OF_OLD_VERSIONS = ("hparams", "hparams_type", "module_arguments")


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
        cls,
        checkpoint_path: str | Path,
        map_location: Any = None,
        *,
        trusted: tuple[str, ...] = (),
        **kwargs: Any,
    ) -> Any:
        """Model rebuilt from a checkpoint file.

        Args:
            checkpoint_path: Local file.
            map_location: Device of the model. None: the CPU.
            trusted: Packages, beside those of this project, whose classes the checkpoint may name.
            kwargs: Further arguments of Lightning's method, without `hparams_file`; they override
                recorded arguments.

        Raises:
            InputError: There is no such file, it is damaged, it belongs to another class, or it
                names a class of a package that is not trusted: to import that class would run the
                code of its package.
        """
        if "hparams_file" in kwargs:
            raise InputError("got hparams_file, which isn't checked; give arguments by name")
        checkpoint = read_checkpoint(checkpoint_path)
        source, written_by = shown(checkpoint_path), "_class_path"
        record = plain_record(checkpoint.get("hyper_parameters", {}), source, trusted)
        checkpoint["hyper_parameters"] = record
        # The call may be that of a base class, such as System.load_from_checkpoint.
        kind = trusted_class(record[written_by], source, trusted) if written_by in record else cls
        if not issubclass(kind, cls):
            raise InputError(
                f"{source} is a {kind.__name__}; use {kind.__name__}.load_from_checkpoint"
            )
        left_out = OF_TRAINING + OF_OLD_VERSIONS
        torch.save(
            {k: v for k, v in checkpoint.items() if k not in left_out}, file := io.BytesIO()
        )
        file.seek(0)
        try:
            return super(Reloadable, kind).load_from_checkpoint(
                file, map_location, **{**kwargs, "weights_only": True}
            )
        except InputError:
            raise
        except Exception as error:  # a record of wrong arguments may raise any exception
            raise InputError(
                f"{source} doesn't give a {kind.__name__}: {reason(error)[:300]}; arguments that "
                "it lacks can be given by name"
            ) from error

    @classmethod
    def pretrained(cls, name: str) -> Any:
        """Trained model that ships with the package of this class, in evaluation mode.

        Args:
            name: Name of the model, such as `digits` of `MultiScaleFlowModule`.

        Raises:
            InputError: No model of this name ships with the package, or it is of another class.
        """
        package = package_of(cls)
        models = shipped_models(package)
        if name not in models:
            known = ", ".join(models) or "none"
            raise InputError(
                f"no model {shown(name)} ships with {package.name}; give one of: {known}"
            )
        return cls.load_from_checkpoint(models[name]).eval()

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
                f"{shown(first)}, with shape {saved.get(first, 'absent')} in the checkpoint and "
                f"{own.get(first, 'absent')} in the model; use the configuration of its training"
            )


class CheckpointFiles(TorchCheckpointIO):
    """CheckpointIO plugin that reads and writes the checkpoint files of a trainer.

    A file is written whole or not at all, and the one before it is kept beside it, with the ending
    `.previous`.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        path = Path(path)
        torch.save(checkpoint, data := io.BytesIO())
        try:
            check_content(data)
        except ValueError as error:
            raise RunError(
                f"the checkpoint {path.name} could not be read again ({error}); keep only tensors "
                "and plain data in the states of callbacks and modules"
            ) from error
        try:
            for left in path.parent.glob(f".{path.name}.*.partial"):
                left.unlink()  # of a process that was killed
            with written_whole(path, keep=_previous(path)) as file:
                file.write_bytes(data.getbuffer())
        except OSError as error:
            raise RunError(
                f"the checkpoint {path.name} can't be saved in {path.parent}: {error.strerror}; "
                "the one before it is as it was, and --ckpt_path last goes on from there"
            ) from error

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        # Without this key Lightning asks no callback, such as `Settings`, about the checkpoint.
        return {"callbacks": {}, **read_checkpoint(path)}

    def remove_checkpoint(self, path: Any) -> None:
        path = Path(path)
        # A path in the record of a checkpoint might lead anywhere.
        if path.suffix == ".ckpt" and ".." not in path.parts:
            path.unlink(missing_ok=True)
            _previous(path).unlink(missing_ok=True)


def load_weights(model: Reloadable, path: str | Path) -> None:
    """Loads the weights of a checkpoint file into a model of the same configuration.

    Raises:
        InputError: There is no such file, it is damaged, or it belongs to another model.
    """
    checkpoint = read_checkpoint(path)
    model.on_load_checkpoint(checkpoint)
    model.load_state_dict(checkpoint["state_dict"])


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Content of a local checkpoint or model file, loaded without running any code from it.

    If the file is damaged, the one before it is read, with a warning.

    Raises:
        InputError: There is no such file, or it isn't a checkpoint of Lightning.
    """
    try:
        return _checked(path)
    except InputError as error:
        previous = _previous(Path(path))
        if not is_file(previous):
            raise
        rank_zero_warn(f"{error}; the checkpoint before it is used: {previous}")
        return _checked(previous)


def inspect(file: str) -> str:
    """Shows what a checkpoint file holds: versions, step, classes and weights.

    Args:
        file: Checkpoint file.
    """
    checkpoint = read_checkpoint(file)
    weights, settings = checkpoint["state_dict"], checkpoint.get(SETTINGS)
    settings = settings if isinstance(settings, dict) else {}
    own = settings.get("versions")
    versions = {"pytorch-lightning": checkpoint.get("pytorch-lightning_version", "unknown")}
    versions |= own if isinstance(own, dict) else {}
    count = sum(x.numel() for x in weights.values())
    resumable = all(checkpoint.get(key) for key in ("optimizer_states", "loops"))
    trained_by = checkpoint.get(CONFIGURATION)
    lines = {
        "file": str(Path(file).resolve()),
        "written by": shown(", ".join(f"{name} {version}" for name, version in versions.items())),
        "step": shown(f"{checkpoint.get('global_step')}, epoch {checkpoint.get('epoch')}"),
        **({} if trained_by is None else {"trained by": shown(f"configuration {trained_by}")}),
        "weights": f"{count:,} in {len(weights)} tensors",
        "training": "can be resumed" if resumable else "can't be resumed: weights only",
        "classes": "\n             ".join(named_classes(checkpoint.get("hyper_parameters", {}))),
        "settings": "kept, to be compared on resuming" if settings else "none",
    }
    text = "\n".join(f"{name + ':':<12} {line}" for name, line in lines.items())
    print(text)
    return text


def export(checkpoint: str, out: str, configuration: str | None = None, half: bool = True) -> None:
    """Writes a checkpoint as a model file: weights and record only, to be shared or shipped.

    If the training averages the weights, they are the averaged ones.

    Args:
        checkpoint: Checkpoint file of a training by the command line.
        out: Model file to write, with the ending .safetensors.
        configuration: Name of the configuration, which a command with this file alone takes. None:
            that of the checkpoint's run; outside a run, the name of the model file.
        half: Write matrices and kernels in half precision.
    """
    check_output(out, ENDING)
    content = read_checkpoint(checkpoint)
    if not content.get("hyper_parameters"):
        raise InputError(
            f"{shown(checkpoint)} has no record from which its model could be rebuilt; give a "
            "checkpoint of a training by the command line"
        )
    own = configuration_of(checkpoint)
    name = configuration or (Path(out).stem if own is None else run_name([own]))
    write_model_file(content, out, name, half)
    print(f"model: {Path(out).resolve()} ({Path(out).stat().st_size / 1e6:.2f} MB)")


def _previous(path: Path) -> Path:
    return path.parent / f"{path.name}.previous"


def _checked(path: str | Path) -> dict[str, Any]:
    checkpoint = read_model_file(path) if Path(path).suffix == ENDING else read_torch(path)
    # Copies, because the methods and the metadata of an OrderedDict may lie.
    checkpoint = dict(dict.items(checkpoint)) if isinstance(checkpoint, dict) else {}
    weights = checkpoint.get("state_dict")
    if not isinstance(weights, dict):
        raise InputError(
            f"{shown(path)} isn't a checkpoint of Lightning: it has no state_dict; take "
            "another file"
        )
    checkpoint["state_dict"] = weights = dict(dict.items(weights))
    for name, x in weights.items():
        if not (isinstance(name, str) and is_ordinary(x)):
            raise InputError(
                f"{shown(path)} is damaged: its weight {shown(str(name))} is no ordinary tensor; "
                "take another file"
            )
    if not isinstance(checkpoint.get("hyper_parameters", {}), dict):
        raise InputError(
            f"{shown(path)} is damaged: its hyper_parameters aren't named; take another file"
        )
    return checkpoint


if __name__ == "__main__":
    from common.training.cli import run_command

    run_command({"inspect": inspect, "export": export})
