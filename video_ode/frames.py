"""Encoders of a frame into a code, and decoders of a code into a frame.

Time is folded into the batch: all of them take frames `[n c h w]`. The DCGAN and VGG pairs are
those of SVG and SRVP (Franceschi et al. 2020, appendix B), for any size that halves to 3…7 px.
"""

import abc
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import InputError
from common.typing import Image

Shape = tuple[int, int, int]
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


EncoderFactory = Callable[[Shape], FrameEncoder]
DecoderFactory = Callable[[Shape, int, bool], FrameDecoder]  # (shape, code size, with skips)


class DCGANEncoder(FrameEncoder):
    """Convolutions 4x4 of stride 2, then one over what is left, with a tanh.

    Args:
        shape: Channels, height and width of a frame.
        width: Channels of the first convolution; each next one has twice as many.
        code_size: Length of a code.
    """

    def __init__(self, shape: Shape, width: int = 64, code_size: int = 128) -> None:
        super().__init__()
        self.code_size = code_size
        widths, rest = halvings(shape, width)
        blocks = [nn.Sequential(nn.Conv2d(shape[0], width, 4, 2, 1, bias=False), _act())]
        blocks += [conv_block(nn.Conv2d(a, b, 4, 2, 1, bias=False)) for a, b in pairwise(widths)]
        self.blocks = nn.ModuleList(blocks)
        self.last = conv_block(nn.Conv2d(widths[-1], code_size, rest, bias=False), nn.Tanh())
        _initialize(self)

    def forward(self, frames: Image) -> tuple[Tensor, Skips]:
        skips = []
        for block in self.blocks:
            skips.append(frames := block(frames))
        return self.last(frames).flatten(1), skips[::-1]


class DCGANDecoder(FrameDecoder):
    """The mirror image of `DCGANEncoder`.

    Args:
        shape: Channels, height and width of a frame.
        code_size: Length of a code.
        skips: Join the encoder's feature maps to the input of each block.
        width: As the encoder's.
    """

    def __init__(self, shape: Shape, code_size: int, skips: bool = False, width: int = 64) -> None:
        super().__init__()
        widths, rest = halvings(shape, width)
        widths, joined = widths[::-1], 2 if skips else 1
        self.first = conv_block(nn.ConvTranspose2d(code_size, widths[0], rest, bias=False))
        blocks: list[nn.Module] = [
            conv_block(nn.ConvTranspose2d(joined * a, b, 4, 2, 1, bias=False))
            for a, b in pairwise(widths)
        ]
        blocks.append(nn.ConvTranspose2d(joined * width, shape[0], 4, 2, 1, bias=False))
        self.blocks, self.skips = nn.ModuleList(blocks), skips
        _initialize(self)

    def forward(self, codes: Tensor, skips: Skips = ()) -> Image:
        h = self.first(codes[:, :, None, None])
        for i, block in enumerate(self.blocks):
            h = block(torch.cat([h, skips[i]], 1) if self.skips else h)
        return unit_range(h)


class VGGEncoder(FrameEncoder):
    """Stages of two, two, three and three convolutions 3x3, halved by pooling; a tanh at the end.

    Args:
        shape: Channels, height and width of a frame.
        width: Channels of the first stage; each next one has twice as many.
        code_size: Length of a code.
    """

    def __init__(self, shape: Shape, width: int = 64, code_size: int = 128) -> None:
        super().__init__()
        self.code_size = code_size
        widths, rest = halvings(shape, width)
        stages = [
            nn.Sequential(*(_conv3(a if i == 0 else b, b) for i in range(_depth(stage))))
            for stage, (a, b) in enumerate(pairwise([shape[0], *widths]))
        ]
        self.blocks, self.pool = nn.ModuleList(stages), nn.MaxPool2d(2)
        self.last = conv_block(nn.Conv2d(widths[-1], code_size, rest, bias=False), nn.Tanh())
        _initialize(self)

    def forward(self, frames: Image) -> tuple[Tensor, Skips]:
        skips = []
        for block in self.blocks:
            skips.append(h := block(frames))
            frames = self.pool(h)
        return self.last(frames).flatten(1), skips[::-1]


class VGGDecoder(FrameDecoder):
    """The mirror image of `VGGEncoder`, enlarging by repetition of pixels.

    Args:
        shape: Channels, height and width of a frame.
        code_size: Length of a code.
        skips: Join the encoder's feature maps to the input of each stage.
        width: As the encoder's.
    """

    def __init__(self, shape: Shape, code_size: int, skips: bool = False, width: int = 64) -> None:
        super().__init__()
        widths, rest = halvings(shape, width)
        joined, n = 2 if skips else 1, len(widths)
        self.first = conv_block(nn.ConvTranspose2d(code_size, widths[-1], rest, bias=False))
        blocks = []
        for stage in reversed(range(n)):
            inner, out = widths[stage], widths[stage - 1] if stage else shape[0]
            convs: list[nn.Module] = [
                _conv3(joined * inner if i == 0 else inner, inner)
                for i in range(_depth(stage) - 1)
            ]
            convs.append(
                _conv3(inner, out)
                if stage
                else nn.ConvTranspose2d(inner, out, 3, padding=1, bias=False)
            )
            blocks.append(nn.Sequential(*convs))
        self.blocks, self.grow, self.skips = (
            nn.ModuleList(blocks),
            nn.Upsample(scale_factor=2),
            skips,
        )
        _initialize(self)

    def forward(self, codes: Tensor, skips: Skips = ()) -> Image:
        h = self.first(codes[:, :, None, None])
        for i, block in enumerate(self.blocks):
            h = self.grow(h)
            h = block(torch.cat([h, skips[i]], 1) if self.skips else h)
        return unit_range(h)


def halvings(shape: Shape, width: int) -> tuple[list[int], int]:
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


def _depth(stage: int) -> int:
    return 2 if stage < 2 else 3


def _act() -> nn.Module:
    return nn.LeakyReLU(0.2, inplace=True)


def conv_block(conv: nn.Module, act: nn.Module | None = None) -> nn.Sequential:
    """A convolution, its batch norm and a nonlinearity, a leaky ReLU if none is given."""
    assert isinstance(conv, nn.Conv2d | nn.ConvTranspose2d)
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), act or _act())


def _conv3(n_in: int, n_out: int) -> nn.Sequential:
    return conv_block(nn.Conv2d(n_in, n_out, 3, padding=1, bias=False))


def _initialize(net: nn.Module) -> None:
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
