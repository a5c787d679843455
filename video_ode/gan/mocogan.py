"""Critics of MoCoGAN (Tulyakov et al. 2018): of whole clips, and of single frames."""

from itertools import pairwise

from torch import Tensor, nn

from common.errors import check_counts
from common.typing import ImageShape, Times, Video
from video_ode.frames.base import halvings
from video_ode.gan.critic import ClipCritic, WholeClipCritic


class MoCoGANCritic(WholeClipCritic):
    """Video critic of MoCoGAN: 3-D convolutions that halve space only.

    Their kernels have four frames, or fewer where the clip is shorter than the published 16.

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
        kernel = min(4, 1 + (clip - 1) // (len(widths) + 1))
        layers = list[nn.Module]()
        for i, (a, b) in enumerate(pairwise([shape[0], *widths])):
            layers.append(nn.Conv3d(a, b, (kernel, 4, 4), (1, 2, 2), (0, 1, 1), bias=False))
            layers += [nn.BatchNorm3d(b)] if i else []
            layers.append(nn.LeakyReLU(0.2))
        left = clip - len(widths) * (kernel - 1)
        layers.append(nn.Conv3d(widths[-1], 1, (min(left, 4), h, w), bias=False))
        self.net, self.clip = nn.Sequential(*layers), clip


class FrameCritic(ClipCritic):
    """Image critic of MoCoGAN: scores of the patches of random frames of each clip.

    Args:
        shape: Channels, height and width of a frame.
        n_frames: Number of frames of a clip that it looks at.
        width: Number of channels of the first convolution; each further one has twice as many.
        layers: Number of convolutions before the last one; each of them halves the frame.

    Raises:
        InputError: Numbers below their minimum.
    """

    def __init__(
        self, shape: ImageShape, n_frames: int = 1, width: int = 64, layers: int = 3
    ) -> None:
        super().__init__()
        check_counts(1, n_frames=n_frames, width=width, layers=layers)
        self.n_frames = n_frames
        widths, parts = [shape[0], *(width * 2**i for i in range(layers))], list[nn.Module]()
        for i, (a, b) in enumerate(pairwise(widths)):
            parts.append(nn.Conv2d(a, b, 4, 2, 1, bias=False))
            parts += [nn.BatchNorm2d(b)] if i else []
            parts.append(nn.LeakyReLU(0.2))
        self.net = nn.Sequential(*parts, nn.Conv2d(widths[-1], 1, 4, 2, 1, bias=False))

    def score(self, video: Video, times: Times) -> Tensor:
        return self.net(video.flatten(0, 1)).flatten(1)
