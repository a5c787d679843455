"""Model files: the weights and the record of a trained model in one safetensors file.

Such files are small and hold no code. Those in the folder `models` of a package ship with it.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from common.errors import InputError
from common.files import read_safetensors, shown, written_whole

ENDING, RECORD = ".safetensors", "checkpoint"
CONFIGURATION = "configuration"  # key of the name of the configuration that trained the model
KEPT = (
    "hyper_parameters",
    "pytorch-lightning_version",
    "global_step",
    "epoch",
    CONFIGURATION,
)


def shipped_models(package: Path) -> dict[str, Path]:
    """Files of the models that ship with a package, by name.

    Args:
        package: Folder of the package.
    """
    return {path.stem: path for path in sorted((package / "models").glob(f"*{ENDING}"))}


def package_of(kind: type) -> Path:
    """Folder of the package in which a class is defined."""
    module = sys.modules.get(kind.__module__.partition(".")[0])
    return Path(getattr(module, "__file__", None) or "__init__.py").parent


def read_model_file(path: str | Path) -> dict[str, Any]:
    """Content of a model file, as that of a checkpoint with weights only.

    Raises:
        InputError: There is no such file, it is damaged, or it holds no record of a model.
    """
    weights, metadata = read_safetensors(path)
    try:
        record = json.loads(metadata[RECORD])
        kept = {key: record[key] for key in KEPT if key in record}
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{shown(path)} holds no record of a model; take a file that `python -m "
            "common.training.checkpoints export` wrote"
        ) from error
    return {**kept, "state_dict": weights}


def write_model_file(
    checkpoint: dict[str, Any], path: str | Path, configuration: str, half: bool = True
) -> None:
    """Writes the weights and the record of a checkpoint as a model file.

    Args:
        checkpoint: Content of a checkpoint; averaged weights are its weights already.
        path: File to write.
        configuration: Name of the configuration that trained the model.
        half: Write matrices and kernels in half precision; vectors and statistics stay as are.
    """
    content = {**checkpoint, CONFIGURATION: configuration}
    record = json.dumps({key: content[key] for key in KEPT if key in content})
    weights = {
        name: (_halved(x) if half else x).contiguous().clone()  # no two in one memory
        for name, x in checkpoint["state_dict"].items()
    }
    with written_whole(path) as file:
        file.write_bytes(save(weights, {"format": "pt", RECORD: record}))


def _halved(x: Tensor) -> Tensor:
    """The tensor in half precision, if it is a matrix or kernel whose entries are in its range."""
    half = x.half()
    small = x.dtype == torch.float32 and x.dim() > 1 and bool(half.isfinite().all())
    return half if small else x
