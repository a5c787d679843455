"""The game of Predoc III, eq. 7.2: critics maximise an estimate that a network minimises."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import one_hot

from common.errors import check_counts, check_positive, check_shares
from mimic.critic.critics import CriticFactory, HybridCritic
from mimic.critic.devices import own_draws, sum_over_devices, world_size
from mimic.critic.estimators import Estimator, make_estimator
from mimic.critic.terms import Decomposition, Term, terms
from mimic.features.rows import Rows
from mimic.features.shuffling import shuffle_channels

Weights = dict[str, Tensor]
Values = list[tuple[Tensor, Tensor]]  # for each term, values on joint and on marginal samples


class Game(nn.Module):
    """Critics that estimate a total correlation, with the optimiser that trains them.

    One turn of the game is `n_critic` steps of the critics and then the estimate, which the
    network descends. A variant of the game overrides `turn`, `shuffled`, `readers` or `update`.
    The weights are in single precision and the same on every device.

    Args:
        groups: Group of each channel; the total correlation is that among groups.
        size: Number of values in a channel.
        n_classes: Number of classes, for the total correlation within classes, `E_y TC(z | y)`.
            None: over all classes.
        critic: Factory of critics.
        estimator: Name of the estimator: the objective of a critic and what is read from it.
        decomposition: Decomposition into terms, each with a critic; see `terms`.
        lr: Learning rate of the critics' Adam.
        betas: Betas of the critics' Adam.
        noise: Standard deviation of the noise that is added to rows anew each time.
        n_critic: Number of steps of the critics in a turn.
        seed: Seed of the critics' weights.
        device: Device of the critics.

    Attributes:
        ranking: Share of pairs of a joint and a shuffled sample that the critics ranked right in
            their last step; see `ranking_of`.
    """

    def __init__(
        self,
        groups: Sequence[int],
        size: int = 1,
        n_classes: int | None = None,
        critic: CriticFactory = HybridCritic,
        estimator: str = "smile",
        decomposition: Decomposition = "direct",
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        noise: float = 0.0,
        n_critic: int = 1,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        check_counts(1, n_critic=n_critic)
        check_counts(0, noise=noise)
        check_positive(lr=lr)
        check_shares(betas=betas)
        self.n_channels, self.n_classes = len(groups), n_classes
        self.noise, self.n_critic = noise, n_critic
        self.terms = terms(groups, decomposition)
        with own_draws(seed):
            self.critics = nn.ModuleList(
                critic(term.blocks, size, n_classes or 0) for term in self.terms
            )
        self.estimators = nn.ModuleList(make_estimator(estimator) for _ in self.terms)
        self.to(device, torch.float32)
        self.optimizer = torch.optim.Adam(
            self.critics.parameters(), lr=lr, betas=betas, fused=True
        )
        self.ranking = torch.zeros(())

    def play(self, rows: Rows, generator: torch.Generator | None = None) -> Tensor:
        """One turn: trains the critics on the rows and returns the penalty in nats.

        Returns:
            The penalty, with a gradient to the rows. NaN if the rows are not finite on some
            device, as where half precision overflows: the step will be skipped, so the critics
            are left as they were.
        """
        return self.turn(rows, generator) if _finite(rows) else rows.z.sum() * torch.nan

    def train_critics(self, rows: Rows, generator: torch.Generator | None = None) -> None:
        """Trains the critics alone, `n_critic` steps, unless the rows are not finite."""
        if _finite(rows):
            self._steps(rows, generator)

    def turn(self, rows: Rows, generator: torch.Generator | None) -> Tensor:
        """The critics' steps, then the penalty on finite rows."""
        self._steps(rows, generator)
        return self.estimate(rows.noisy(self.noise, generator), generator)

    def _steps(self, rows: Rows, generator: torch.Generator | None) -> None:
        for _ in range(self.n_critic):
            self.step(rows.noisy(self.noise, generator), generator)

    @torch.enable_grad()
    def step(self, rows: Rows, generator: torch.Generator | None = None) -> None:
        """One step of the critics on rows, whose gradient is cut off.

        On several devices the critics take the same step, on the mean of their gradients.
        """
        rows = rows._replace(z=rows.z.detach())
        self.observe(rows)
        values = self.values(rows, generator)
        self.optimizer.zero_grad()
        (-self.objective(values)).backward()
        self.update()
        self.ranking = ranking_of(values)

    def estimate(self, rows: Rows, generator: torch.Generator | None = None) -> Tensor:
        """Estimate in nats, with gradients to the rows and none to the critics."""
        # Copies, since the critics may step again before the estimate is differentiated.
        weights = [copied(critic) for critic in self.readers()]
        return self.read(self.values(rows, generator, weights=weights))

    def readers(self) -> nn.ModuleList:
        """Critics from which the penalty is read."""
        return self.critics

    def limit(self, samples: int) -> None:
        """Tells critics the number of samples, where steps see the same ones again and again."""
        for critic in self.critics:
            if callable(limit := getattr(critic, "limit", None)):
                limit(samples)

    @torch.no_grad()
    def observe(self, rows: Rows) -> None:
        """Shows critics that keep statistics the rows of their next step."""
        for critic, term in zip(self.critics, self.terms, strict=True):
            if callable(observe := getattr(critic, "observe", None)):
                observe(rows.z[:, term.channels])

    def values(
        self,
        rows: Rows,
        generator: torch.Generator | None = None,
        shuffles: int = 1,
        weights: Sequence[Weights] | None = None,
    ) -> Values:
        """Values of each term's critic on the rows and on shuffled rows.

        Args:
            rows: Samples of the joint distribution.
            generator: Source of the shuffles.
            shuffles: Number of shuffles of all rows.
            weights: Weights in place of the critics' own, for each term.
        """
        context = None
        if rows.labels is not None and self.n_classes:
            context = one_hot(rows.labels, self.n_classes).to(rows.z).repeat(1 + shuffles, 1)
        found = []
        for i, (critic, term) in enumerate(zip(self.critics, self.terms, strict=True)):
            z = rows.z[:, term.channels] if len(self.terms) > 1 else rows.z
            part = rows._replace(z=z)
            shuffled = [self.shuffled(part, term, generator) for _ in range(shuffles)]
            # One pass over all: half the calls, and the same statistics if a critic has any.
            inputs = (torch.cat([z, *shuffled]), *([] if context is None else [context]))
            both = functional_call(critic, {} if weights is None else weights[i], inputs)
            found.append((both[: len(z)], both[len(z) :]))
        return found

    def shuffled(self, rows: Rows, term: Term, generator: torch.Generator | None) -> Tensor:
        """Samples of the product of marginals, made of the rows of a term's channels."""
        labels = rows.labels if self.n_classes else None
        blocks = None if len(set(term.blocks)) == len(term.blocks) else term.blocks
        return shuffle_channels(rows.z, labels, rows.positions, blocks, generator)

    def objective(self, values: Values) -> Tensor:
        """Sum of the objectives of all terms, which the critics ascend."""
        each = zip(self.estimators, values, strict=True)
        return torch.stack([cast(Estimator, e).objective(*pair) for e, pair in each]).sum()

    def read(self, values: Values) -> Tensor:
        """Sum of the estimates of all terms, in nats."""
        return torch.stack([e(*v) for e, v in zip(self.estimators, values, strict=True)]).sum()

    def update(self) -> None:
        """Step of the optimiser on the mean gradient of all devices."""
        for parameter in self.critics.parameters():
            if parameter.grad is not None:
                parameter.grad = sum_over_devices(parameter.grad) / world_size()
        self.optimizer.step()

    def get_extra_state(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)


def copied(critic: nn.Module, trained: bool = False) -> Weights:
    """Copy of a critic's weights, which gradients reach if it is to be trained."""
    return {
        name: weight.detach().clone().requires_grad_(trained)
        for name, weight in critic.named_parameters()
    }


def ranking_of(values: Values) -> Tensor:
    """Share of pairs in which the joint sample has the higher value; 1/2 by chance.

    Unlike the share of values with the right sign, it does not depend on the constant in T that
    some objectives leave open.
    """
    pairs = [joint[:, None] - marginal[None, :1024] for joint, marginal in values]
    return torch.stack([0.5 * (p.detach().sign() + 1).mean() for p in pairs]).mean()


def _finite(rows: Rows) -> bool:
    """True if the rows of all devices are finite."""
    return not float(sum_over_devices((~rows.z.isfinite()).any().float()))
