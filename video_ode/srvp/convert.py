"""Conversion of the checkpoints that the authors of SRVP published, to this project's and back.

    python -m video_ode.srvp.convert model.pt srvp_kth.ckpt

writes a file for `--ckpt_path`, to be used with the configuration of that data set.
"""

import re
from functools import partial
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from common.errors import InputError, check_output
from common.files import written_whole
from common.metrics.weights import read_weights
from common.nn.mlp import MLPField
from common.training.cli import run_command
from video_ode.dynamics.residual import ResidualEuler
from video_ode.frames.dcgan import DCGANDecoder, DCGANEncoder
from video_ode.frames.vgg import VGGDecoder, VGGEncoder
from video_ode.srvp.model import SRVP

# Names of this project and published names of the same parts. The numbers of layers differ too:
# here an activation counts as a layer, there it is a part of a layer.
PARTS = {
    "project.": "w_proj.",
    "content.": "w_inf.",
    "first.": "q_y.module.",
    "recurrent.": "inf_z.",
    "posterior.": "q_z.",
    "prior.": "p_z.module.",
    "dynamics.field.net.": "dynamics.module.",
    "encoder.blocks.": "encoder.conv.",
    "encoder.last.": "encoder.last_conv.",
    "decoder.first.": "decoder.first_upconv.",
    "decoder.blocks.": "decoder.conv.",
}
MLPS = ("q_y.module.", "p_z.module.", "dynamics.module.")


def to_published(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of an `SRVP` under the published names.

    Args:
        weights: State dictionary of an `SRVP`.
    """
    vgg = any(re.match(r"encoder\.blocks\.\d+\.\d+\.\d+\.", name) for name in weights)
    return {_published_name(name, vgg): value for name, value in weights.items()}


def from_published(weights: dict[str, Tensor], steps: int = 1) -> SRVP:
    """Model with published weights; the shapes of the weights give all its sizes.

    Args:
        weights: Published state dictionary, for frames of 64x64.
        steps: Number of Euler steps between frames. The authors trained with 2 on KTH, Human3.6M
            and BAIR, and with 1 on Moving MNIST.

    Raises:
        InputError: The weights aren't finite weights of SRVP.
    """
    try:
        model = _model_of({name: value.shape for name, value in weights.items()}, steps)
    except Exception as error:  # other weights may lead to any exception
        missing = f"{error} is missing" if isinstance(error, KeyError) else "their shapes differ"
        raise InputError(f"these aren't weights of SRVP: {missing}") from error
    if not all(bool(value.isfinite().all()) for value in weights.values()):
        raise InputError("these weights of SRVP are NaN or infinite; download the file again")
    names = dict(zip(to_published(model.state_dict()), model.state_dict(), strict=True))
    if odd := sorted({*weights} ^ {*names}):
        raise InputError(f"these aren't weights of SRVP: {len(odd)} names differ, e.g. {odd[0]}")
    try:
        model.load_state_dict({names[name]: value for name, value in weights.items()})
    except RuntimeError as error:
        raise InputError("these aren't weights of SRVP: their shapes differ") from error
    return model


def load_published(path: str | Path, steps: int = 1) -> SRVP:
    """Model of a published file `model.pt`.

    Args:
        path: Published file.
        steps: Number of Euler steps between frames, see `from_published`.

    Raises:
        InputError: There is no such file, or it holds other weights.
    """
    need = "download the published files from data.lip6.fr/srvp"
    return from_published(read_weights(path, need), steps)


def convert(source: str, target: str) -> None:
    """Writes the weights of a published file `model.pt` as a checkpoint for `--ckpt_path`.

    Args:
        source: Published file.
        target: Checkpoint to write.
    """
    check_output(target, ".ckpt")
    weights = load_published(source).state_dict()
    state = {f"predictor.{name}": value for name, value in weights.items()}
    version = metadata.version("pytorch-lightning")
    with written_whole(target) as file:
        torch.save({"state_dict": state, "pytorch-lightning_version": version}, file)
    print(f"checkpoint: {Path(target).resolve()}")


def _model_of(shapes: dict[str, torch.Size], steps: int) -> SRVP:
    vgg = "encoder.conv.0.0.0.weight" in shapes
    image = shapes["encoder.conv.0.0.0.weight" if vgg else "encoder.conv.0.0.weight"]
    decoder = shapes["decoder.conv.0.0.0.weight" if vgg else "decoder.conv.0.0.weight"]
    code = shapes["w_proj.0.weight"][1]
    width, inner = shapes["dynamics.module.0.0.weight"][0], decoder[1 if vgg else 0]
    encoders = (VGGEncoder, VGGDecoder) if vgg else (DCGANEncoder, DCGANDecoder)
    field = partial(MLPField, width=width, layers=4)
    return SRVP(
        (image[1], 64, 64),
        partial(encoders[0], width=image[0], code_size=code),
        partial(encoders[1], width=image[0]),
        partial(ResidualEuler, field=field, steps=steps),
        y_size=shapes["p_z.module.0.0.weight"][1],
        z_size=shapes["q_z.weight"][0] // 2,
        n_inference=shapes["q_y.module.0.0.weight"][1] // code,
        hidden=shapes["w_inf.0.weight"][0],
        prior_width=shapes["p_z.module.0.0.weight"][0],
        skips=inner == 16 * image[0],
    )


def _published_name(name: str, vgg: bool) -> str:
    """Published name of a weight of an `SRVP` with VGG or DCGAN networks."""
    part = next(part for part in PARTS if name.startswith(part))
    published, rest = PARTS[part], name.removeprefix(part)
    index, _, tail = rest.partition(".")
    if published in MLPS:
        layer = int(index) // 2
        return f"{published}{layer}.{min(layer, 1)}.{tail}"
    if vgg and published == "encoder.conv." and index != "0":
        inner, _, tail = tail.partition(".")  # the first layer of a published stage is a pooling
        return f"{published}{index}.{int(inner) + 1}.{tail}"
    if vgg and published in ("encoder.last_conv.", "decoder.first_upconv."):
        return f"{published}{1 if 'last' in published else 0}.{rest}"
    return published + rest


if __name__ == "__main__":
    run_command([convert])
