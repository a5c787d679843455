"""Image generator and critic of TGAN (Saito et al. 2017)."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from common.errors import InputError, check_counts
from common.typing import Image, ImageShape
from video_ode.frames.base import (
    FrameDecoder,
    Skips,
    conv_block,
    halvings,
    refuse_skips,
    unit_range,
)
from video_ode.gan.critic import WholeClipCritic


class TGANDecoder(FrameDecoder):
    """Image generator of TGAN: content and motion each become a small map; the maps are decoded.

    Args:
        shape: Channels, height and width of a frame.
        code_size: Length of a code: the content ("slow") and then the motion ("fast"), both of
            half this length.
        skips: Must be false: there are no skip connections.
        width: Number of channels before the last convolution.

    Raises:
        InputError: `skips` is true, a code of odd length, or frames that can't be halved.
    """

    def __init__(
        self, shape: ImageShape, code_size: int, skips: bool = False, width: int = 32
    ) -> None:
        super().__init__()
        refuse_skips(self, skips)
        if code_size % 2:
            raise InputError(
                f"got a code of {code_size} numbers; TGANDecoder needs content and motion of "
                "equal length: change content_size or motion_size"
            )
        widths, (h, w) = halvings(shape, width)
        self.start = (widths[-1], h, w)
        self.slow, self.fast = (self._seed(code_size // 2) for _ in range(2))
        widths = [2 * widths[-1], *widths[::-1]]
        self.blocks = nn.Sequential(
            *(
                conv_block(nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), nn.ReLU())
                for a, b in pairwise(widths)
            ),
            nn.ConvTranspose2d(width, shape[0], 3, 1, 1),
        )
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.ConvTranspose2d):
                nn.init.uniform_(layer.weight, -0.01, 0.01)

    def _seed(self, size: int) -> nn.Sequential:
        channels, h, w = self.start
        n = channels * h * w
        linear = nn.Linear(size, n, bias=False)
        return nn.Sequential(linear, nn.BatchNorm1d(n), nn.ReLU(), nn.Unflatten(1, self.start))

    def forward(self, codes: Tensor, skips: Skips = ()) -> Image:
        slow, fast = codes.chunk(2, 1)
        h = self.blocks(torch.cat([self.slow(slow), self.fast(fast)], 1))
        return unit_range(2 * h)  # (1 + tanh h) / 2


class TGANCritic(WholeClipCritic):
    """Critic of TGAN: 3-D convolutions of stride 2, then one over all that is left.

    It is meant for `Wasserstein` and `SingularValueClipping`. Time is halved as often as space,
    as long as there is more than one frame; 16 frames of 64 px give the published network.

    Args:
        shape: Channels, height and width of a frame.
        clip: Number of frames of a clip.
        width: Number of channels of the first convolution; each further one has twice as many.

    Raises:
        InputError: Frames that can't be halved, or no frame.
    """

    def __init__(self, shape: ImageShape, clip: int = 16, width: int = 64) -> None:
        super().__init__()
        check_counts(1, clip=clip)
        widths, (h, w) = halvings(shape, width)
        layers, left = list[nn.Module](), clip
        for i, (a, b) in enumerate(pairwise([shape[0], *widths])):
            kernel, stride, padding = (4, 2, 1) if left > 1 else (1, 1, 0)
            layers.append(nn.Conv3d(a, b, (kernel, 4, 4), (stride, 2, 2), (padding, 1, 1)))
            layers += [nn.BatchNorm3d(b)] if i else []
            layers.append(nn.LeakyReLU(0.2))
            left = max(1, left // 2)
        layers.append(nn.Conv3d(widths[-1], 1, (left, h, w)))
        self.net = nn.Sequential(*layers)
        for layer in self.modules():
            if isinstance(layer, nn.Conv3d):
                nn.init.xavier_normal_(layer.weight, 2**0.5)
        self.clip = clip
