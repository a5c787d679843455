"""Measurement of total correlation: a new density and a new critic, on samples they never saw."""

import copy
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from common.errors import InputError, check_counts, check_positive, check_words
from common.progress import Progress
from mimic.critic.critics import CriticFactory, HybridCritic
from mimic.critic.devices import alone
from mimic.critic.estimators import EstimatorName, discrimination, log_mean_exp
from mimic.critic.game import Game
from mimic.critic.terms import Decomposition
from mimic.density import MOST, STEPS, Reading, read_density
from mimic.features.inputs import Numbers, as_channels, check_labels
from mimic.features.normal_scores import NormalScores
from mimic.features.rows import Rows, standardize
from mimic.features.ties import atoms, copies

FEWEST = 40  # samples, so that a critic trains on twelve
NOISE = 0.1  # standard deviation of the noise, in deviations of a channel, as in the plug-in
Draw = Callable[[int, torch.Generator], Rows]  # fresh samples, as many as asked for


class Measurement(NamedTuple):
    """Total correlation in nats, with two readings of it.

    Errors are those of reading a given density or critic; they do not include that it may be poor.

    Attributes:
        value: The density's reading; the critic's where there is no density, or where that is
            greater by more than twice its error, below the logarithm of the number of samples that
            it read, and no channel has values that many samples share.
        error: Its standard error over held-out samples.
        critic: The critic's reading.
        critic_error: Its standard error.
    """

    value: float
    error: float
    critic: float
    critic_error: float


def measure_total_correlation(
    z: Numbers,
    labels: Numbers | None = None,
    n_classes: int | None = None,
    positions: int = 1,
    groups: Sequence[int] | None = None,
    decomposition: Decomposition = "direct",
    estimator: EstimatorName = "smile",
    critic: CriticFactory | None = None,
    steps: int = 2000,
    batch_size: int = 256,
    lr: float = 3e-3,
    noise: float = NOISE,
    shuffles: int = 10,
    seed: int = 0,
) -> Measurement:
    """Total correlation of a sample's channels, read twice on samples held out from training.

    The channels are standardised; heavy-tailed channels are made normal, which leaves total
    correlation as it is; then noise is added. A density reads up to 64 channels that are single
    numbers, see `mimic.density`. A critic reads any channels: it trains on four fifths of one half
    of the images; it is evaluated on the last fifth as it trains, and its best state is kept.
    Both say too little where they are poor, so the greater of the two counts, see `Measurement`.

    Warns if the readings differ by more than twice their error and a tenth of the greater one, if
    one is below zero, which no total correlation is, and if samples are copies of others, which
    are then left out.

    Args:
        z: Channels `[n c …]`, a tensor or a numpy array of any real numbers.
        labels: Classes `[n]`, for the total correlation within classes. None: over all classes.
        n_classes: Number of classes.
        positions: Number of consecutive rows that come from one image.
        groups: Group of each channel, from 0, for the total correlation among groups. None: every
            channel is a group.
        decomposition: `direct`, or `line` and `tree`: sums of mutual informations.
        estimator: Objective of the critic, and what is read from it.
        critic: Factory of critics. None: `HybridCritic`.
        steps: Number of steps of the critic; a density takes as many, at most 600.
        batch_size: Number of rows of a step.
        lr: Learning rate of the critic's Adam, which falls to zero as a cosine.
        noise: Standard deviation of the noise, in deviations of a channel (of a heavy-tailed
            channel once it is normal). The total correlation is that of the noisy channels.
            Values that many samples share, as of discrete channels, get no noise.
        shuffles: Number of shuffles of the held-out rows, for samples of the product of marginals.
        seed: Seed of everything random.

    Raises:
        InputError: Fewer than 40 images, values that are not finite, labels without classes or
            outside them, or other options out of range.
    """
    check_options(
        dict(decomposition=decomposition, estimator=estimator, steps=steps, lr=lr, noise=noise)
        | dict(batch_size=batch_size, shuffles=shuffles)
    )
    z, classes = as_channels(z), None if labels is None else torch.as_tensor(labels).long()
    _check_samples(z, classes, n_classes, positions, groups)
    generator = torch.Generator(z.device).manual_seed(seed)
    rows = _without_copies(Rows(z.detach().float(), classes, positions))
    rows = standardize(rows, n_classes)[0]
    if rows.z.ndim == 2:
        rows = rows._replace(still=atoms(rows.z) >= 0)
    rows = rows._replace(z=NormalScores(rows.z)(rows.z))
    groups = list(groups or range(z.shape[1]))
    make = partial(Game, groups, z[0, 0].numel(), n_classes, critic or HybridCritic)
    with alone():
        game = make(estimator, decomposition, lr, seed=seed, device=z.device)
        by_critic = _read_critic(game, rows, steps, batch_size, noise, shuffles, generator)
    if z.ndim > 2 or z.shape[1] > MOST:
        return _checked(by_critic, None)
    noisy, steps = rows.noisy(noise, generator), min(steps, STEPS)
    by_density = read_density(noisy, groups, n_classes, steps, seed)
    # Both say too little where they are poor. But no critic can be trusted beyond log n, nor where
    # rare values come together that shuffled samples never show.
    discrete = rows.still is not None and bool(rows.still.any())
    return _checked(by_critic, by_density, 0.0 if discrete else math.log(len(rows.z) / 2))


def _without_copies(rows: Rows) -> Rows:
    """Rows without images that are copies of others, of which a critic could know the answer."""
    copied = copies(rows.z.unflatten(0, (-1, rows.positions)))
    if not copied.any():
        return rows
    rows = rows.images((~copied).nonzero().flatten())
    left = len(rows.z) // rows.positions
    text = f"{int(copied.sum())} of {len(copied)} samples are copies of others and are left out"
    if left < FEWEST:
        raise InputError(f"{text}; give {FEWEST} different samples or more")
    warnings.warn(text, stacklevel=3)
    return rows


def _checked(critic: Reading, density: Reading | None, ceiling: float = 0.0) -> Measurement:
    """Measurement of two readings, with warnings where they can't be right.

    Args:
        critic: The critic's reading.
        density: The density's reading. None: there is no density.
        ceiling: Value below which the critic's reading counts if it is greater.
    """
    for name, reading in {"critic": critic, "density": density}.items():
        if reading is not None and reading.value < -0.05:
            warnings.warn(
                f"the {name} reads {reading.value:.2f} nats, but no total correlation is below "
                "zero: it failed on these samples; give more of them",
                stacklevel=3,
            )
    best = density or critic
    if density is not None:
        apart, error = abs(density.value - critic.value), math.hypot(density.error, critic.error)
        if apart > 2 * error + 0.1 * max(density.value, critic.value, 0.5):
            warnings.warn(
                f"two readings of the total correlation differ: {density.value:.2f} ± "
                f"{density.error:.2f} nats by a density, {critic.value:.2f} ± {critic.error:.2f} "
                "by a critic. Give more samples, and report both",
                stacklevel=3,
            )
        if density.value + 2 * critic.error < critic.value < ceiling:
            best = critic
    # A little below zero is chance.
    shown = best.value if best.value < -0.05 else max(0.0, best.value)
    return Measurement(shown, best.error, critic.value, critic.error)


def _read_critic(
    game: Game,
    rows: Rows,
    steps: int,
    batch_size: int,
    noise: float,
    shuffles: int,
    generator: torch.Generator,
) -> Reading:
    """Reading of critics that train on a part of the rows, on the others."""
    clean, check, held_out = _split(rows, noise, generator)
    n = len(clean.z) // rows.positions

    def draw(count: int, generator: torch.Generator) -> Rows:
        wanted = (max(2, count // rows.positions),)
        chosen = torch.randint(n, wanted, generator=generator, device=generator.device)
        return clean.images(chosen).noisy(noise, generator)

    game.limit(n)
    fit_critics(game, draw, steps, batch_size, generator, check)
    return read(game, held_out, shuffles, generator)


def _split(rows: Rows, noise: float, generator: torch.Generator) -> tuple[Rows, Rows, Rows]:
    """Random images to train on, to choose the critic's best state on, and to hold out.

    Only the last two parts have noise.
    """
    n = len(rows.z) // rows.positions
    order = torch.randperm(n, generator=generator, device=generator.device)
    of_check = max(FEWEST // 5, n // 10)
    split = order.split([n // 2 - of_check, of_check, n - n // 2])
    clean, check, held_out = (rows.images(part) for part in split)
    return clean, check.noisy(noise, generator), held_out.noisy(noise, generator)


def mutual_information(x: Numbers, y: Numbers, **options: Any) -> Measurement:
    """Mutual information of two variables of any size, `[n …]` each (Predoc III, eq. 7.1).

    Args:
        x: Samples of the first variable.
        y: Samples of the second variable.
        **options: Options of `measure_total_correlation`.
    """
    both = [as_channels(v, name, axes=1) for name, v in (("x", x), ("y", y))]
    both = [variable.reshape(len(variable), -1).float() for variable in both]
    if len(both[0]) != len(both[1]):
        raise InputError(f"got {len(both[0])} and {len(both[1])} samples; give as many of each")
    groups = [i for i, variable in enumerate(both) for _ in range(variable.shape[1])]
    return measure_total_correlation(torch.cat(both, 1), groups=groups, **options)


def check_options(options: Mapping[str, Any]) -> None:
    """Raises an `InputError` if an option of `measure_total_correlation` is out of range."""
    check_words(
        (options.get("decomposition", "direct"), Decomposition),
        (options.get("estimator", "smile"), EstimatorName),
    )
    for name, least in (("steps", 1), ("shuffles", 1), ("batch_size", 2), ("noise", 0)):
        check_counts(least, **{name: options.get(name)})
    check_positive(lr=options.get("lr"))


def _check_samples(
    z: Tensor,
    labels: Tensor | None,
    n_classes: int | None,
    positions: int,
    groups: Sequence[int] | None,
) -> None:
    """Raises an `InputError` if the samples are not fit to be measured."""
    if z.shape[1] < 2:
        raise InputError("got 1 channel; give 2 or more")
    n = len(z) // positions
    if n < FEWEST or n * positions != len(z):
        raise InputError(
            f"got {len(z)} samples of {positions} an image; give {FEWEST} images or more, and all "
            "positions of each"
        )
    if not bool(z.isfinite().all()):
        raise InputError("got samples that aren't finite numbers; leave these samples out")
    if groups is not None and len(groups) != z.shape[1]:
        raise InputError(f"got {len(groups)} groups for {z.shape[1]} channels; give one for each")
    if (labels is None) != (n_classes is None):
        raise InputError("within classes, give both labels and n_classes; otherwise neither")
    if labels is not None and n_classes is not None:
        if labels.shape != (len(z),):
            raise InputError(f"got labels {list(labels.shape)} for {len(z)} rows; give one each")
        check_labels(labels, n_classes)


def fit_critics(
    game: Game,
    draw: Draw,
    steps: int,
    batch_size: int,
    generator: torch.Generator,
    check: Rows | None = None,
) -> None:
    """Trains critics at a learning rate that falls to zero.

    Args:
        game: The critics.
        draw: Function that draws samples of the joint distribution.
        steps: Number of steps.
        batch_size: Number of samples of a step.
        generator: Source of samples and shuffles.
        check: Rows on which the best weights are chosen. None: the last weights are kept.
    """
    rates = [group["lr"] for group in game.optimizer.param_groups]
    best, kept = -math.inf, None
    # Often at first: a critic soon knows each of a few samples by heart.
    evaluated = {2**k for k in range(8)} | {*range(0, steps, max(1, steps // 40)), steps}
    for step in Progress(range(steps + 1), "Training a critic"):
        if check is not None and step in evaluated:
            score = _score(game, check, generator)
            if score > best:
                best, kept = score, copy.deepcopy(game.critics.state_dict())
        for group, rate in zip(game.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        if step < steps:
            game.step(draw(batch_size, generator), generator)
    if kept is not None:
        game.critics.load_state_dict(kept)


@torch.no_grad()
def read(game: Game, rows: Rows, shuffles: int, generator: torch.Generator) -> Reading:
    """Estimate of trained critics on rows and several shuffles of them."""
    value, variance, p = 0.0, 0.0, rows.positions
    values = game.values(rows, generator, shuffles)
    for estimator, (joint, marginal) in zip(game.estimators, values, strict=True):
        value += float(estimator(joint, marginal))
        # Rows of one image, and their shuffles, are not independent of one another.
        of_images = joint.double().unflatten(0, (-1, p)).mean(1)
        weights = (marginal - log_mean_exp(marginal)).double().exp()
        of_shuffles = weights.unflatten(0, (shuffles, -1, p)).mean((0, 2))
        variance += float(of_images.var() + of_shuffles.var()) / len(of_images)
    return Reading(value, math.sqrt(variance))


@torch.no_grad()
def _score(game: Game, rows: Rows, generator: torch.Generator) -> float:
    """Discriminator's objective, a proper score whatever objective the critics trained by."""
    values = game.values(rows, generator, shuffles=2)
    return sum(float(discrimination(*pair)) for pair in values)
