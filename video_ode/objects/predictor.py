"""Prediction of an extractor's features by a Neural ODE (Predoc III, section 5.1)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pixel_shuffle, pixel_unshuffle

from common.errors import InputError, check_counts
from common.typing import PerSample, Times, VideoTimes
from video_ode.dynamics.base import DynamicsFactory


class FeaturePath(NamedTuple):
    """Predicted features.

    Attributes:
        features: Feature maps `[b t c h w]` at each scale, finest first.
        kl: KL divergence of the latent path from its prior, `[b]`, in nats; 0 without a prior, and
            where a target time isn't later than the given ones.
    """

    features: list[Tensor]
    kl: PerSample


class FeaturePredictor(nn.Module):
    """Features at any times, from the features of some frames.

    The maps of all scales are joined to one map of codes at a middle scale. A convolutional GRU
    reads the codes of the given frames, with the times between them, and gives the state `z(t₀)`
    at the last given time; the dynamics give `z(t)`, and a decoder `D` the features

        φ(t) = φ(t₀) + D(z(t)) - D(z(t₀)).

    So at the last given time the features are those of its frame, and a network that has learned
    nothing predicts them for all times.

    Args:
        channels: Number of channels of the features at each scale, finest first.
        strides: Pixels of a frame for a place of the features at each scale; each divides the
            next one.
        dynamics: From the number of channels of the state and 0 to the dynamics.
        width: Number of channels of codes and state.

    Raises:
        InputError: Numbers out of range.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        dynamics: DynamicsFactory,
        width: int = 64,
    ) -> None:
        super().__init__()
        check_counts(1, channels=channels, strides=strides, width=width)
        if len(channels) != len(strides):
            raise InputError(
                f"got channels {list(channels)} and strides {list(strides)}; give as many of both"
            )
        if any(b % a for a, b in pairwise(strides)):
            raise InputError(f"got strides {list(strides)}; each must divide the next one")
        middle = strides[len(strides) // 2]
        self.finer = [max(1, middle // stride) for stride in strides]
        self.coarser = [max(1, stride // middle) for stride in strides]
        self.inputs, self.outputs = nn.ModuleList(), nn.ModuleList()
        for n, finer in zip(channels, self.finer, strict=True):
            places = n * finer**2
            self.inputs.append(nn.Conv2d(places, width, 1))
            self.outputs.append(
                nn.Sequential(_conv(width, width), nn.LeakyReLU(0.1), _conv(width, places))
            )
        self.codes = nn.Sequential(nn.LeakyReLU(0.1), _conv(width, width), nn.LeakyReLU(0.1))
        self.cell = ConvGRUCell(width + 1, width)
        self.state = _conv(width, width)
        self.dynamics = dynamics(width, 0)
        # Typical size of the features of each channel: networks and loss see relative features.
        self.sizes = nn.ParameterList(
            nn.Parameter(torch.ones(n, 1, 1), requires_grad=False) for n in channels
        )

    @torch.no_grad()
    def measure(self, features: Sequence[Tensor]) -> None:
        """Takes the sizes of the channels from features `[b t c h w]`."""
        for size, x in zip(self.sizes, features, strict=True):
            size.copy_(x.float().std((0, 1, 3, 4))[:, None, None] + 1e-3)

    def relative(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Features `[… c h w]` divided by the sizes of their channels."""
        return [x / size for x, size in zip(features, self.sizes, strict=True)]

    def forward(
        self,
        given: Sequence[Tensor],
        times: Times | VideoTimes,
        target_times: Times | VideoTimes,
    ) -> FeaturePath:
        """Features at the target times.

        Args:
            given: Feature maps of the given frames, `[b t c h w]` each, finest first.
            times: Times of these frames, ascending, `[t]` or `[b t]`.
            target_times: Ascending times, `[k]` or `[b k]`: also before the last given time, if
                the dynamics can run backward.

        Raises:
            InputError: Features of other shapes, or times that the dynamics can't reach.
        """
        self._check(given, times)
        relative = self.relative(given)
        z0, kl = self._encoded(relative, times), relative[0].new_zeros(len(relative[0]))
        wanted = target_times - times[..., -1:]
        start = torch.zeros_like(wanted[..., :1])
        if bool((wanted > 0).all()):
            path = self.dynamics(z0, torch.cat([start, wanted], -1))
            z, kl = path.states[:, 1:], path.kl
        else:
            z = self.dynamics.states_around(z0, start.flatten()[:1], wanted)
        changes = zip(self._decoded(z), self._decoded(z0[:, None]), strict=True)
        features = [
            size * (x[:, -1:] + later - first)
            for x, size, (later, first) in zip(relative, self.sizes, changes, strict=True)
        ]
        return FeaturePath(features, kl)

    def _encoded(self, features: list[Tensor], times: Times | VideoTimes) -> Tensor:
        """State at the last given time."""
        b, t = features[0].shape[:2]
        joined = [
            _upsampled(layer(pixel_unshuffle(x.flatten(0, 1), finer)), coarser)
            for x, layer, finer, coarser in zip(
                features, self.inputs, self.finer, self.coarser, strict=True
            )
        ]
        codes = self.codes(torch.stack(joined).sum(0)).unflatten(0, (b, t))
        gaps = times.diff(prepend=times[..., :1]).expand(b, t).to(codes)
        h = torch.zeros_like(codes[:, 0])
        for i in range(t):
            gap = gaps[:, i, None, None, None].expand_as(h[:, :1])
            h = self.cell(torch.cat([codes[:, i], gap], 1), h)
        return self.state(h)

    def _decoded(self, z: Tensor) -> list[Tensor]:
        """Relative features `[b t c h w]` of states `[b t d h w]`."""
        return [
            pixel_shuffle(layer(avg_pool2d(z.flatten(0, 1), coarser)), finer).unflatten(
                0, z.shape[:2]
            )
            for layer, finer, coarser in zip(self.outputs, self.finer, self.coarser, strict=True)
        ]

    def _check(self, given: Sequence[Tensor], times: Tensor) -> None:
        shapes = [tuple(x.shape) for x in given]
        channels = [len(size) for size in self.sizes]
        fits = [s[2] for s in shapes if len(s) == 5] == channels
        if not fits or len({s[:2] for s in shapes}) != 1 or shapes[0][1] != times.shape[-1]:
            raise InputError(
                f"got features of shapes {shapes} and times {tuple(times.shape)}; give "
                f"[b t c h w] with {channels} channels, and a time for each frame"
            )


class ConvGRUCell(nn.Module):
    """Gated recurrent unit of feature maps by 3 × 3 convolutions (Ballas et al. 2016).

    Args:
        n_in: Number of channels of the input.
        size: Number of channels of the state.
    """

    def __init__(self, n_in: int, size: int) -> None:
        super().__init__()
        self.gates = _conv(n_in + size, 2 * size)
        self.new = _conv(n_in + size, size)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """State after the input `x`, from the state `h` before it."""
        reset, keep = self.gates(torch.cat([x, h], 1)).sigmoid().chunk(2, 1)
        return keep * h + (1 - keep) * self.new(torch.cat([x, reset * h], 1)).tanh()


def _conv(n_in: int, n_out: int) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 3, padding=1)


def _upsampled(x: Tensor, factor: int) -> Tensor:
    return x if factor == 1 else interpolate(x, scale_factor=float(factor))
