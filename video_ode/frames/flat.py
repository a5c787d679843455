"""Encoder and decoder of frames by multilayer perceptrons, for fields on a grid or at points."""

import math

import torch
from torch import Tensor

from common.errors import check_counts
from common.nn.mlp import MLP
from common.typing import Image, ImageShape
from video_ode.frames.base import (
    FrameDecoder,
    FrameEncoder,
    Output,
    Skips,
    initialize,
    output_range,
    refuse_skips,
)


class MLPEncoder(FrameEncoder):
    """Encoder by a multilayer perceptron of all values of a frame.

    Args:
        shape: Channels, height and width of a frame.
        code_size: Length of a code.
        width: Number of units of each hidden layer.
        layers: Number of linear layers.
    """

    def __init__(
        self, shape: ImageShape, code_size: int = 32, width: int = 1200, layers: int = 3
    ) -> None:
        super().__init__()
        check_counts(1, shape=shape)
        self.code_size = code_size
        self.net = MLP(math.prod(shape), width, code_size, layers)
        initialize(self)

    def forward(self, frames: Image) -> tuple[Tensor, Skips]:
        return self.net(frames.flatten(1)), ()


class MLPDecoder(FrameDecoder):
    """Decoder by a multilayer perceptron that gives all values of a frame.

    Args:
        shape: Channels, height and width of a frame.
        code_size: Length of a code.
        skips: Must be false: there are no skip connections.
        width: Number of units of each hidden layer.
        layers: Number of linear layers.
        output: Range of the frames: 0 to 1 by a `sigmoid`, or any (`identity`).

    Raises:
        InputError: `skips` is true, or numbers are below their minimum.
    """

    def __init__(
        self,
        shape: ImageShape,
        code_size: int,
        skips: bool = False,
        width: int = 1200,
        layers: int = 4,
        output: Output = "sigmoid",
    ) -> None:
        super().__init__()
        refuse_skips(self, skips)
        self.net = MLP(code_size, width, math.prod(shape), layers)
        self.shape, self.output = torch.Size(shape), output
        initialize(self)

    def forward(self, codes: Tensor, skips: Skips = ()) -> Image:
        return output_range(self.net(codes).unflatten(1, self.shape), self.output)
