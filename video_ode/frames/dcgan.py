"""DCGAN encoder and decoder of frames (Radford et al. 2016), as in SVG and SRVP."""

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
    activation,
    code_layer,
    conv_block,
    halvings,
    initialize,
    output_range,
)


class DCGANEncoder(FrameEncoder):
    """DCGAN encoder: 4x4 convolutions of stride 2, then a last convolution for the code.

    The last convolution covers the whole feature map.

    Args:
        shape: Channels, height and width of a frame.
        width: Number of channels of the first convolution; each further one has twice as many.
        code_size: Length of a code.
        bias: Give the convolutions biases.
        head: What follows the last convolution: batch norm and `tanh`, `batch_norm` only, or
            nothing (`linear`).
    """

    def __init__(
        self,
        shape: ImageShape,
        width: int = 64,
        code_size: int = 128,
        bias: bool = False,
        head: Head = "tanh",
    ) -> None:
        super().__init__()
        check_counts(1, code_size=code_size)
        self.code_size = code_size
        widths, rest = halvings(shape, width)
        blocks = [nn.Sequential(nn.Conv2d(shape[0], width, 4, 2, 1, bias=bias), activation())]
        blocks += [conv_block(nn.Conv2d(a, b, 4, 2, 1, bias=bias)) for a, b in pairwise(widths)]
        self.blocks = nn.ModuleList(blocks)
        self.last = code_layer(nn.Conv2d(widths[-1], code_size, rest, bias=bias), head)
        initialize(self)

    def forward(self, frames: Image) -> tuple[Tensor, Skips]:
        skips = []
        for block in self.blocks:
            skips.append(frames := block(frames))
        return self.last(frames).flatten(1), skips[::-1]


class DCGANDecoder(FrameDecoder):
    """DCGAN decoder: the layers of `DCGANEncoder` in reverse order, as transposed convolutions.

    Args:
        shape: Channels, height and width of a frame.
        code_size: Length of a code.
        skips: Concatenate feature maps of the encoder with the input of each block.
        width: The `width` of the encoder.
        bias: Give the convolutions biases.
        output: Range of the frames: 0 to 1 by a `sigmoid`, or any (`identity`).
    """

    def __init__(
        self,
        shape: ImageShape,
        code_size: int,
        skips: bool = False,
        width: int = 64,
        bias: bool = False,
        output: Output = "sigmoid",
    ) -> None:
        super().__init__()
        widths, rest = halvings(shape, width)
        widths, joined = widths[::-1], 2 if skips else 1
        self.first = conv_block(nn.ConvTranspose2d(code_size, widths[0], rest, bias=bias))
        blocks: list[nn.Module] = [
            conv_block(nn.ConvTranspose2d(joined * a, b, 4, 2, 1, bias=bias))
            for a, b in pairwise(widths)
        ]
        blocks.append(nn.ConvTranspose2d(joined * width, shape[0], 4, 2, 1, bias=bias))
        self.blocks, self.skips, self.output = nn.ModuleList(blocks), skips, output
        initialize(self)

    def forward(self, codes: Tensor, skips: Skips = ()) -> Image:
        h = self.first(codes[:, :, None, None])
        for i, block in enumerate(self.blocks):
            h = block(torch.cat([h, skips[i]], 1) if self.skips else h)
        return output_range(h, self.output)
