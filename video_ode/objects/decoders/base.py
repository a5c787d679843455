"""Base classes of feature decoders, which map the features of a detector back to frames."""

import abc

import torch
from torch import Tensor, nn

from common.errors import InputError, check_counts
from common.typing import Image, ImageShape


class FeatureDecoder(nn.Module, abc.ABC):
    """Decoder from feature maps `[n c h w]` to frames `[n 3 H W]` in `[0, 1]`.

    Args:
        shape: Channels, height and width of a frame.
        feature_shape: Channels, height and width of a feature map.

    Attributes:
        shape: The same.
        feature_shape: The same.

    Raises:
        InputError: Numbers below 1.
    """

    def __init__(self, shape: ImageShape, feature_shape: ImageShape) -> None:
        super().__init__()
        check_counts(1, shape=shape, feature_shape=feature_shape)
        self.shape: ImageShape = (shape[0], shape[1], shape[2])
        self.feature_shape: ImageShape = (feature_shape[0], feature_shape[1], feature_shape[2])

    def forward(self, features: Tensor, last: Image | None = None) -> Image:
        """Frames in `[0, 1]`.

        Args:
            features: Feature maps `[n c h w]`.
            last: Last given frame of each video, `[n 3 H W]` in `[0, 1]`, for decoders that start
                from it; the others leave it alone. None: there is none.

        Raises:
            InputError: Features of another shape.
        """
        return self.unclamped(features).clamp(0, 1)

    def unclamped(self, features: Tensor) -> Image:
        """Frames before they are clamped to `[0, 1]`; losses use them.

        The clamp has no gradient for values outside.

        Raises:
            InputError: Features of another shape.
        """
        check_shape("features", features, self.feature_shape)
        return self._frames(features)

    @abc.abstractmethod
    def _frames(self, features: Tensor) -> Tensor:
        """Frames, of any range, of features of the right shape."""


class InvertibleDecoder(FeatureDecoder):
    """Invertible network from frames to feature maps, read backwards as a decoder.

    The network gives a map `[n C h w]`. Its first channels are trained to equal the features; the
    others are the rest, what the features don't tell about the frame. To decode features alone,
    `rest` stands for the unknown rest. It is a parameter, with a value at each position: it starts
    at zero, and a loss on decoded frames fits it together with the network, so that it never lags
    behind as a running mean does. A network that was trained on the features only calls
    `set_rest` after the training.

    Args:
        shape: Channels, height and width of a frame.
        map_shape: Channels, height and width of the output of the network.
        channels: Number of channels of the features.

    Raises:
        InputError: Numbers below 1.
    """

    def __init__(self, shape: ImageShape, map_shape: ImageShape, channels: int) -> None:
        total, height, width = map_shape
        super().__init__(shape, (channels, height, width))
        self.rest = nn.Parameter(torch.zeros(total - channels, height, width))

    def encode(self, frames: Image) -> tuple[Tensor, Tensor]:
        """Features `[n c h w]` and rest `[n C-c h w]` of frames.

        Raises:
            InputError: Frames of another shape.
        """
        check_shape("frames", frames, self.shape)
        out = self._encode(frames)
        return out[:, : self.feature_shape[0]], out[:, self.feature_shape[0] :]

    def decode(self, features: Tensor, rest: Tensor) -> Image:
        """Inverse of `encode`: frames of any range, not clamped.

        Raises:
            InputError: Features or a rest of another shape.
        """
        check_shape("features", features, self.feature_shape)
        check_shape("rest", rest, tuple(self.rest.shape))
        return self._decode(torch.cat([features, rest], 1))

    @torch.no_grad()
    def set_rest(self, frames: Image) -> None:
        """Sets `rest` to the mean rest of frames."""
        self.rest.copy_(self.encode(frames)[1].mean(0))

    def _frames(self, features: Tensor) -> Tensor:
        return self.decode(features, self.rest.expand(len(features), -1, -1, -1))

    @abc.abstractmethod
    def _encode(self, frames: Tensor) -> Tensor:
        """Output `[n C h w]` of the network."""

    @abc.abstractmethod
    def _decode(self, out: Tensor) -> Tensor:
        """Frames of an output of the network."""


def check_shape(name: str, given: Tensor, shape: tuple[int, ...]) -> None:
    """Raises an `InputError` if a batch doesn't consist of tensors of a shape."""
    if given.shape[1:] != shape:
        wanted = " ".join(map(str, shape))
        raise InputError(f"got {name} {list(given.shape)}; this network takes [n {wanted}]")
