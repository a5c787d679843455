"""Small encoder and decoder of small frames, for computers with few cores."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from common.errors import InputError, check_counts
from common.typing import Image, ImageShape
from video_ode.frames.base import (
    FrameDecoder,
    FrameEncoder,
    Skips,
    channels_last,
    conv_block,
    halvings,
    refuse_skips,
    unit_range,
)


class SmallEncoder(FrameEncoder):
    """Small encoder: 4x4 convolutions of stride 2 and a linear layer, for frames of 28 or 32 px.

    A code has two parts: the output of the linear layer, which depends on the positions of things,
    and optionally the largest responses of a convolution over the whole frame, which depend only
    on the things themselves.

    Args:
        shape: Channels, height and width of a frame.
        widths: Numbers of channels of the convolutions, two or more.
        code_size: Length of the part of a code that depends on positions.
        pooled: Length of the part of a code that doesn't depend on positions; 0: no such part.

    Raises:
        InputError: Fewer than two widths, frames that don't fit them, or numbers below their
            minimum.
    """

    def __init__(
        self,
        shape: ImageShape,
        widths: tuple[int, ...] = (8, 32, 64),
        code_size: int = 128,
        pooled: int = 0,
    ) -> None:
        super().__init__()
        check_counts(1, shape=shape, widths=widths, code_size=code_size)
        check_counts(0, pooled=pooled)
        stride = 2 ** len(widths)
        if len(widths) < 2:
            raise InputError(f"got widths {widths}; give two or more")
        if shape[1] % stride or shape[2] % stride:
            raise InputError(
                f"got frames of {shape[1]}x{shape[2]}; give frames whose sides can be halved "
                f"{len(widths)} times, or fewer widths"
            )
        self.code_size = code_size + pooled
        self.blocks = nn.ModuleList(
            conv_block(nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.ReLU())
            for a, b in pairwise((shape[0], *widths))
        )
        self.last = _dense(widths[-1] * (shape[1] // stride) * (shape[2] // stride), code_size)
        self.look: nn.Module | None = None
        if pooled:
            self.look = nn.Sequential(
                conv_block(nn.Conv2d(widths[-2], pooled, 3, padding=1, bias=False), nn.ReLU()),
                nn.AdaptiveMaxPool2d(1),
                nn.Flatten(),
                nn.BatchNorm1d(pooled),
                nn.Tanh(),
            )
        channels_last(self)

    def forward(self, frames: Image) -> tuple[Tensor, Skips]:
        skips = []
        for block in self.blocks:
            skips.append(frames := block(frames))
        codes = self.last(frames.flatten(1))
        if self.look is not None:
            codes = torch.cat([codes, self.look(skips[-2])], 1)
        return codes, skips[::-1]


class SmallDecoder(FrameDecoder):
    """Small decoder: two linear layers, a transposed convolution, and a pixel shuffle.

    Args:
        shape: Channels, height and width of a frame.
        code_size: Length of a code.
        skips: Must be false: there are no skip connections.
        width: Number of channels of the feature maps.
        hidden: Number of units of the first layer.

    Raises:
        InputError: `skips` is true, or the frame can't be halved.
    """

    def __init__(
        self,
        shape: ImageShape,
        code_size: int,
        skips: bool = False,
        width: int = 64,
        hidden: int = 256,
    ) -> None:
        super().__init__()
        refuse_skips(self, skips)
        check_counts(1, width=width, hidden=hidden)
        widths, (h, w) = halvings(shape, 1)
        growth = 2 ** (len(widths) - 1)
        self.first = nn.Sequential(_dense(code_size, hidden), _dense(hidden, width * h * w))
        self.grow = conv_block(nn.ConvTranspose2d(width, width, 4, 2, 1, bias=False))
        self.last = nn.Sequential(
            nn.Conv2d(width, shape[0] * growth**2, 3, padding=1), nn.PixelShuffle(growth)
        )
        self.size = (width, h, w)
        channels_last(self)

    def forward(self, codes: Tensor, skips: Skips = ()) -> Image:
        maps = self.first(codes).unflatten(1, self.size)
        return unit_range(self.last(self.grow(maps.contiguous(memory_format=torch.channels_last))))


def _dense(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, n_out, bias=False), nn.BatchNorm1d(n_out), nn.ReLU())
