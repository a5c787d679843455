"""Convolutional decoder from the features of a detector to frames: one that is no inverse."""

from itertools import pairwise

from torch import Tensor, nn

from common.errors import InputError, check_counts
from common.typing import ImageShape
from video_ode.frames.base import conv_block, initialize, unit_range
from video_ode.objects.decoders.base import FeatureDecoder


class ConvolutionalDecoder(FeatureDecoder):
    """Convolutional decoder: each transposed convolution doubles height and width.

    A 3x3 convolution comes first. All layers but the last have batch norm and a leaky ReLU; the
    last one ends in a sigmoid.

    Args:
        shape: Channels, height and width of a frame.
        channels: Number of channels of the features.
        scale: How many times smaller than a frame the features are, on each side; a power of two.
        width: Number of channels of the last hidden layer; each layer before has twice as many,
            up to eight times.

    Raises:
        InputError: A scale that is no power of two, or doesn't divide the sides of a frame;
            numbers below 1.
    """

    def __init__(self, shape: ImageShape, channels: int, scale: int, width: int = 32) -> None:
        check_counts(1, scale=scale, width=width)
        if scale & (scale - 1) or shape[1] % scale or shape[2] % scale:
            raise InputError(
                f"got scale {scale} and frames of {shape[1]}x{shape[2]}; give a power of two that "
                "divides both sides"
            )
        super().__init__(shape, (channels, shape[1] // scale, shape[2] // scale))
        doublings = scale.bit_length() - 1
        widths = [width * 2 ** min(k, 3) for k in reversed(range(max(doublings, 1)))]
        layers: list[nn.Module] = [conv_block(nn.Conv2d(channels, widths[0], 3, padding=1))]
        layers += [conv_block(nn.ConvTranspose2d(a, b, 4, 2, 1)) for a, b in pairwise(widths)]
        last = nn.ConvTranspose2d(width, shape[0], 4, 2, 1) if doublings else None
        layers.append(last or nn.Conv2d(width, shape[0], 3, padding=1))
        self.net = nn.Sequential(*layers)
        initialize(self)

    def _frames(self, features: Tensor) -> Tensor:
        return unit_range(self.net(features))
