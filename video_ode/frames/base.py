"""Encoders of a frame into a code, and decoders of a code into a frame.

Time is folded into the batch: all of them take frames `[n c h w]`. The DCGAN and VGG pairs are
those of SVG and SRVP (Franceschi et al. 2020, appendix B), for any size that halves to 3…7 px.
"""

import abc
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import InputError
from common.typing import Image, ImageShape

Skips = Sequence[Tensor]  # feature maps, coarsest first


class FrameEncoder(nn.Module, abc.ABC):
    """Frames `[n c h w]` in `[0, 1]` to codes `[n d]`, with feature maps on the way.

    Attributes:
        code_size: Length d of a code.
    """

    code_size: int

    @abc.abstractmethod
    def forward(self, frames: Image) -> tuple[Tensor, Skips]:
        """Codes, and feature maps for a decoder's skip connections."""


class FrameDecoder(nn.Module, abc.ABC):
    """Codes `[n d]` to frames `[n c h w]` in `[0, 1]`."""

    @abc.abstractmethod
    def forward(self, codes: Tensor, skips: Skips = ()) -> Image:
        """Frames; a decoder built with `skips` needs an encoder's feature maps."""


EncoderFactory = Callable[[ImageShape], FrameEncoder]


DecoderFactory = Callable[[ImageShape, int, bool], FrameDecoder]  # (shape, code size, with skips)


def halvings(shape: ImageShape, width: int) -> tuple[list[int], int]:
    """Channels of each halving, and the size that is left."""
    _, height, breadth = shape
    size, widths = height, list[int]()
    while size % 2 == 0 and size > 4:
        widths.append(width * 2 ** len(widths))
        size //= 2
    if height != breadth or not widths or size > 7:
        raise InputError(
            f"got frames of {height}x{breadth}; the convolutions need squares that halve to at "
            "most 7 px, such as 28, 32, 48, 64 or 128: set data.size or data.canvas"
        )
    return widths, size


def unit_range(h: Tensor) -> Image:
    """Into `[0, 1]`, where half precision has fewer levels than bytes."""
    return h.to(torch.promote_types(h.dtype, torch.float32)).sigmoid()


def activation() -> nn.Module:
    """Leaky rectifier of slope 0.2, the nonlinearity of SVG and SRVP."""
    return nn.LeakyReLU(0.2, inplace=True)


def conv_block(conv: nn.Module, act: nn.Module | None = None) -> nn.Sequential:
    """A convolution, its batch norm and a nonlinearity, a leaky ReLU if none is given."""
    assert isinstance(conv, nn.Conv2d | nn.ConvTranspose2d)
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), act or activation())


def initialize(net: nn.Module) -> None:
    """SRVP's initialization."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
    channels_last(net)


def channels_last(net: nn.Module) -> None:
    """The memory format that convolutions are fastest in."""
    option: dict[str, Any] = {"memory_format": torch.channels_last}  # unknown to some stubs
    net.to(**option)


def refuse_skips(decoder: FrameDecoder, skips: bool) -> None:
    """Raises an `InputError` if skip connections are asked of a decoder that has none."""
    if skips:
        name = type(decoder).__name__
        raise InputError(f"{name} takes no skip connections; choose DCGANDecoder or VGGDecoder")
