"""The penalty on one layer, for any training loop (Predoc III, eq. 7.2)."""

import copy
import random
from typing import Any, Literal

import torch
from torch import Tensor

from common.errors import InputError
from mimic.adversary import Adversary, seeded
from mimic.critics import CriticFactory, HybridCritic, MapCritic, MLPCritic
from mimic.devices import rank, sum_over_devices
from mimic.estimators import make_estimator
from mimic.features import Reduce, Reduction, add_noise, centre, hide_channels, standardize
from mimic.penalties import PENALTIES, orthogonality
from mimic.terms import Decomposition, Rows, check_labels, check_words

EstimatorName = Literal["smile", "js", "density_ratio", "dv", "mine", "nwj", "infonce"]
Scheme = Literal["alternating", "simultaneous"]
Route = Literal["both", "joint"]
PenaltyName = Literal[
    "mimic", "covariance", "vcreg", "barlow", "orthogonality", "hsic", "distance_correlation"
]


class MiMIcRegularizer:
    """What the channels of a feature share, estimated by a critic that learns along.

    `loss = task + 0.1 * regularizer(feature)` trains the critic on the feature as it is and
    returns the estimate for the network to descend.

    It is no `nn.Module`, so that the critic's weights never end up among those that the network's
    optimiser descends: they have an optimiser of their own. Everything is made when the first
    feature comes, on its device. Random draws depend on `seed`, the step and the device's rank
    alone and leave the global state as it was.

    Args:
        penalty: `mimic`, or a rival in its place, see `mimic.penalties`; rivals look at raw
            channels and have no critic, so that of the arguments below only those on channels
            and rows concern them.
        reduce: `pool` averages over positions, `per_location` takes every position for a sample,
            `map` takes whole maps for channels.
        channel_dim: Axis of the channels; the last of `[b t c]`, otherwise 1, if none.
        rows: Rows that `per_location` looks at.
        n_classes: Classes, to penalise what channels share within a class: `E_y TC(z | y)`.
            Features that all tell the class must depend on one another over classes.
        estimator: What the critic ascends and the network descends.
        critic: Makes a critic; `MapCritic` for maps, `HybridCritic` otherwise if none.
        n_critic: Steps of the critic before each of the network.
        critic_lr: Learning rate of the critic's Adam.
        critic_betas: Betas of the critic's Adam.
        critic_ema: Decay of a mean of the critic's weights, which the network descends then.
        scheme: `alternating`, or `simultaneous`: one pass serves both players, as by gradient
            reversal.
        route: Gradients reach the network through `both` joint and shuffled samples, as in eq.
            7.2, or through the `joint` ones alone.
        noise: Deviation of the noise on the standardised channels, without which features that
            determine one another would share infinitely much.
        group: So many consecutive channels make up one variable.
        subset: Only so many channels, drawn anew each time.
        decomposition: `line` and `tree` are sums of mutual informations, each with a critic.
        seed: Of the critic's weights and of all draws.
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
        critic_ema: float | None = None,
        scheme: Scheme = "alternating",
        route: Route = "both",
        noise: float = 0.1,
        group: int = 1,
        subset: int | None = None,
        decomposition: Decomposition = "direct",
        seed: int = 0,
    ) -> None:
        check_words(
            (penalty, PenaltyName),
            (reduce, Reduce),
            (estimator, EstimatorName),
            (scheme, Scheme),
            (route, Route),
            (decomposition, Decomposition),
        )
        if n_classes is not None and penalty in ("orthogonality", "hsic", "distance_correlation"):
            raise InputError(f"{penalty} has no form within classes; leave out n_classes")
        if penalty != "mimic" and reduce == "map":
            raise InputError(f"{penalty} looks at numbers; reduce by pool or per_location")
        if min(n_critic, group, rows) < 1 or noise < 0 or critic_lr <= 0:
            raise InputError(
                f"got n_critic {n_critic}, group {group}, rows {rows}, noise {noise:g} and "
                f"critic_lr {critic_lr:g}; give 1 or more of the first three, noise from 0 on and "
                "a positive rate"
            )
        if critic_ema is not None and not 0 < critic_ema < 1:
            raise InputError(f"got critic_ema {critic_ema:g}; give more than 0 and less than 1")
        if scheme == "simultaneous" and (n_critic > 1 or critic_ema or route == "joint"):
            raise InputError(
                "the simultaneous scheme is one pass for both players: n_critic must be 1, "
                "critic_ema none and route both"
            )
        if subset is not None and (group > 1 or decomposition != "direct"):
            raise InputError("subset chooses single channels; leave out group and decomposition")
        self.penalty, self.n_classes, self.estimator = penalty, n_classes, estimator
        self.reduction = Reduction(reduce, channel_dim, rows, subset)
        self.critic, self.n_critic = critic, n_critic
        self.critic_lr, self.critic_betas, self.critic_ema = critic_lr, critic_betas, critic_ema
        self.scheme, self.route, self.noise = scheme, route, noise
        self.group, self.decomposition, self.seed = group, decomposition, seed
        self.calls = 0
        self.critic_ranking = self.dead_channels = torch.zeros(())
        self.adversary: Adversary | None = None
        self._stored: dict[str, Any] | None = None

    @property
    def trains_critic(self) -> bool:
        """Whether there is a critic at all."""
        return self.penalty == "mimic"

    def __call__(
        self, feature: Tensor, labels: Tensor | None = None, weight: Tensor | None = None
    ) -> Tensor:
        """Trains the critic on a feature, then returns the penalty, in nats if it is MiMIc's.

        Args:
            feature: Output of a layer, `[b c …]`, or `[b t c]`.
            labels: Classes `[b]`, if within classes.
            weight: The layer's weights, for `orthogonality`.

        Returns:
            The penalty; NaN if the feature isn't finite, and the critic is left as it was.

        Raises:
            ValueError: Nothing to measure on such a feature, or labels or weights are missing.
        """
        with torch.autocast(feature.device.type, enabled=False):
            if not self.trains_critic:
                return self._rival(feature, labels, weight)
            if (prepared := self._prepared(feature, labels)) is None:
                return feature.sum() * torch.nan
            rows, adversary, generator = prepared
            if self.scheme == "simultaneous":
                noisy = add_noise(rows, self.noise, generator)
                estimate, self.critic_ranking = adversary.step_and_estimate(noisy, generator)
                return estimate
            self._train(rows, adversary, generator)
            noisy = add_noise(rows, self.noise, generator)
            return adversary.estimate(noisy, generator, self.route)

    def critic_step(self, feature: Tensor, labels: Tensor | None = None) -> None:
        """Trains the critic alone, `n_critic` steps, for a warm-up; rivals have none."""
        if self.trains_critic:
            with torch.autocast(feature.device.type, enabled=False):
                if (prepared := self._prepared(feature.detach(), labels)) is not None:
                    self._train(*prepared)

    def state_dict(self) -> dict[str, Any]:
        """All that an exact resume needs."""
        stored = None if self.adversary is None else self.adversary.state_dict()
        return {"calls": self.calls, "adversary": stored or self._stored}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up a state, which reaches the critic when the next feature comes."""
        # A copy, as what was stored may be trained on before it is needed here.
        self.calls, self._stored = state["calls"], copy.deepcopy(state["adversary"])
        self.adversary = None

    def _rival(self, feature: Tensor, labels: Tensor | None, weight: Tensor | None) -> Tensor:
        if self.penalty == "orthogonality":
            if weight is None or weight.ndim < 2:
                raise ValueError(
                    "orthogonality is a penalty on a layer's weights, and this layer has no "
                    "matrix of its own; name a linear or convolutional layer"
                )
            return orthogonality(weight.float())
        rows = self._rows(feature, labels, self._next(feature))
        _, dead = standardize(rows, self.n_classes)
        self.dead_channels = dead.sum()
        return PENALTIES[self.penalty](centre(rows, self.n_classes).z)

    def _prepared(
        self, feature: Tensor, labels: Tensor | None
    ) -> tuple[Rows, Adversary, torch.Generator] | None:
        """Standardised rows, the critic for them, and the source of this call's draws.

        None of a feature that isn't finite on some device, as where half precision overflows: a
        step that is going to be skipped must not reach the critic.
        """
        generator = self._next(feature)
        rows = self._rows(feature, labels, generator)
        if float(sum_over_devices((~rows.z.isfinite()).any().float())):
            return None
        rows, dead = standardize(rows, self.n_classes)
        self.dead_channels = dead.sum()
        if self.adversary is None:
            self.adversary = self._made(rows)
            if self._stored is not None:
                self.adversary.load_state_dict(self._stored)
                self._stored = None
        if (before := self.adversary.n_channels) != (now := rows.z.shape[1]):
            raise ValueError(
                f"got a feature of {before} channels before and {now} now; give every layer a "
                "regularizer of its own"
            )
        return hide_channels(rows, self.reduction.subset, generator), self.adversary, generator

    def _train(self, rows: Rows, adversary: Adversary, generator: torch.Generator) -> None:
        for _ in range(self.n_critic):
            noisy = add_noise(rows, self.noise, generator)
            self.critic_ranking = adversary.step(noisy, generator)

    def _rows(self, feature: Tensor, labels: Tensor | None, generator: torch.Generator) -> Rows:
        if len(feature) < 2:
            raise ValueError(
                f"got a batch of {len(feature)}: what channels share can't be seen in fewer than "
                "2 samples; raise the batch size, or set drop_last on the loader"
            )
        if self.n_classes is None:
            labels = None
        elif labels is None:
            raise ValueError(
                f"n_classes is {self.n_classes}, so the penalty is within classes and needs the "
                "labels; say where in the batch they are (labels=), or leave out n_classes"
            )
        else:
            check_labels(labels, self.n_classes)
        return self.reduction(feature, labels, generator)

    def _next(self, feature: Tensor) -> torch.Generator:
        """A generator of this step and device alone."""
        seed = random.Random(f"{self.seed}/{self.calls}/{rank()}").getrandbits(63)
        self.calls += 1
        return torch.Generator(feature.device).manual_seed(seed)

    def _made(self, rows: Rows) -> Adversary:
        c, size = rows.z.shape[1], rows.z[0, 0].numel()
        if c % self.group or c // self.group < 2:
            raise ValueError(f"{c} channels can't be split in 2 or more groups of {self.group}")
        usual = MLPCritic if self.reduction.subset else HybridCritic
        critic = self.critic or (MapCritic if rows.z.ndim > 2 else usual)

        def make() -> Adversary:
            return Adversary(
                [i // self.group for i in range(c)],
                size,
                self.n_classes,
                critic,
                make_estimator(self.estimator),
                self.decomposition,
                self.critic_lr,
                self.critic_betas,
                self.critic_ema,
            )

        return seeded(make, self.seed, rows.z.device)
