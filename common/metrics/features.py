"""Feature extractors for Fréchet distances: their base class, and a network of random weights."""

import abc
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from common.errors import InputError
from common.typing import Pixels, PixelVideo


class FeatureExtractor(nn.Module, abc.ABC):
    """Map from images to features for a Fréchet distance; it always stays in evaluation mode.

    Attributes:
        name: Log key of the distance; only the standard Inception features may use `fid`.
        num_features: Length of a feature vector.
    """

    name: str
    num_features: int

    @abc.abstractmethod
    def forward(self, images: Pixels) -> Tensor:
        """Features `[b num_features]` of images of 1 channel (grey) or 3 channels."""

    def train(self, mode: bool = True) -> "FeatureExtractor":
        return super().train(False)


class RandomConvolutions(nn.Module):
    """Convolutional network with random weights, always the same weights for one seed.

    Three convolutions of stride 2 with rectifiers, then the mean over all positions.

    Args:
        n_out: Number of features.
        axes: Number of axes of a convolution: 2 for images, 3 for videos.
        seed: Seed of the weights. The global random state is neither used nor changed.
    """

    def __init__(self, n_out: int, axes: Literal[2, 3], seed: int) -> None:
        super().__init__()
        self.axes = axes
        noise = torch.Generator().manual_seed(seed)
        for i, (a, b) in enumerate(pairwise([3, 16, 32, n_out])):
            weight = torch.randn(b, a, *[3] * axes, generator=noise, dtype=torch.float32)
            scale = (2 / (3**axes * a)) ** 0.5
            self.register_buffer(f"weight{i}", weight * scale, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Features `[b n_out]` of bytes with the channels second: `[b 3 h w]` or `[b 3 t h w]`."""
        weights = list(self.buffers())
        convolution = nn.functional.conv2d if self.axes == 2 else nn.functional.conv3d
        x = pixels.to(weights[0].dtype) / 127.5 - 1
        for weight in weights:
            x = convolution(x, weight, stride=2, padding=1).relu()
        return x.mean(tuple(range(2, x.ndim)))


def to_rgb(pixels: Pixels | PixelVideo) -> Tensor:
    """Images or videos of 3 channels; grey ones are repeated.

    Raises:
        InputError: Neither 1 nor 3 channels.
    """
    *leading, channels, height, width = pixels.shape
    if channels not in (1, 3):
        raise InputError(f"got {channels} channels; features need 1 (grey) or 3 (colour)")
    return pixels.expand(*leading, 3, height, width)
