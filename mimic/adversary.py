"""The maximum of eq. 7.2: critics, what they are trained by, and what is read from them."""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import one_hot

from mimic.critics import CriticFactory, HybridCritic
from mimic.estimators import Estimator
from mimic.shuffling import shuffle_channels

Decomposition = Literal["direct", "line", "tree"]
Weights = dict[str, Tensor]


class Rows(NamedTuple):
    """Samples of channels, as critics see them.

    Attributes:
        z: `[n c …]`, of mean 0 and variance 1.
        labels: Classes `[n]`, or none.
        positions: Consecutive rows that come from one image.
    """

    z: Tensor
    labels: Tensor | None = None
    positions: int = 1


class Term(NamedTuple):
    """A total correlation among blocks of channels: their numbers, and the block of each."""

    channels: list[int]
    blocks: list[int]


def terms(groups: Sequence[int], decomposition: Decomposition) -> list[Term]:
    """Terms whose sum is the total correlation of groups of channels.

    `line` is the chain `Σ I(x_1 … x_i; x_{i+1})`, `tree` splits in halves again and again (Bai et
    al. 2023, eq. 8 and 10); either has one term less than there are groups.

    Args:
        groups: Number of the group that each channel belongs to, from 0.
        decomposition: `direct` is one term.
    """
    count = max(groups) + 1
    if decomposition == "direct":
        return [Term(list(range(len(groups))), list(groups))]
    if decomposition == "line":
        pairs = [(range(i), range(i, i + 1)) for i in range(1, count)]
    else:
        pairs = list(_halves(range(count)))
    return [_pair_term(groups, *pair) for pair in pairs]


def _halves(part: range) -> Iterator[tuple[range, range]]:
    if len(part) > 1:
        left, right = part[: len(part) // 2], part[len(part) // 2 :]
        yield left, right
        yield from _halves(left)
        yield from _halves(right)


def _pair_term(groups: Sequence[int], left: range, right: range) -> Term:
    channels = [i for i, g in enumerate(groups) if g in left or g in right]
    return Term(channels, [int(groups[i] in right) for i in channels])


class Adversary(nn.Module):
    """Critics that estimate a total correlation, with the optimiser that trains them.

    Args:
        groups: Group of each channel; the interaction is among groups.
        size: Numbers in a channel.
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

    def step(self, rows: Rows, generator: torch.Generator | None = None) -> Tensor:
        """One step of the critics on rows, whose gradient is cut off; the share told apart right.

        On several devices they take the same step, on the mean of their gradients.
        """
        rows = rows._replace(z=rows.z.detach())
        self.observe(rows)
        values = self.values(rows, generator)
        with torch.enable_grad():
            loss = -self._objective(values)
        self.optimizer.zero_grad()
        loss.backward()
        self._update()
        return _accuracy(values)

    def step_and_estimate(
        self, rows: Rows, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Both players by one pass, as by gradient reversal (Ganin and Lempitsky 2015).

        The estimate is that of the critics before their step. Returns it and the share told apart
        right.
        """
        self.observe(rows._replace(z=rows.z.detach()))
        weights = [_copied(critic, trained=True) for critic in self.critics]
        values = list(self._values(rows, generator, weights))
        leaves = [w for of_one in weights for w in of_one.values()]
        gradients = torch.autograd.grad(-self._objective(values), leaves, retain_graph=True)
        for parameter, gradient in zip(self.critics.parameters(), gradients, strict=True):
            parameter.grad = gradient
        self._update()
        return self._read(values), _accuracy(values)

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
            if isinstance(critic, HybridCritic):
                critic.gaussian.distinct = samples

    @torch.no_grad()
    def observe(self, rows: Rows) -> None:
        """Shows critics that keep statistics what they are going to be trained on."""
        for critic, term in zip(self.critics, self.terms, strict=True):
            if isinstance(critic, HybridCritic):
                critic.observe(rows.z[:, term.channels])

    def values(
        self, rows: Rows, generator: torch.Generator | None = None, shuffles: int = 1
    ) -> list[tuple[Tensor, Tensor]]:
        """Of each term, the critic's values on the rows and on several shuffles of them."""
        passes = [
            list(self._values(rows, generator, [{}] * len(self.terms))) for _ in range(shuffles)
        ]
        return [
            (of_term[0][0], torch.cat([marginal for _, marginal in of_term]))
            for of_term in zip(*passes, strict=True)
        ]

    def _values(
        self,
        rows: Rows,
        generator: torch.Generator | None,
        weights: list[Weights],
        route: str = "both",
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Of each term, the critic's values on joint and on shuffled rows."""
        context = self._context(rows)
        for critic, term, replaced in zip(self.critics, self.terms, weights, strict=True):
            z = rows.z[:, term.channels] if len(self.terms) > 1 else rows.z
            shuffled = shuffle_channels(
                z if route == "both" else z.detach(),
                rows.labels if self.n_classes else None,
                rows.positions,
                term.blocks,
                generator,
            )
            # One pass over both: half the calls, and the same statistics if a critic has any.
            both = torch.cat([z, shuffled])
            inputs = (both,) if context is None else (both, torch.cat([context, context]))
            joint, marginal = functional_call(critic, replaced, inputs).chunk(2)
            yield joint, marginal

    def _context(self, rows: Rows) -> Tensor | None:
        if self.n_classes is None:
            return None
        assert rows.labels is not None
        return one_hot(rows.labels.long(), self.n_classes).to(rows.z.dtype)

    def _objective(self, values: list[tuple[Tensor, Tensor]]) -> Tensor:
        each = zip(self.estimators, values, strict=True)
        return torch.stack([cast(Estimator, e).objective(*pair) for e, pair in each]).sum()

    def _read(self, values: list[tuple[Tensor, Tensor]]) -> Tensor:
        each = zip(self.estimators, values, strict=True)
        return torch.stack([estimator(*pair) for estimator, pair in each]).sum()

    def _update(self) -> None:
        if dist.is_available() and dist.is_initialized():
            for parameter in self.critics.parameters():
                if parameter.grad is not None:
                    dist.all_reduce(parameter.grad)
                    parameter.grad /= dist.get_world_size()
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
    """A new adversary in single precision, the same on every device.

    It draws nothing from the global random state.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().to(device, torch.float32)


def _copied(critic: nn.Module, trained: bool = False) -> Weights:
    return {
        name: weight.detach().clone().requires_grad_(trained)
        for name, weight in critic.named_parameters()
    }


def _accuracy(values: list[tuple[Tensor, Tensor]]) -> Tensor:
    right = [torch.cat([joint > 0, marginal < 0]) for joint, marginal in values]
    return torch.cat(right).float().mean()
