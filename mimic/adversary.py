"""The maximum of eq. 7.2: critics, what they are trained by, and what is read from them."""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import one_hot

from mimic.critics import CriticFactory
from mimic.devices import own_draws, sum_over_devices, world_size
from mimic.estimators import Estimator
from mimic.shuffling import shuffle_channels
from mimic.terms import Decomposition, Rows, terms

Weights = dict[str, Tensor]


class Adversary(nn.Module):
    """Critics that estimate a total correlation, with the optimiser that trains them.

    Args:
        groups: Group of each channel; the interaction is among groups.
        size: Integers in a channel.
        n_classes: Classes, if the interaction within classes is meant: `E_y TC(z | y)`.
        critic: Makes a critic.
        estimator: What a critic ascends and what is read from it, a new one for each term.
        decomposition: See `terms`.
        lr: Of the critics' Adam.
        betas: Of the critics' Adam.
        ema: Estimates are read from a running mean of the critics' weights with this decay; from
            the critics themselves if none.
    """

    def __init__(
        self,
        groups: Sequence[int],
        size: int,
        n_classes: int | None,
        critic: CriticFactory,
        estimator: Estimator,
        decomposition: Decomposition = "direct",
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        ema: float | None = None,
    ) -> None:
        super().__init__()
        self.n_channels, self.n_classes, self.ema = len(groups), n_classes, ema
        self.terms = terms(groups, decomposition)
        self.critics = nn.ModuleList(
            critic(term.blocks, size, n_classes or 0) for term in self.terms
        )
        self.estimators = nn.ModuleList(copy.deepcopy(estimator) for _ in self.terms)
        self.average = copy.deepcopy(self.critics).requires_grad_(False) if ema else None
        self.optimizer = torch.optim.Adam(
            self.critics.parameters(), lr=lr, betas=betas, fused=True
        )

    @torch.enable_grad()
    def step(self, rows: Rows, generator: torch.Generator | None = None) -> Tensor:
        """One step of the critics on rows, whose gradient is cut off; returns their `ranking`.

        On several devices they take the same step, on the mean of their gradients.
        """
        rows = rows._replace(z=rows.z.detach())
        self.observe(rows)
        values = self.values(rows, generator)
        self.optimizer.zero_grad()
        (-self._objective(values)).backward()
        self._update()
        return ranking(values)

    def step_and_estimate(
        self, rows: Rows, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Both players by one pass, as by gradient reversal (Ganin and Lempitsky 2015).

        The estimate is that of the critics before their step. Returns it and their `ranking`.
        """
        self.observe(rows._replace(z=rows.z.detach()))
        weights = [_copied(critic, trained=True) for critic in self.critics]
        values = list(self._values(rows, generator, weights))
        leaves = [w for of_one in weights for w in of_one.values()]
        gradients = torch.autograd.grad(-self._objective(values), leaves, retain_graph=True)
        for parameter, gradient in zip(self.critics.parameters(), gradients, strict=True):
            parameter.grad = gradient
        self._update()
        return self._read(values), ranking(values)

    def estimate(
        self, rows: Rows, generator: torch.Generator | None = None, route: str = "both"
    ) -> Tensor:
        """The estimate in nats; gradients reach the rows, not the critics.

        Args:
            rows: The samples.
            generator: Of the shuffles.
            route: `both`: through joint and shuffled samples, as in eq. 7.2; `joint`: through the
                joint ones alone, as in FactorVAE.
        """
        readers = self.critics if self.average is None else self.average
        # Copies, since the critics may step again before the estimate is differentiated.
        weights = [_copied(critic) for critic in readers]
        return self._read(list(self._values(rows, generator, weights, route)))

    def limit(self, samples: int) -> None:
        """Says how many samples there are, where steps see the same ones again and again."""
        for critic in self.critics:
            if callable(limit := getattr(critic, "limit", None)):
                limit(samples)

    @torch.no_grad()
    def observe(self, rows: Rows) -> None:
        """Shows critics that keep statistics what they are going to be trained on."""
        for critic, term in zip(self.critics, self.terms, strict=True):
            if callable(observe := getattr(critic, "observe", None)):
                observe(rows.z[:, term.channels])

    def values(
        self, rows: Rows, generator: torch.Generator | None = None, shuffles: int = 1
    ) -> list[tuple[Tensor, Tensor]]:
        """Of each term, the critic's values on the rows and on several shuffles of them."""
        return list(self._values(rows, generator, [{}] * len(self.terms), shuffles=shuffles))

    def _values(
        self,
        rows: Rows,
        generator: torch.Generator | None,
        weights: list[Weights],
        route: str = "both",
        shuffles: int = 1,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Of each term, the critic's values on joint and on shuffled rows."""
        labels = rows.labels if self.n_classes else None
        context = None if labels is None else one_hot(labels, self.n_classes or 0).to(rows.z)
        for critic, term, replaced in zip(self.critics, self.terms, weights, strict=True):
            z = rows.z[:, term.channels] if len(self.terms) > 1 else rows.z
            source = z if route == "both" else z.detach()
            blocks = None if len(set(term.blocks)) == len(term.blocks) else term.blocks
            shuffled = [
                shuffle_channels(source, labels, rows.positions, blocks, generator)
                for _ in range(shuffles)
            ]
            # One pass over all: half the calls, and the same statistics if a critic has any.
            inputs = [torch.cat([z, *shuffled])]
            if context is not None:
                inputs.append(context.repeat(1 + shuffles, 1))
            both = functional_call(critic, replaced, tuple(inputs))
            yield both[: len(z)], both[len(z) :]

    def _objective(self, values: list[tuple[Tensor, Tensor]]) -> Tensor:
        each = zip(self.estimators, values, strict=True)
        return torch.stack([cast(Estimator, e).objective(*pair) for e, pair in each]).sum()

    def _read(self, values: list[tuple[Tensor, Tensor]]) -> Tensor:
        each = zip(self.estimators, values, strict=True)
        return torch.stack([estimator(*pair) for estimator, pair in each]).sum()

    def _update(self) -> None:
        for parameter in self.critics.parameters():
            if parameter.grad is not None:
                parameter.grad = sum_over_devices(parameter.grad) / world_size()
        self.optimizer.step()
        if self.average is not None:
            assert self.ema is not None
            pairs = zip(
                self.average.state_dict().values(), self.critics.state_dict().values(), strict=True
            )
            for mean, new in pairs:
                mean.copy_(mean.lerp(new, 1 - self.ema) if mean.is_floating_point() else new)

    def get_extra_state(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)


def seeded(make: Callable[[], Adversary], seed: int, device: torch.device) -> Adversary:
    """A new adversary in single precision, the same on every device."""
    with own_draws(seed):
        return make().to(device, torch.float32)


def _copied(critic: nn.Module, trained: bool = False) -> Weights:
    return {
        name: weight.detach().clone().requires_grad_(trained)
        for name, weight in critic.named_parameters()
    }


def ranking(values: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Share of pairs in which the joint sample has the higher value; a half if none is told apart.

    Unlike the share of values with the right sign, it doesn't mind the constant in T that some
    objectives leave open.
    """
    pairs = [joint[:, None] - marginal[None, :1024] for joint, marginal in values]
    return torch.stack([0.5 * (p.detach().sign() + 1).mean() for p in pairs]).mean()
