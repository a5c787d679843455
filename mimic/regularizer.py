"""MiMIc penalty on the features of one layer, for any training loop (Predoc III, eq. 7.2)."""

import copy
import random
from functools import partial
from typing import Any

import torch
from torch import Tensor

from common.errors import InputError, check_counts, check_positive, check_shares, check_words
from mimic.critic.critics import CriticFactory, HybridCritic, MapCritic, MLPCritic
from mimic.critic.devices import rank
from mimic.critic.estimators import EstimatorName
from mimic.critic.game import Game
from mimic.critic.terms import Decomposition
from mimic.features.inputs import Numbers, as_channels
from mimic.features.rows import Reduce, Reduction, Rows, centre, standardize
from mimic.penalties import BASELINES, PenaltyName, orthogonality


class MiMIcRegularizer:
    """Total correlation of a feature's channels, estimated by a critic that trains along.

    `loss = task + 0.1 * regularizer(feature)` trains the critic on the detached feature and
    returns the estimate, which the network descends.

    On several devices the critics take the same steps. A baseline is that of each device's own
    batch; gradients are averaged, as those of the task.

    It is no `nn.Module`, so that the critic's weights never get into the network's optimiser: they
    have an optimiser of their own. Everything is made when the first feature comes, on its device.
    Random draws depend only on `seed`, the number of the call and the device's rank; the global
    random state is left as it was.

    Args:
        penalty: `mimic`, or a baseline in its place, see `mimic.penalties`. Baselines look at raw
            channels and have no critic; of the arguments below they use only those on channels
            and rows.
        reduce: `pool`: averages over positions. `per_location`: every position is a sample.
            `map`: channels are whole maps.
        channel_dim: Axis of the channels. None: of a layer by name, the one that its last part
            with channels tells; otherwise the last axis of `[b t c]`, and axis 1 of all else.
        rows: Number of rows under `per_location`.
        n_classes: Number of classes, for a penalty within classes, `E_y TC(z | y)`: features that
            all tell the class must depend on one another over classes. None: over all classes.
        estimator: Objective of the critic, and the estimate that the network descends.
        critic: Factory of critics. None: `MapCritic` for maps, `MLPCritic` with `subset`,
            otherwise `HybridCritic`.
        n_critic: Number of steps of the critic before each step of the network.
        critic_lr: Learning rate of the critic's Adam.
        critic_betas: Betas of the critic's Adam.
        noise: Standard deviation of the noise on the standardised channels. Without it, features
            that determine one another would have infinite total correlation.
        group: Number of consecutive channels that make up one variable.
        subset: Number of channels to look at, drawn anew each time. None: all channels.
        decomposition: `direct`, or `line` and `tree`: sums of mutual informations, each with a
            critic.
        seed: Seed of the critic's weights and of all draws.
        game: The game between critic and network; a subclass of `Game` is a variant of it.

    Attributes:
        dead_channels: Number of channels that were constant over the last batch.
    """

    def __init__(
        self,
        penalty: PenaltyName = "mimic",
        reduce: Reduce = "pool",
        channel_dim: int | None = None,
        rows: int = 1024,
        n_classes: int | None = None,
        estimator: EstimatorName = "smile",
        critic: CriticFactory | None = None,
        n_critic: int = 1,
        critic_lr: float = 1e-3,
        critic_betas: tuple[float, float] = (0.5, 0.9),
        noise: float = 0.1,
        group: int = 1,
        subset: int | None = None,
        decomposition: Decomposition = "direct",
        seed: int = 0,
        game: type[Game] = Game,
    ) -> None:
        check_words((estimator, EstimatorName), (decomposition, Decomposition))
        _check_penalty(penalty, reduce, n_classes)
        check_counts(1, n_critic=n_critic, group=group, rows=rows)
        check_counts(2, subset=subset, n_classes=n_classes)
        check_counts(0, noise=noise)
        check_positive(critic_lr=critic_lr)
        check_shares(critic_betas=critic_betas)
        if subset is not None and (group > 1 or decomposition != "direct"):
            raise InputError("subset chooses single channels; leave out group and decomposition")
        self.penalty, self.n_classes, self.group, self.seed = penalty, n_classes, group, seed
        self.reduction = Reduction(reduce, channel_dim, rows, subset, n_classes)
        self._new_game = partial(
            game,
            n_classes=n_classes,
            estimator=estimator,
            decomposition=decomposition,
            lr=critic_lr,
            betas=critic_betas,
            noise=noise,
            n_critic=n_critic,
            seed=seed,
        )
        self.critic, self.calls, self.dead_channels = critic, 0, torch.zeros(())
        self.game: Game | None = None
        self._stored: dict[str, Any] | None = None

    @property
    def trains_critic(self) -> bool:
        """True if there is a critic."""
        return self.penalty == "mimic"

    @property
    def critic_ranking(self) -> Tensor:
        """Share of pairs of a joint and a shuffled sample that the critic ranks right."""
        return torch.zeros(()) if self.game is None else self.game.ranking

    def __call__(
        self,
        feature: Numbers,
        labels: Tensor | None = None,
        weight: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Trains the critic on a feature, then returns the penalty (MiMIc's is in nats).

        Args:
            feature: Output of a layer, `[b c …]`, or `[b t c]`.
            labels: Classes `[b]`, for a penalty within classes.
            weight: Weights of the layer, for `orthogonality`.
            mask: Positions that count in averages, `bool [b …]`. None: all of them.

        Returns:
            The penalty. NaN if the feature is not finite; the critic is then left as it was.

        Raises:
            ValueError: The feature can't be measured, or labels or weights are missing.
        """
        feature = as_channels(feature, "a feature", axes=1)
        with torch.autocast(feature.device.type, enabled=False):
            if self.penalty == "orthogonality":
                return orthogonality(None if weight is None else weight.float())
            generator = self._generator(feature)
            if not self.trains_critic:
                return self._baseline(feature, labels, generator, mask)
            rows, self.dead_channels = self.reduction.standard(feature, labels, generator, mask)
            return self._game(rows).play(rows, generator)

    def critic_step(
        self, feature: Numbers, labels: Tensor | None = None, mask: Tensor | None = None
    ) -> None:
        """Trains the critic alone, `n_critic` steps, for a warm-up; baselines have no critic."""
        if not self.trains_critic:
            return
        feature = as_channels(feature, "a feature", axes=1)
        with torch.autocast(feature.device.type, enabled=False):
            generator = self._generator(feature)
            standard = self.reduction.standard(feature.detach(), labels, generator, mask)
            rows, self.dead_channels = standard
            self._game(rows).train_critics(rows, generator)

    def state_dict(self) -> dict[str, Any]:
        """State for an exact resume."""
        stored = None if self.game is None else self.game.state_dict()
        return {"calls": self.calls, "game": stored or self._stored}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Loads a state, which reaches the critic when the next feature comes."""
        # A copy, as the stored tensors may be trained on before they are needed here.
        self.calls, self._stored = state["calls"], copy.deepcopy(state["game"])
        self.game = None

    def _baseline(
        self,
        feature: Tensor,
        labels: Tensor | None,
        generator: torch.Generator,
        mask: Tensor | None,
    ) -> Tensor:
        rows = self.reduction(feature, labels, generator, mask)
        self.dead_channels = standardize(rows, self.n_classes)[1].sum()
        return BASELINES[self.penalty](centre(rows, self.n_classes).z)

    def _generator(self, feature: Tensor) -> torch.Generator:
        """Generator of this call and device."""
        seed = random.Random(f"{self.seed}/{self.calls}/{rank()}").getrandbits(63)
        self.calls += 1
        return torch.Generator(feature.device).manual_seed(seed)

    def _game(self, rows: Rows) -> Game:
        """The game for rows of this size, begun with the first ones."""
        c = rows.z.shape[1]
        if self.game is None:
            if c % self.group or c // self.group < 2:
                raise ValueError(
                    f"{c} channels can't be split in 2 or more groups of {self.group}; give a "
                    f"group that divides {c} and is less"
                )
            usual = MLPCritic if self.reduction.subset else HybridCritic
            self.game = self._new_game(
                [i // self.group for i in range(c)],
                rows.z[0, 0].numel(),
                critic=self.critic or (MapCritic if rows.z.ndim > 2 else usual),
                device=rows.z.device,
            )
            if self._stored is not None:
                self.game.load_state_dict(self._stored)
                self._stored = None
        if (before := self.game.n_channels) != c:
            raise ValueError(
                f"got a feature of {before} channels before and {c} now; give every layer a "
                "regularizer of its own"
            )
        return self.game


def _check_penalty(penalty: str, reduce: str, n_classes: int | None) -> None:
    """Refuses unknown words, and a penalty where it has no form."""
    check_words((penalty, PenaltyName), (reduce, Reduce))
    if n_classes is not None and penalty in ("orthogonality", "hsic", "distance_correlation"):
        raise InputError(f"{penalty} has no form within classes; leave out n_classes")
    if penalty != "mimic" and reduce == "map":
        raise InputError(f"{penalty} looks at numbers; reduce by pool or per_location")
