"""Total correlation as it is: a new critic on frozen features, judged on samples it never saw."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from common.errors import InputError
from mimic.adversary import Adversary, seeded
from mimic.critics import CriticFactory, HybridCritic
from mimic.devices import alone
from mimic.estimators import discrimination, log_mean_exp, make_estimator
from mimic.features import add_noise, standardize
from mimic.marginals import NormalScores
from mimic.regularizer import EstimatorName
from mimic.terms import Decomposition, Rows, check_labels, check_words

FEWEST = 40  # samples, of which a critic trains on twelve
NOISE = 0.1  # deviation, in deviations of a channel; that of the plug-in
Draw = Callable[[int, torch.Generator], Rows]  # so many fresh samples


class Measurement(NamedTuple):
    """A total correlation in nats, and its standard error over held-out samples.

    The error is that of reading the critic; that a critic may be poor is beside it.
    """

    value: float
    error: float


def measure_total_correlation(
    z: Tensor,
    labels: Tensor | None = None,
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
    """Total correlation of the channels of a sample, measured on a half that the critic never saw.

    The channels are standardised, heavy-tailed ones made normal, which leaves total correlation
    as it is, and then made noisy. Of one half of the images the critic trains on four fifths; on
    the last fifth it is judged as it trains, and its best state is kept.

    Args:
        z: Channels `[n c …]`.
        labels: Classes `[n]`, if within classes.
        n_classes: Their number.
        positions: Consecutive rows that come from one image.
        groups: Number of the group that each channel belongs to, from 0, for the interaction
            among groups; every channel is one if none.
        decomposition: `direct`; `line` and `tree` are sums of mutual informations.
        estimator: What the critic ascends and what is read from it.
        critic: Makes a critic; `HybridCritic` if none.
        steps: Of the critic.
        batch_size: Rows of a step.
        lr: Of the critic's Adam; a cosine leads it down to zero.
        noise: Deviation of the noise, in deviations of a channel, of a heavy-tailed one once it
            is normal. What is measured is the total correlation of the noisy channels.
        shuffles: Of the held-out rows, for samples of the product of marginals.
        seed: Of everything random.

    Raises:
        InputError: Fewer than 40 images, values that aren't finite, labels without classes or
            outside them, or other options out of range.
    """
    check_options(
        {
            "decomposition": decomposition,
            "estimator": estimator,
            "steps": steps,
            "batch_size": batch_size,
            "lr": lr,
            "noise": noise,
            "shuffles": shuffles,
        }
    )
    n = _check_samples(z, labels, n_classes, positions, groups)
    generator = torch.Generator(z.device).manual_seed(seed)
    labels = None if labels is None else labels.long()
    rows, _ = standardize(Rows(z.detach().float(), labels, positions), n_classes)
    order = torch.randperm(n, generator=generator, device=generator.device)
    of_check = max(FEWEST // 5, n // 10)
    split = order.split([n // 2 - of_check, of_check, n - n // 2])
    scores = NormalScores(_images(rows, split[0]).z)
    rows = rows._replace(z=scores(rows.z))
    clean, check, held_out = (_images(rows, part) for part in split)
    check, held_out = (add_noise(part, noise, generator) for part in (check, held_out))

    def draw(count: int, generator: torch.Generator) -> Rows:
        images, wanted = len(clean.z) // positions, (max(2, count // positions),)
        chosen = torch.randint(images, wanted, generator=generator, device=generator.device)
        return add_noise(_images(clean, chosen), noise, generator)

    def make() -> Adversary:
        return Adversary(
            groups or range(z.shape[1]),
            z[0, 0].numel(),
            n_classes,
            critic or HybridCritic,
            make_estimator(estimator),
            decomposition,
            lr,
        )

    with alone():
        adversary = seeded(make, seed, z.device)
        adversary.limit(len(clean.z) // positions)
        train_critic(adversary, draw, steps, batch_size, generator, check)
        return read(adversary, held_out, shuffles, generator)


def mutual_information(x: Tensor, y: Tensor, **options: Any) -> Measurement:
    """Mutual information of two variables of any size, `[n …]` each (Predoc III, eq. 7.1).

    Args:
        x: Samples of one.
        y: Samples of the other.
        **options: Those of `measure_total_correlation`.
    """
    both = [variable.reshape(len(variable), -1) for variable in (x, y)]
    groups = [i for i, variable in enumerate(both) for _ in range(variable.shape[1])]
    return measure_total_correlation(torch.cat(both, 1), groups=groups, **options)


def check_options(options: Mapping[str, Any]) -> None:
    """Raises an `InputError` if an option of `measure_total_correlation` is out of range."""
    check_words(
        (options.get("decomposition", "direct"), Decomposition),
        (options.get("estimator", "smile"), EstimatorName),
    )
    for name, least in (("steps", 1), ("shuffles", 1), ("batch_size", 2), ("noise", 0)):
        if options.get(name, least) < least:
            raise InputError(f"got {name} {options[name]:g}; give {least} or more")
    if options.get("lr", 1.0) <= 0:
        raise InputError(f"got lr {options['lr']:g}; give more than 0")


def _check_samples(
    z: Tensor,
    labels: Tensor | None,
    n_classes: int | None,
    positions: int,
    groups: Sequence[int] | None,
) -> int:
    """The number of images, if all is well."""
    n = len(z) // positions
    if n < FEWEST or n * positions != len(z):
        raise InputError(
            f"got {len(z)} samples of {positions} an image; give {FEWEST} images or more, and all "
            "positions of each"
        )
    if not bool(z.isfinite().all()):
        raise InputError("got samples that aren't finite numbers; leave those out")
    if groups is not None and len(groups) != z.shape[1]:
        raise InputError(f"got {len(groups)} groups for {z.shape[1]} channels; give one for each")
    if (labels is None) != (n_classes is None):
        raise InputError("within classes, give both labels and n_classes; otherwise neither")
    if labels is not None and n_classes is not None:
        check_labels(labels, n_classes)
    return n


def train_critic(
    adversary: Adversary,
    draw: Draw,
    steps: int,
    batch_size: int,
    generator: torch.Generator,
    check: Rows | None = None,
) -> None:
    """Trains critics at a rate that falls to zero.

    Args:
        adversary: The critics.
        draw: Samples of the joint distribution.
        steps: How many.
        batch_size: Samples of each.
        generator: Of samples and shuffles.
        check: The weights that do best on these rows are kept; the last ones if none.
    """
    rates = [group["lr"] for group in adversary.optimizer.param_groups]
    best, kept = -math.inf, None
    # Often at first: of few samples a critic soon knows each by heart.
    judged = {2**k for k in range(8)} | {*range(0, steps, max(1, steps // 40)), steps}
    for step in range(steps + 1):
        if check is not None and step in judged:
            score = _score(adversary, check, generator)
            if score > best:
                best, kept = score, copy.deepcopy(adversary.critics.state_dict())
        for group, rate in zip(adversary.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        if step < steps:
            adversary.step(draw(batch_size, generator), generator)
    if kept is not None:
        adversary.critics.load_state_dict(kept)


@torch.no_grad()
def read(
    adversary: Adversary, rows: Rows, shuffles: int, generator: torch.Generator
) -> Measurement:
    """What trained critics say of rows, with several shuffles of them."""
    value, variance, p = 0.0, 0.0, rows.positions
    values = adversary.values(rows, generator, shuffles)
    for estimator, (joint, marginal) in zip(adversary.estimators, values, strict=True):
        value += float(estimator(joint, marginal))
        # Rows of one image, and its shuffles, aren't independent of one another.
        of_images = joint.double().unflatten(0, (-1, p)).mean(1)
        weights = (marginal - log_mean_exp(marginal)).double().exp()
        of_shuffles = weights.unflatten(0, (shuffles, -1, p)).mean((0, 2))
        variance += float(of_images.var() + of_shuffles.var()) / len(of_images)
    return Measurement(value, math.sqrt(variance))


@torch.no_grad()
def _score(adversary: Adversary, rows: Rows, generator: torch.Generator) -> float:
    """By the discriminator's objective, which is proper whatever the critic was trained by."""
    values = adversary.values(rows, generator, shuffles=2)
    return sum(float(discrimination(*pair)) for pair in values)


def _images(rows: Rows, chosen: Tensor) -> Rows:
    """The rows of some of the images."""
    p = rows.positions
    z = rows.z.unflatten(0, (-1, p))[chosen].flatten(0, 1)
    labels = None if rows.labels is None else rows.labels.unflatten(0, (-1, p))[chosen].flatten()
    return Rows(z, labels, p)
