"""VGG encoder and decoder of frames (Simonyan and Zisserman 2015), as in SVG and SRVP."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from common.errors import check_counts
from common.typing import Image, ImageShape
from video_ode.frames.base import (
    FrameDecoder,
    FrameEncoder,
    Head,
    Output,
    Skips,
    code_layer,
    conv_block,
    halvings,
    initialize,
    output_range,
)


class VGGEncoder(FrameEncoder):
    """VGG encoder: stages of two, two, three and three 3x3 convolutions.

    Pooling after each stage halves the size. A last convolution over the whole feature map gives
    the code.

    Args:
        shape: Channels, height and width of a frame.
        width: Number of channels of the first stage; each further one has twice as many.
        code_size: Length of a code.
        bias: Give the convolutions biases.
        head: What follows the last convolution: batch norm and `tanh`, `batch_norm` only, or
            nothing (`linear`).
        extra: Have one stage more, the last one, without pooling after it: the network of Donà et
            al. (2021) for frames of 32 px.
    """

    def __init__(
        self,
        shape: ImageShape,
        width: int = 64,
        code_size: int = 128,
        bias: bool = False,
        head: Head = "tanh",
        extra: bool = False,
    ) -> None:
        super().__init__()
        check_counts(1, code_size=code_size)
        self.code_size = code_size
        widths, rest = _stages(shape, width, extra)
        stages = [
            nn.Sequential(*(_conv3(a if i == 0 else b, b, bias) for i in range(_depth(stage))))
            for stage, (a, b) in enumerate(pairwise([shape[0], *widths]))
        ]
        self.blocks, self.extra = nn.ModuleList(stages), extra
        self.last = code_layer(nn.Conv2d(widths[-1], code_size, rest, bias=bias), head)
        initialize(self)

    def forward(self, frames: Image) -> tuple[Tensor, Skips]:
        skips = []
        for i, block in enumerate(self.blocks, 1):
            skips.append(frames := block(frames))
            if i < len(self.blocks) or not self.extra:
                frames = nn.functional.max_pool2d(frames, 2)
        return self.last(frames).flatten(1), skips[::-1]


class VGGDecoder(FrameDecoder):
    """VGG decoder: the stages of `VGGEncoder` in reverse order.

    Before each stage, repetition of pixels doubles the size.

    Args:
        shape: Channels, height and width of a frame.
        code_size: Length of a code.
        skips: Concatenate feature maps of the encoder with the input of each stage.
        width: The `width` of the encoder.
        bias: Give the convolutions biases.
        output: Range of the frames: 0 to 1 by a `sigmoid`, or any (`identity`).
        extra: The `extra` of the encoder.
    """

    def __init__(
        self,
        shape: ImageShape,
        code_size: int,
        skips: bool = False,
        width: int = 64,
        bias: bool = False,
        output: Output = "sigmoid",
        extra: bool = False,
    ) -> None:
        super().__init__()
        widths, rest = _stages(shape, width, extra)
        joined, n = 2 if skips else 1, len(widths)
        self.first = conv_block(nn.ConvTranspose2d(code_size, widths[-1], rest, bias=bias))
        blocks = []
        for stage in reversed(range(n)):
            inner, out = widths[stage], widths[stage - 1] if stage else shape[0]
            convs: list[nn.Module] = [
                _conv3(joined * inner if i == 0 else inner, inner, bias)
                for i in range(_depth(stage) - 1)
            ]
            convs.append(
                _conv3(inner, out, bias)
                if stage
                else nn.ConvTranspose2d(inner, out, 3, padding=1, bias=bias)
            )
            blocks.append(nn.Sequential(*convs))
        self.blocks, self.skips = nn.ModuleList(blocks), skips
        self.output, self.extra = output, extra
        initialize(self)

    def forward(self, codes: Tensor, skips: Skips = ()) -> Image:
        h = self.first(codes[:, :, None, None])
        for i, block in enumerate(self.blocks):
            if i or not self.extra:
                h = nn.functional.interpolate(h, scale_factor=2)
            h = block(torch.cat([h, skips[i]], 1) if self.skips else h)
        return output_range(h, self.output)


def _depth(stage: int) -> int:
    return 2 if stage < 2 else 3


def _stages(shape: ImageShape, width: int, extra: bool) -> tuple[list[int], tuple[int, int]]:
    """Numbers of channels of the stages, and the final height and width."""
    widths, rest = halvings(shape, width)
    return widths + [2 * widths[-1]] * extra, rest


def _conv3(n_in: int, n_out: int, bias: bool) -> nn.Sequential:
    return conv_block(nn.Conv2d(n_in, n_out, 3, padding=1, bias=bias))
