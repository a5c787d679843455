"""Generator and critic of TGANv2 (Saito et al. 2020): fewer frames at higher resolutions."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d, interpolate

from common.errors import InputError, check_counts
from common.typing import ImageShape, Times, Video
from video_ode.dynamics.base import DynamicsFactory
from video_ode.frames.base import unit_range
from video_ode.gan.critic import Critic, View
from video_ode.gan.generator import AdversarialGenerator, Latents, Prior, drawn, path_from_zero
from video_ode.predictor import finite


class TGANv2Generator(AdversarialGenerator):
    """Generator of TGANv2: a path of small maps is enlarged level by level, and each is rendered.

    Critics see every level, the finer ones with fewer frames: between two levels only every
    `stride`-th frame is kept, with a random first one. Generated videos have all frames at the
    finest level.

    Args:
        shape: Channels, height and width of a frame.
        dynamics: From the channels of the first map and 0 to the temporal generator.
        noise: Length of the random vector.
        width: Number of channels of the first map.
        blocks: Numbers of channels of the blocks of each level; each block doubles height and
            width. The default is the published network: 24, 48, 96 and 192 px.
        stride: Kept share of the frames between two levels: one of `stride`.
        prior: Distribution of the random vector.

    Raises:
        InputError: Numbers out of range, or frames that the blocks don't divide.
    """

    def __init__(
        self,
        shape: ImageShape,
        dynamics: DynamicsFactory,
        noise: int = 256,
        width: int = 1024,
        blocks: Sequence[Sequence[int]] = ((512, 256, 128), (64,), (32,), (32,)),
        stride: int = 4,
        prior: Prior = "uniform",
    ) -> None:
        super().__init__()
        every = [channels for level in blocks for channels in level]
        check_counts(1, noise=noise, width=width, blocks=every, stride=stride)
        factor = 2 ** len(every)
        if not all(blocks) or shape[1] % factor or shape[2] % factor:
            raise InputError(
                f"got frames of {shape[1]}x{shape[2]} and blocks {blocks}; give at least one "
                f"block for each level, and frames whose sides {factor} divides"
            )
        start = (width, shape[1] // factor, shape[2] // factor)
        self.first = nn.Linear(noise, start[0] * start[1] * start[2])
        self.dynamics = dynamics(width, 0)
        widths = iter(pairwise([width, *every]))
        self.levels = nn.ModuleList(
            nn.Sequential(*(UpBlock(*next(widths)) for _ in level)) for level in blocks
        )
        self.renders = nn.ModuleList(_render(level[-1], shape[0]) for level in blocks)
        self.shape, self.start, self.noise, self.stride = shape, start, noise, stride
        self.prior = prior

    def draw(self, n: int) -> Latents:
        z = drawn(self.prior, self.first.weight.new_empty(n, self.noise))
        return Latents(z, self.first(z).unflatten(1, self.start))

    @finite(axis=1)
    def play(self, latents: Latents, times: Times) -> Video:
        path = self._path(latents, times)
        maps = path.flatten(0, 1)
        for level in self.levels:
            maps = level(maps)
        return unit_range(2 * self.renders[-1](maps)).unflatten(0, path.shape[:2])

    def views(self, n: int, times: Times) -> list[View]:
        path, found = self._path(self.draw(n), times), list[View]()
        places = torch.arange(len(times), device=times.device)
        for i, (level, render) in enumerate(zip(self.levels, self.renders, strict=True)):
            if i:
                offset = int(torch.randint(min(self.stride, path.shape[1]), ()))
                path, places = path[:, offset :: self.stride], places[offset :: self.stride]
            size = path.shape[:2]
            maps = level(path.flatten(0, 1))
            path, frames = maps.unflatten(0, size), unit_range(2 * render(maps))
            found.append(View(frames.unflatten(0, size), times[places], places))
        return found

    def _path(self, latents: Latents, times: Times) -> Tensor:
        """Path of the first maps, `[n t c h w]`."""
        return path_from_zero(self.dynamics, latents.start, times)


class UpBlock(nn.Module):
    """Residual block that doubles height and width, with batch norms.

    Args:
        n_in: Number of input channels.
        n_out: Number of output channels.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm2d(n_in), nn.BatchNorm2d(n_out)])
        self.first = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.second = nn.Conv2d(n_out, n_out, 3, padding=1)
        self.skip = nn.Conv2d(n_in, n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(_doubled(self.norms[0](x).relu()))
        # A 1x1 convolution and a nearest-neighbour enlargement can change places.
        return self.second(self.norms[1](h).relu()) + _doubled(self.skip(x))


class TGANv2Critic(Critic):
    """Critic of TGANv2: a 3-D residual network for each view, without normalisation.

    Args:
        shape: Channels, height and width of a frame.
        views: Number of views.
        widths: Numbers of channels of the blocks; each block halves all axes longer than 1.

    Raises:
        InputError: Numbers below 1, or another number of views in a call.
    """

    def __init__(
        self,
        shape: ImageShape,
        views: int = 4,
        widths: Sequence[int] = (64, 128, 256, 512, 1024),
    ) -> None:
        super().__init__()
        check_counts(1, views=views, widths=list(widths))
        self.nets = nn.ModuleList(_residual_net(shape[0], widths) for _ in range(views))
        self.heads = nn.ModuleList(nn.Linear(widths[-1], 1) for _ in range(views))

    def forward(self, views: Sequence[View]) -> Tensor:
        """Scores `[views · n]`."""
        if len(views) != len(self.nets):
            raise InputError(
                f"got {len(views)} views, but TGANv2Critic has networks for {len(self.nets)}; "
                "change its views or the generator's blocks"
            )
        scores = []
        for view, net, head in zip(views, self.nets, self.heads, strict=True):
            features = net(2 * view.video.transpose(1, 2) - 1).relu().sum((2, 3, 4))
            scores.append(head(features)[:, 0])
        return torch.cat(scores)


class DownBlock(nn.Module):
    """Residual block of 3-D convolutions, then a mean over 2 along the axes longer than 1.

    Args:
        n_in: Number of input channels.
        n_out: Number of output channels.
        first: It is the first block: its input, a video, meets no nonlinearity, and its frames
            aren't averaged.
    """

    def __init__(self, n_in: int, n_out: int, first: bool = False) -> None:
        super().__init__()
        middle = n_out if first else n_in
        self.convs = nn.ModuleList(
            nn.Conv3d(a, b, 3, padding=1) for a, b in ((n_in, middle), (middle, n_out))
        )
        self.skip, self.first = nn.Conv3d(n_in, n_out, 1), first

    def forward(self, x: Tensor) -> Tensor:
        h = self.convs[0](x if self.first else x.relu())
        h = self.convs[1](h.relu())
        return self._halved(h) + self.skip(self._halved(x))

    def _halved(self, x: Tensor) -> Tensor:
        kernel = [min(2, n) for n in x.shape[2:]]
        if self.first:
            kernel[0] = 1
        return avg_pool3d(x, kernel)


def _residual_net(channels: int, widths: Sequence[int]) -> nn.Sequential:
    first = DownBlock(channels, widths[0], first=True)
    return nn.Sequential(first, *(DownBlock(a, b) for a, b in pairwise(widths)))


def _render(n_in: int, channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(n_in), nn.ReLU(), nn.Conv2d(n_in, channels, 3, padding=1))


def _doubled(x: Tensor) -> Tensor:
    return interpolate(x, scale_factor=2, mode="nearest")
