"""Base classes of frame encoders (from frames to codes) and frame decoders (from codes to frames).

They take frames `[n c h w]`; the frames of all videos and times are one batch. The DCGAN and VGG
networks are those of SVG and SRVP (Franceschi et al. 2020, appendix B), for frames of any aspect
ratio whose shorter side becomes at most 9 px when both sides are halved several times.
"""

import abc
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from common.errors import InputError, check_counts
from common.typing import Image, ImageShape

Skips = Sequence[Tensor]  # feature maps, coarsest first


class FrameEncoder(nn.Module, abc.ABC):
    """Encoder of frames `[n c h w]`: codes are vectors `[n d]` or feature maps `[n d h' w']`.

    Attributes:
        code_size: Length d of a code, or its number of channels.
    """

    code_size: int

    @abc.abstractmethod
    def forward(self, frames: Image) -> tuple[Tensor, Skips]:
        """Codes, and feature maps for the skip connections of a decoder, coarsest first."""


class FrameDecoder(nn.Module, abc.ABC):
    """Decoder from codes `[n d]` or `[n d h' w']` to frames `[n c h w]`.

    The frames are in `[0, 1]`, unless the decoder has an option for fields of any range.
    """

    @abc.abstractmethod
    def forward(self, codes: Tensor, skips: Skips = ()) -> Image:
        """Frames.

        Args:
            codes: Codes `[n d]` or `[n d h' w']`.
            skips: Feature maps of an encoder; a decoder with skip connections needs them.
        """


EncoderFactory = Callable[[ImageShape], FrameEncoder]
DecoderFactory = Callable[[ImageShape, int, bool], FrameDecoder]  # (shape, code size, with skips)

Head = Literal["tanh", "batch_norm", "linear"]  # of an encoder: what follows its last convolution
Output = Literal["sigmoid", "identity"]  # of a decoder: frames from 0 to 1, or fields


def halvings(shape: ImageShape, width: int) -> tuple[list[int], tuple[int, int]]:
    """Numbers of channels after each halving of a frame, and the final height and width.

    Both sides are halved as often as they are even and the shorter one has more than 4 px.

    Args:
        shape: Channels, height and width of a frame.
        width: Number of channels after the first halving; each further halving doubles it.

    Raises:
        InputError: A frame whose shorter side can't be halved to at most 9 px; no channel, or a
            width below 1.
    """
    check_counts(1, channels=shape[0], width=width)
    _, h, w = shape
    widths = list[int]()
    while h % 2 == w % 2 == 0 and min(h, w) > 4:
        widths.append(width * 2 ** len(widths))
        h, w = h // 2, w // 2
    if not widths or min(h, w) > 9:
        raise InputError(
            f"got frames of {shape[1]}x{shape[2]}; the convolutions halve both sides until the "
            "shorter one has at most 9 px: set data.size or data.canvas to 28, 32, 48, 64 or 128, "
            "or to such as 36x64 or 144x256"
        )
    return widths, (h, w)


def unit_range(h: Tensor) -> Tensor:
    """Sigmoid, from real numbers to `[0, 1]`, in at least single precision.

    In `[0, 1]`, half precision has fewer levels than bytes.
    """
    return h.to(torch.promote_types(h.dtype, torch.float32)).sigmoid()


def output_range(h: Tensor, output: Output) -> Tensor:
    """Values of a decoder: in `[0, 1]` by a sigmoid, or unchanged."""
    return unit_range(h) if output == "sigmoid" else h


def code_layer(conv: nn.Conv2d, kind: Head) -> nn.Module:
    """Last convolution of an encoder with batch norm and tanh, with batch norm only, or alone."""
    if kind == "linear":
        return conv
    return conv_block(conv, nn.Tanh() if kind == "tanh" else nn.Identity())


def activation() -> nn.Module:
    """Leaky ReLU of slope 0.2, the nonlinearity of SVG and SRVP."""
    return nn.LeakyReLU(0.2, inplace=True)


def conv_block(conv: nn.Module, act: nn.Module | None = None) -> nn.Sequential:
    """Convolution, batch norm and nonlinearity.

    Args:
        conv: Convolution, possibly transposed.
        act: Nonlinearity. None: a leaky ReLU of slope 0.2.
    """
    assert isinstance(conv, nn.Conv2d | nn.ConvTranspose2d)
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), act or activation())


def initialize(net: nn.Module) -> None:
    """Initializes the weights of a network as in DCGAN and SRVP, with zero biases."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
    channels_last(net)


def channels_last(net: nn.Module) -> None:
    """Changes a network to the memory format in which convolutions are fastest."""
    option: dict[str, Any] = {"memory_format": torch.channels_last}  # unknown to some stubs
    net.to(**option)


def refuse_skips(decoder: FrameDecoder, skips: bool) -> None:
    """Checks that a decoder without skip connections is not asked for them.

    Raises:
        InputError: `skips` is true.
    """
    if skips:
        name = type(decoder).__name__
        raise InputError(f"{name} has no skip connections; choose DCGANDecoder or VGGDecoder")
