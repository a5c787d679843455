"""Encoder and decoder whose codes are feature maps, for fields such as the sea surface.

They are those of Donà et al. (2021, appendix): the codes keep a quarter of the height and width.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from common.errors import InputError, check_counts
from common.typing import Image, ImageShape
from video_ode.frames.base import (
    FrameDecoder,
    FrameEncoder,
    Output,
    Skips,
    conv_block,
    initialize,
    output_range,
)


class MapEncoder(FrameEncoder):
    """Encoder to feature maps `[n d h/4 w/4]`: three stages of 3x3 convolutions and two poolings.

    Args:
        shape: Channels, height and width of a frame; height and width must be multiples of 4.
        width: Number of channels of the first stage; each further one has twice as many.
        code_size: Number of channels of a code.

    Raises:
        InputError: Frames of another size, or numbers below their minimum.
    """

    def __init__(self, shape: ImageShape, width: int = 64, code_size: int = 64) -> None:
        super().__init__()
        check_counts(1, channels=shape[0], width=width, code_size=code_size)
        _check_size(shape)
        self.code_size = code_size
        self.blocks = nn.ModuleList(
            [
                _convs(shape[0], width, width),
                _convs(width, 2 * width, 2 * width),
                _convs(2 * width, 4 * width, 4 * width, 4 * width),
            ]
        )
        last = nn.Conv2d(code_size, code_size, 3, padding=1)
        self.last = nn.Sequential(_convs(4 * width, 8 * width, code_size), last)
        initialize(self)

    def forward(self, frames: Image) -> tuple[Tensor, Skips]:
        skips = []
        for i, block in enumerate(self.blocks):
            skips.append(frames := block(nn.functional.max_pool2d(frames, 2) if i else frames))
        return self.last(frames), skips[::-1]


class MapDecoder(FrameDecoder):
    """Decoder from feature maps `[n d h/4 w/4]`: 3x3 convolutions, and repetition of pixels.

    Args:
        shape: Channels, height and width of a frame; height and width must be multiples of 4.
        code_size: Number of channels of a code.
        skips: Concatenate feature maps of the encoder with the input of each later stage.
        width: The `width` of the encoder.
        output: Range of the frames: 0 to 1 by a `sigmoid`, or any (`identity`).

    Raises:
        InputError: Frames of another size, or numbers below their minimum.
    """

    def __init__(
        self,
        shape: ImageShape,
        code_size: int,
        skips: bool = False,
        width: int = 64,
        output: Output = "sigmoid",
    ) -> None:
        super().__init__()
        check_counts(1, width=width, code_size=code_size)
        _check_size(shape)
        w, c, n = width, shape[0], int(skips)
        stages = [_convs(code_size, 4 * w, 4 * w, 2 * w)]
        if skips:
            stages += [_convs(6 * w, 2 * w, w, w), _convs(3 * w, 2 * w, w, w)]
            stages.append(_convs(2 * w, w, w, c))
        else:
            stages += [_convs(2 * w, 2 * w, 2 * w, w), _convs(w, w, c)]
        self.blocks, self.skips, self.output = nn.ModuleList(stages), skips, output
        self.growing = range(1 + n, 3 + n)  # stages before which height and width double
        initialize(self)

    def forward(self, codes: Tensor, skips: Skips = ()) -> Image:
        h = codes
        for i, block in enumerate(self.blocks):
            if i in self.growing:
                h = nn.functional.interpolate(h, scale_factor=2)
            h = block(torch.cat([skips[i - 1], h], 1) if self.skips and i else h)
        return output_range(h, self.output)


def _convs(*widths: int) -> nn.Sequential:
    """3x3 convolutions with biases, batch norm and leaky ReLU."""
    return nn.Sequential(*(conv_block(nn.Conv2d(a, b, 3, padding=1)) for a, b in pairwise(widths)))


def _check_size(shape: ImageShape) -> None:
    if shape[1] % 4 or shape[2] % 4:
        raise InputError(
            f"got frames of {shape[1]}x{shape[2]}; give frames whose sides are multiples of 4"
        )
