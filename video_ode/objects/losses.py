"""Losses of predicted features, and a critic of them (Predoc III, section 5.3.1)."""

import abc
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from common.errors import check_counts


class FeatureLoss(abc.ABC):
    """Abstract loss of predicted features."""

    @abc.abstractmethod
    def __call__(self, found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
        """Loss, a scalar.

        Args:
            found: Predicted features `[b t c h w]` at each scale, relative to their usual size.
            wanted: True features of the same shapes.
        """


class MeanSquares(FeatureLoss):
    """Mean squared error, a mean over the scales: the loss of the report (section 5.1)."""

    def __call__(self, found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
        pairs = zip(found, wanted, strict=True)
        return torch.stack([(x - y).square().mean() for x, y in pairs]).mean()


class GaussianLikelihood(FeatureLoss):
    """Negative log-likelihood of a Gaussian whose scale is fitted, in nats for each number.

    Each channel has the standard deviation that fits the errors of the batch best: the σ-VAE's
    optimal one (Rybkin et al. 2021, section 4.2). So channels that are easy to predict weigh more
    than with `MeanSquares`.
    """

    def __call__(self, found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
        each = []
        for x, y in zip(found, wanted, strict=True):
            squares = (x - y).square().mean((0, 1, 3, 4))
            each.append((squares + 1e-6).log().mean() / 2)
        return torch.stack(each).mean() + math.log(2 * math.pi * math.e) / 2


class FeatureCritic(nn.Module):
    """Critic (discriminator) of the features of single frames, with scores at each place.

    Args:
        channels: Number of channels of the features at each scale.
        width: Number of hidden channels.
    """

    def __init__(self, channels: Sequence[int], width: int = 32) -> None:
        super().__init__()
        check_counts(1, channels=channels, width=width)
        self.nets = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(n, width, 1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(width, width, 3, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(width, 1, 3, padding=1),
            )
            for n in channels
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Scores `[n]` of all places of all frames, high for true features `[b t c h w]`."""
        pairs = zip(self.nets, features, strict=True)
        return torch.cat([net(x.flatten(0, 1)).flatten() for net, x in pairs])
