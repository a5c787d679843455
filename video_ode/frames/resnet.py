"""ResNet-18 encoder of frames (He et al. 2016), as in DrNet and in Donà et al. (2021)."""

from itertools import pairwise

from torch import Tensor, nn

from common.errors import InputError, check_counts
from common.typing import Image, ImageShape
from video_ode.frames.base import FrameEncoder, Skips, initialize


class ResNetEncoder(FrameEncoder):
    """ResNet-18 encoder: four stages of two residual blocks, and a last convolution for the code.

    Args:
        shape: Channels, height and width of a frame.
        width: Number of channels of the first stage; each further one has twice as many.
        code_size: Length of a code.

    Raises:
        InputError: Frames that don't become 3 x 3 feature maps, as those of 64 px do.
    """

    def __init__(self, shape: ImageShape, width: int = 64, code_size: int = 128) -> None:
        super().__init__()
        check_counts(1, channels=shape[0], width=width, code_size=code_size)
        if not all(53 <= side <= 84 for side in shape[1:]):
            raise InputError(
                f"got frames of {shape[1]}x{shape[2]}; ResNetEncoder needs 53 to 84 px: set "
                "data.size 64, or use DCGANEncoder or VGGEncoder"
            )
        self.code_size = code_size
        first = nn.Conv2d(shape[0], width, 5, stride=2, padding=3)
        layers: list[nn.Module] = [first, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        layers.append(nn.MaxPool2d(3, 2, padding=1))
        widths = [width, *(width * 2**stage for stage in range(4))]
        for stage, (a, b) in enumerate(pairwise(widths)):
            layers += [_Block(a, b, stride=2 if stage else 1), _Block(b, b)]
        self.blocks = nn.Sequential(*layers)
        self.last = nn.Conv2d(widths[-1], code_size, 3)
        initialize(self)

    def forward(self, frames: Image) -> tuple[Tensor, Skips]:
        return self.last(self.blocks(frames))[:, :, 0, 0], ()


class _Block(nn.Module):
    """Residual block of two 3x3 convolutions."""

    def __init__(self, n_in: int, n_out: int, stride: int = 1) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, stride, padding=1),
            nn.BatchNorm2d(n_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(n_out, n_out, 3, padding=1),
            nn.BatchNorm2d(n_out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or n_in != n_out:
            self.shortcut = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride), nn.BatchNorm2d(n_out))

    def forward(self, x: Image) -> Image:
        return (self.net(x) + self.shortcut(x)).relu()
