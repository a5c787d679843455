"""VGG encoder and decoder of frames (Simonyan and Zisserman 2015), as in SVG and SRVP."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from common.errors import check_counts
from common.typing import Image, ImageShape
from video_ode.frames.base import (
    FrameDecoder,
    FrameEncoder,
    Skips,
    conv_block,
    halvings,
    initialize,
    unit_range,
)


class VGGEncoder(FrameEncoder):
    """VGG encoder: stages of two, two, three and three 3x3 convolutions.

    Pooling after each stage halves the size. A last convolution over the whole feature map and a
    tanh give the code.

    Args:
        shape: Channels, height and width of a frame.
        width: Number of channels of the first stage; each further one has twice as many.
        code_size: Length of a code.
    """

    def __init__(self, shape: ImageShape, width: int = 64, code_size: int = 128) -> None:
        super().__init__()
        check_counts(1, code_size=code_size)
        self.code_size = code_size
        widths, rest = halvings(shape, width)
        stages = [
            nn.Sequential(*(_conv3(a if i == 0 else b, b) for i in range(_depth(stage))))
            for stage, (a, b) in enumerate(pairwise([shape[0], *widths]))
        ]
        self.blocks, self.pool = nn.ModuleList(stages), nn.MaxPool2d(2)
        self.last = conv_block(nn.Conv2d(widths[-1], code_size, rest, bias=False), nn.Tanh())
        initialize(self)

    def forward(self, frames: Image) -> tuple[Tensor, Skips]:
        skips = []
        for block in self.blocks:
            skips.append(h := block(frames))
            frames = self.pool(h)
        return self.last(frames).flatten(1), skips[::-1]


class VGGDecoder(FrameDecoder):
    """VGG decoder: the stages of `VGGEncoder` in reverse order.

    Before each stage, repetition of pixels doubles the size.

    Args:
        shape: Channels, height and width of a frame.
        code_size: Length of a code.
        skips: Concatenate feature maps of the encoder with the input of each stage.
        width: The `width` of the encoder.
    """

    def __init__(
        self, shape: ImageShape, code_size: int, skips: bool = False, width: int = 64
    ) -> None:
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
        initialize(self)

    def forward(self, codes: Tensor, skips: Skips = ()) -> Image:
        h = self.first(codes[:, :, None, None])
        for i, block in enumerate(self.blocks):
            h = self.grow(h)
            h = block(torch.cat([h, skips[i]], 1) if self.skips else h)
        return unit_range(h)


def _depth(stage: int) -> int:
    return 2 if stage < 2 else 3


def _conv3(n_in: int, n_out: int) -> nn.Sequential:
    return conv_block(nn.Conv2d(n_in, n_out, 3, padding=1, bias=False))
