"""Critics: functions `T(z)` of all channels at once, `[n c …] -> [n]`.

A critic is made by `critic(blocks, size, n_context)`: the block of each channel, the number of
values in a channel, and the length of the vector that says the class, or 0. Any module may be a
critic. If it has a method `observe(z)`, that is shown the joint samples before every step; if it
has a method `limit(n)`, that is told the number of samples where there are only so many.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from common.errors import InputError, check_counts
from common.nn.mlp import MLP
from mimic.critic.devices import sum_over_devices

# Channels are not taken for Gaussian beyond so many deviations: with heavy tails, a few values
# would make up the covariance.
TRUSTED = 4.0

CriticFactory = Callable[[Sequence[int], int, int], nn.Module]


class MLPCritic(nn.Module):
    """Multilayer perceptron, the usual statistics network.

    Args:
        blocks: Block of each channel.
        size: Number of values in a channel.
        n_context: Length of the context.
        width: Number of units of a hidden layer.
        layers: Number of hidden layers.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        size: int = 1,
        n_context: int = 0,
        width: int = 128,
        layers: int = 3,
    ) -> None:
        super().__init__()
        check_counts(1, layers=layers)
        self.layers = MLP(len(blocks) * size + n_context, width, 1, layers + 1, "leaky_relu")

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        z = z.flatten(1)
        return self.layers(z if context is None else torch.cat([z, context], 1)).squeeze(1)


class GaussianRatio(nn.Module):
    """Log density ratio of Gaussian channels with the observed covariance, in closed form.

    `½ [zᵀ (S⁻¹ - R⁻¹) z + log det S - log det R]`, with R the running covariance and S its
    blocks. Nothing here is trained.

    Args:
        blocks: Block of each value of a sample.
        decay: Decay of the running covariance, from one observation to the next.
    """

    turn: Tensor
    seen: Tensor
    moment: Tensor
    form: Tensor
    constant: Tensor

    def __init__(self, blocks: Sequence[int], decay: float = 0.99) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise InputError(f"got decay {decay}; give a number from 0 to below 1")
        c, of = len(blocks), torch.tensor(blocks)
        self.decay, self.same = decay, of[:, None] == of
        self.distinct: float = math.inf  # number of different samples, if known
        # With many channels, the inverse would cost more than everything else.
        self.every = 1 + c // 128
        self.register_buffer("turn", torch.zeros((), dtype=torch.int64))
        self.register_buffer("seen", torch.zeros(2))  # sum of weights, sum of their squares
        self.register_buffer("moment", torch.zeros(c, c))
        self.register_buffer("form", torch.zeros(c, c))
        self.register_buffer("constant", torch.zeros(()))

    @torch.no_grad()
    def observe(self, z: Tensor) -> None:
        """Adds a batch `[n c]` to the running covariance, which is equal on all devices."""
        # The count goes along in the same message, as devices may have unequal batches.
        sums = sum_over_devices(torch.cat([(z.T @ z).flatten(), z.new_tensor([len(z)])]))
        moment, n = sums[:-1].view_as(self.moment) / sums[-1], sums[-1]
        self.moment = self.decay * self.moment + (1 - self.decay) * moment
        # Batches of n samples with weights wᵢ count as (Σ wᵢ)² / Σ wᵢ² · n samples.
        weight, square = self.seen * self.seen.new_tensor([self.decay, self.decay**2])
        self.seen = torch.stack([weight + 1 - self.decay, square + (1 - self.decay) ** 2])
        if self.every == 1 or int(self.turn) % self.every == 0:
            self._refresh((self.seen[0] ** 2 / self.seen[1] * n).clamp(max=self.distinct))
        self.turn += 1

    def _refresh(self, count: Tensor) -> None:
        """Computes the quadratic form of the running covariance of about `count` samples."""
        covariance = (self.moment / self.seen[0]).double()
        # A covariance of few samples is shrunk to its diagonal: otherwise it would show structure
        # in noise, and with fewer samples than channels it could not be inverted.
        shrink = len(covariance) / (len(covariance) + count.double())
        diagonal = covariance.diagonal().clamp(min=1e-6).diag()
        joint = (1 - shrink) * covariance + shrink * diagonal
        of_joint, of_apart = (
            torch.linalg.cholesky(c) for c in (joint, joint * self.same.to(joint.device))
        )
        form = torch.cholesky_inverse(of_apart) - torch.cholesky_inverse(of_joint)
        logs = of_apart.diagonal().log() - of_joint.diagonal().log()
        self.form, self.constant = (0.5 * form).to(self.form), logs.sum().to(self.form)

    def forward(self, z: Tensor) -> Tensor:
        return ((z @ self.form) * z).sum(1) + self.constant


class HybridCritic(MLPCritic):
    """Gaussian log ratio in closed form plus a perceptron for the rest.

    A critic may be any function, so every bound holds. The part that covariances show need not be
    learned by gradient steps, and follows at once where a network's features move.

    Args:
        blocks: Block of each channel.
        size: Number of values in a channel.
        n_context: Length of the context.
        decay: Decay of the running covariance.
        **sizes: `width` and `layers` of the perceptron.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        size: int = 1,
        n_context: int = 0,
        decay: float = 0.99,
        **sizes: int,
    ) -> None:
        super().__init__(blocks, size, n_context, **sizes)
        self.gaussian = GaussianRatio([b for b in blocks for _ in range(size)], decay)
        self.gain = nn.Parameter(torch.ones(()))

    def observe(self, z: Tensor) -> None:
        """Adds a batch of the joint distribution to the running covariance."""
        self.gaussian.observe(z.flatten(1).clamp(-TRUSTED, TRUSTED))

    def limit(self, samples: int) -> None:
        """Sets the number of samples, where the same samples come again and again."""
        self.gaussian.distinct = samples

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        known = self.gaussian(z.flatten(1).clamp(-TRUSTED, TRUSTED))
        return self.gain * known + super().forward(z, context)


class MapCritic(nn.Module):
    """Convolutional critic whose channels are whole maps, `[n c h w]` or `[n c l]`.

    Args:
        blocks: Block of each channel.
        size: Number of values in a channel; any number, as positions are averaged at the end.
        n_context: Length of the context.
        width: Number of channels of a layer.
        layers: Number of convolutions.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        size: int = 1,
        n_context: int = 0,
        width: int = 32,
        layers: int = 2,
    ) -> None:
        super().__init__()
        check_counts(1, width=width, layers=layers)
        widths = [len(blocks) + n_context, *[width] * layers]
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1) for before, after in pairwise(widths)
        )
        self.last = nn.Linear(2 * width, 1)

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        if z.ndim not in (3, 4):
            raise InputError(f"got channels of shape {tuple(z.shape[2:])}; maps have 1 or 2 axes")
        h = z if z.ndim == 4 else z[..., None]
        if context is not None:
            h = torch.cat([h, context[..., None, None].expand(-1, -1, *h.shape[2:])], 1)
        for layer in self.layers:
            h = nn.functional.leaky_relu(layer(h), 0.2)
        return self.last(torch.cat([h.mean((2, 3)), h.amax((2, 3))], 1)).squeeze(1)
