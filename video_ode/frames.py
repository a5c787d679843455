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
        widths, rest = _widths(shape, width)
        blocks = [nn.Sequential(nn.Conv2d(shape[0], width, 4, 2, 1, bias=False), _act())]
        blocks += [_block(nn.Conv2d(a, b, 4, 2, 1, bias=False)) for a, b in pairwise(widths)]
        self.blocks = nn.ModuleList(blocks)
        self.last = _block(nn.Conv2d(widths[-1], code_size, rest, bias=False), nn.Tanh())
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
        widths, rest = _widths(shape, width)
        widths, joined = widths[::-1], 2 if skips else 1
        self.first = _block(nn.ConvTranspose2d(code_size, widths[0], rest, bias=False))
        blocks: list[nn.Module] = [
            _block(nn.ConvTranspose2d(joined * a, b, 4, 2, 1, bias=False))
            for a, b in pairwise(widths)
        ]
        blocks.append(nn.ConvTranspose2d(joined * width, shape[0], 4, 2, 1, bias=False))
        self.blocks, self.skips = nn.ModuleList(blocks), skips
        _initialize(self)

    def forward(self, codes: Tensor, skips: Skips = ()) -> Image:
        h = self.first(codes[:, :, None, None])
        for i, block in enumerate(self.blocks):
            h = block(torch.cat([h, skips[i]], 1) if self.skips else h)
        return _unit(h)


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
        widths, rest = _widths(shape, width)
        stages = [
            nn.Sequential(*(_conv3(a if i == 0 else b, b) for i in range(_depth(stage))))
            for stage, (a, b) in enumerate(pairwise([shape[0], *widths]))
        ]
        self.blocks, self.pool = nn.ModuleList(stages), nn.MaxPool2d(2)
        self.last = _block(nn.Conv2d(widths[-1], code_size, rest, bias=False), nn.Tanh())
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
        widths, rest = _widths(shape, width)
        joined, n = 2 if skips else 1, len(widths)
        self.first = _block(nn.ConvTranspose2d(code_size, widths[-1], rest, bias=False))
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
        return _unit(h)


class SmallEncoder(FrameEncoder):
    """Convolutions 4x4 of stride 2 and a linear layer: for frames of 28 or 32 px on few cores.

    Args:
        shape: Channels, height and width of a frame.
        widths: Channels of the convolutions.
        code_size: Numbers of a code that see where things are.
        pooled: Numbers of a code beside them that see only what is there: the largest answers of
            a convolution anywhere in the frame.
    """

    def __init__(
        self,
        shape: Shape,
        widths: tuple[int, ...] = (8, 32, 64),
        code_size: int = 128,
        pooled: int = 0,
    ) -> None:
        super().__init__()
        rest = shape[1] // 2 ** len(widths)
        if len(widths) < 2:
            raise InputError(f"got widths {widths}; give two or more")
        if shape[1] != shape[2] or rest * 2 ** len(widths) != shape[1]:
            raise InputError(
                f"got frames of {shape[1]}x{shape[2]}, which can't be halved {len(widths)} times "
                "as squares; give fewer widths"
            )
        self.code_size = code_size + pooled
        self.blocks = nn.ModuleList(
            _block(nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.ReLU())
            for a, b in pairwise((shape[0], *widths))
        )
        self.last = _dense(widths[-1] * rest**2, code_size)
        self.look: nn.Module | None = None
        if pooled:
            self.look = nn.Sequential(
                _block(nn.Conv2d(widths[-2], pooled, 3, padding=1, bias=False), nn.ReLU()),
                nn.AdaptiveMaxPool2d(1),
                nn.Flatten(),
                nn.BatchNorm1d(pooled),
                nn.Tanh(),
            )
        _channels_last(self)

    def forward(self, frames: Image) -> tuple[Tensor, Skips]:
        skips = []
        for block in self.blocks:
            skips.append(frames := block(frames))
        codes = self.last(frames.flatten(1))
        if self.look is not None:
            codes = torch.cat([codes, self.look(skips[-2])], 1)
        return codes, skips[::-1]


class SmallDecoder(FrameDecoder):
    """Two linear layers, one transposed convolution, and the rest of the way by pixel shuffle.

    Args:
        shape: Channels, height and width of a frame.
        code_size: Length of a code.
        skips: Must be false.
        width: Channels of the feature maps.
        hidden: Units of the first layer.
    """

    def __init__(
        self, shape: Shape, code_size: int, skips: bool = False, width: int = 64, hidden: int = 256
    ) -> None:
        super().__init__()
        _without_skips(self, skips)
        _, rest = _widths(shape, 1)
        growth = shape[1] // (2 * rest)
        self.first = nn.Sequential(_dense(code_size, hidden), _dense(hidden, width * rest**2))
        self.grow = _block(nn.ConvTranspose2d(width, width, 4, 2, 1, bias=False))
        self.last = nn.Sequential(
            nn.Conv2d(width, shape[0] * growth**2, 3, padding=1), nn.PixelShuffle(growth)
        )
        self.size = (width, rest, rest)
        _channels_last(self)

    def forward(self, codes: Tensor, skips: Skips = ()) -> Image:
        maps = self.first(codes).unflatten(1, self.size)
        return _unit(self.last(self.grow(maps.contiguous(memory_format=torch.channels_last))))


class SpriteDecoder(FrameDecoder):
    """Pictures that the code paints and puts at places that it names, on a dark ground.

    A spatial transformer that only shifts (Jaderberg et al. 2015): the place is linear in the
    code, so that what moves straight in the code moves straight in the frame. For scenes of few
    things on black, as Moving MNIST, where it learns many times faster than convolutions.

    Args:
        shape: Channels, height and width of a frame.
        code_size: Length of a code.
        skips: Must be false.
        sprites: How many.
        size: Height and width of a sprite.
        hidden: Units of the layer that paints.
    """

    GROUND = 0.003

    def __init__(
        self,
        shape: Shape,
        code_size: int,
        skips: bool = False,
        sprites: int = 1,
        size: int = 16,
        hidden: int = 256,
    ) -> None:
        super().__init__()
        _without_skips(self, skips)
        self.paint = nn.Sequential(
            nn.Linear(code_size, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, sprites * shape[0] * size**2),
        )
        self.place = nn.Linear(code_size, sprites * 2)
        nn.init.normal_(self.place.weight, 0.0, 0.1)
        self.size, self.canvas = (sprites, shape[0], size, size), shape[1:]
        self.reach = shape[1] / 8

    def forward(self, codes: Tensor, skips: Skips = ()) -> Image:
        painted = self.paint(codes)
        # In half precision a place would be wrong by a tenth of a pixel.
        with torch.autocast(codes.device.type, enabled=False):
            codes, painted = (
                x.to(torch.promote_types(x.dtype, torch.float32)) for x in (codes, painted)
            )
            ink = nn.functional.softplus(painted.unflatten(1, self.size))
            y, x = (self.reach * self.place(codes)).unflatten(1, (-1, 2)).unbind(-1)
            rows, columns = (
                self._spread(n, at)[:, :, None] for n, at in zip(self.canvas, (y, x), strict=True)
            )
            # Ink adds up where sprites overlap and never exceeds white; nowhere is there none, or
            # a Bernoulli likelihood would be infinite there.
            return 1 - (-(rows @ ink @ columns.mT).sum(1) - self.GROUND).exp()

    def _spread(self, n: int, shift: Tensor) -> Tensor:
        """How much of each sprite's pixel falls on each of `n`, bilinearly."""
        canvas, pixels = (
            torch.arange(k, device=shift.device) - (k - 1) / 2 for k in (n, self.size[-1])
        )
        distance = canvas[:, None] - shift[..., None, None] - pixels
        return (1 - distance.abs()).clamp(min=0)


def _widths(shape: Shape, width: int) -> tuple[list[int], int]:
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


def _unit(h: Tensor) -> Image:
    """Into `[0, 1]`, where half precision has fewer levels than bytes."""
    return h.to(torch.promote_types(h.dtype, torch.float32)).sigmoid()


def _dense(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, n_out, bias=False), nn.BatchNorm1d(n_out), nn.ReLU())


def _without_skips(decoder: FrameDecoder, skips: bool) -> None:
    if skips:
        name = type(decoder).__name__
        raise InputError(f"{name} takes no skip connections; choose DCGANDecoder or VGGDecoder")


def _depth(stage: int) -> int:
    return 2 if stage < 2 else 3


def _act() -> nn.Module:
    return nn.LeakyReLU(0.2, inplace=True)


def _block(conv: nn.Module, act: nn.Module | None = None) -> nn.Sequential:
    assert isinstance(conv, nn.Conv2d | nn.ConvTranspose2d)
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), act or _act())


def _conv3(n_in: int, n_out: int) -> nn.Sequential:
    return _block(nn.Conv2d(n_in, n_out, 3, padding=1, bias=False))


def _initialize(net: nn.Module) -> None:
    """SRVP's initialization."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
    _channels_last(net)


def _channels_last(net: nn.Module) -> None:
    """The memory format that convolutions are fastest in."""
    option: dict[str, Any] = {"memory_format": torch.channels_last}  # unknown to some stubs
    net.to(**option)
