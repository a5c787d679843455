"""Variants of the game between critics and network, for the study of the game."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from mimic.critic.game import Game, copied, ranking_of
from mimic.critic.terms import Term
from mimic.features.rows import Rows


class SimultaneousGame(Game):
    """Both players in one pass, as by gradient reversal (Ganin and Lempitsky 2015).

    The penalty is that of the critics before their step.
    """

    def turn(self, rows: Rows, generator: torch.Generator | None) -> Tensor:
        rows = rows.noisy(self.noise, generator)
        self.observe(rows._replace(z=rows.z.detach()))
        weights = [copied(critic, trained=True) for critic in self.critics]
        values = self.values(rows, generator, weights=weights)
        leaves = [w for of_one in weights for w in of_one.values()]
        gradients = torch.autograd.grad(-self.objective(values), leaves, retain_graph=True)
        for parameter, gradient in zip(self.critics.parameters(), gradients, strict=True):
            parameter.grad = gradient
        self.update()
        self.ranking = ranking_of(values)
        return self.read(values)


class JointRouteGame(Game):
    """Gradients to the network through the joint samples alone, as in FactorVAE."""

    def shuffled(self, rows: Rows, term: Term, generator: torch.Generator | None) -> Tensor:
        return super().shuffled(rows._replace(z=rows.z.detach()), term, generator)


class MeanCriticGame(Game):
    """Penalty read from a running mean of the critics' weights, with decay 0.99."""

    decay = 0.99

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.average = copy.deepcopy(self.critics).requires_grad_(False)

    def readers(self) -> nn.ModuleList:
        return self.average

    def update(self) -> None:
        super().update()
        means, now = self.average.state_dict(), self.critics.state_dict()
        for mean, new in zip(means.values(), now.values(), strict=True):
            mean.copy_(mean.lerp(new, 1 - self.decay) if mean.is_floating_point() else new)


GAMES: dict[str, type[Game]] = {
    "simultaneous": SimultaneousGame,
    "joint route": JointRouteGame,
    "mean critic": MeanCriticGame,
}
