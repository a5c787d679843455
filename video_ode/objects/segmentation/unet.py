"""Small U-Net (Ronneberger et al. 2015), whose encoder gives the features."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from common.data.streets.street import STREET_CLASSES
from common.errors import InputError, check_counts
from common.nn.shipped import with_weights
from common.typing import Image
from video_ode.frames.base import conv_block
from video_ode.objects.segmentation.segmenter import Segmenter

WEIGHTS = {
    True: Path(__file__).with_name("unet.safetensors"),
    False: Path(__file__).with_name("unet_bottleneck.safetensors"),
}
LEVELS = 4


class UNet(Segmenter):
    """Small U-Net for semantic segmentation.

    The encoder has four levels, at a half to a sixteenth of the frame's sides; the coarsest is
    the bottleneck. With skip connections the decoder reads all levels, so all are features.
    Without them it reads the bottleneck alone, which is then the only feature.

    Args:
        classes: Names of the classes.
        width: Number of channels of the finest level; each next one has twice as many.
        skips: Whether there are skip connections.

    Raises:
        InputError: A width below 1, or fewer than two classes.
    """

    # Two methods without arguments, because checkpoints may name no others.
    @classmethod
    def pretrained(cls) -> "UNet":
        """U-Net of the seven classes of `DrivingScenes`, with the weights that ship.

        `python -m video_ode.objects.segmentation.train_segmenter` makes them again. It is in
        evaluation mode.
        """
        return with_weights(cls(), WEIGHTS[True])

    @classmethod
    def pretrained_bottleneck(cls) -> "UNet":
        """The same without skip connections: the bottleneck is its only feature."""
        return with_weights(cls(skips=False), WEIGHTS[False])

    def __init__(
        self, classes: tuple[str, ...] = STREET_CLASSES, width: int = 12, skips: bool = True
    ) -> None:
        super().__init__()
        check_counts(1, width=width)
        if len(classes) < 2:
            raise InputError(f"got the classes {classes}; give two or more")
        widths = [width * 2**k for k in range(LEVELS)]
        first = 0 if skips else LEVELS - 1
        self.classes, self.skips = classes, skips
        self.channels = tuple(widths[first:])
        self.strides = tuple(2 ** (k + 1) for k in range(first, LEVELS))
        self.encoder = nn.ModuleList(_level(a, b, stride=2) for a, b in pairwise([3, *widths]))
        self.decoder = nn.ModuleList(
            _level(widths[k + 1] + (widths[k] if skips else 0), widths[k])
            for k in reversed(range(LEVELS - 1))
        )
        self.head = nn.Conv2d(width, len(classes), 1)

    def features(self, frames: Image) -> list[Tensor]:
        self.check_size(frames)
        x, maps = 2 * frames - 1, []
        for level in self.encoder:
            maps.append(x := level(x))
        return maps if self.skips else maps[-1:]

    def logits(self, features: Sequence[Tensor]) -> Tensor:
        if [x.shape[1] for x in features] != list(self.channels):
            raise InputError(
                f"got features of shapes {[tuple(x.shape) for x in features]}; give maps "
                f"[n c h w] with {self.channels} channels"
            )
        x, finer = features[-1], list(features[-2::-1])
        for k, level in enumerate(self.decoder):
            x = interpolate(x, scale_factor=2.0, mode="nearest")
            x = level(torch.cat([x, finer[k]], 1) if self.skips else x)
        return interpolate(self.head(x), scale_factor=2.0, mode="bilinear")


def _level(n_in: int, n: int, stride: int = 1) -> nn.Sequential:
    """Two convolutions, the first with a stride."""
    first = nn.Conv2d(n_in, n, 3, stride, 1, bias=False)
    second = nn.Conv2d(n, n, 3, padding=1, bias=False)
    return nn.Sequential(conv_block(first), conv_block(second))
