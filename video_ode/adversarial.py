"""Adversarial losses, and the gradient penalty R1."""

import abc
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from common.errors import check_counts


class AdversarialLoss(abc.ABC):
    """Losses of critic and generator, of the scores of real and generated videos."""

    @abc.abstractmethod
    def critic(self, real: Tensor, generated: Tensor) -> Tensor:
        """Loss of the critic, a scalar."""

    @abc.abstractmethod
    def generator(self, generated: Tensor) -> Tensor:
        """Loss of the generator, a scalar."""


class Wasserstein(AdversarialLoss):
    """Loss of WGAN (Arjovsky et al. 2017), for critics that are Lipschitz continuous."""

    def critic(self, real: Tensor, generated: Tensor) -> Tensor:
        return generated.mean() - real.mean()

    def generator(self, generated: Tensor) -> Tensor:
        return -generated.mean()


class Hinge(AdversarialLoss):
    """Hinge loss (Lim and Ye 2017)."""

    def critic(self, real: Tensor, generated: Tensor) -> Tensor:
        return (1 - real).relu().mean() + (1 + generated).relu().mean()

    def generator(self, generated: Tensor) -> Tensor:
        return -generated.mean()


class Logistic(AdversarialLoss):
    """Logistic loss, whose generator does not saturate (Goodfellow et al. 2014).

    It is the binary cross-entropy of MoCoGAN and the softplus of TGANv2.
    """

    def critic(self, real: Tensor, generated: Tensor) -> Tensor:
        return softplus(-real).mean() + softplus(generated).mean()

    def generator(self, generated: Tensor) -> Tensor:
        return softplus(-generated).mean()


class R1:
    """Gradient penalty of the critic at real videos, R1 (Mescheder et al. 2018).

    `weight · |∇ D(x)|²`, of all views together.

    Args:
        weight: Weight; it is γ/2 of the paper.
        every: Number of steps of the critic from one penalty to the next, which is that many
            times larger (Karras et al. 2020, "lazy regularization").
        reduction: `mean` over the videos of a batch, or `sum` (TGANv2).

    Raises:
        InputError: Numbers below their minimum.
    """

    def __init__(
        self, weight: float, every: int = 1, reduction: Literal["mean", "sum"] = "mean"
    ) -> None:
        check_counts(0, weight=weight)
        check_counts(1, every=every)
        self.weight, self.every, self.reduction = weight, every, reduction

    def __call__(
        self, critic: Callable[[Sequence[Tensor]], Tensor], videos: Sequence[Tensor]
    ) -> Tensor:
        """Penalty, a scalar that gradients flow through.

        Args:
            critic: From videos to scores `[n …]`.
            videos: Real videos `[b k c h w]`, one for each view.
        """
        inputs = [video.detach().requires_grad_() for video in videos]
        gradients = torch.autograd.grad(critic(inputs).sum(), inputs, create_graph=True)
        total = sum((g.square().sum() for g in gradients), inputs[0].new_zeros(()))
        share = 1 if self.reduction == "sum" else len(inputs[0])
        return self.every * self.weight * total / share
