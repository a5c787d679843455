"""Total correlation as it is: a new critic on frozen features, judged on samples it never saw."""

import copy
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from common.errors import InputError
from mimic.adversary import Adversary, Rows, seeded
from mimic.critics import CriticFactory, HybridCritic
from mimic.estimators import discrimination, make_estimator
from mimic.features import add_noise, standardize
from mimic.regularizer import EstimatorName
from mimic.shuffling import device_of

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

    The channels are standardised, then made noisy. Of one half of the images the critic trains on
    four fifths; on the last fifth it is judged as it trains, and its best state is kept.

    Args:
        z: Channels `[n c …]`.
        labels: Classes `[n]`, if within classes.
        n_classes: Their number.
        positions: Consecutive rows that come from one image.
        estimator: What the critic ascends and what is read from it.
        critic: Makes a critic; `HybridCritic` if none.
        steps: Of the critic.
        batch_size: Rows of a step.
        lr: Of the critic's Adam; a cosine leads it down to zero.
        noise: Deviation of the noise, in deviations of a channel. What is measured is the total
            correlation of the noisy channels.
        shuffles: Of the held-out rows, for samples of the product of marginals.
        seed: Of everything random.

    Raises:
        InputError: Fewer than 20 images, or values that aren't finite.
    """
    n = len(z) // positions
    if n < 20 or not bool(z.isfinite().all()):
        raise InputError(f"got {n} samples; give 20 or more, with finite values only")
    generator = torch.Generator(z.device).manual_seed(seed)
    rows, _ = standardize(Rows(z.detach().float(), labels, positions), n_classes)
    order = torch.randperm(n, generator=generator, device=device_of(generator))
    parts = [_images(rows, part) for part in order.split([n // 2 - n // 10, n // 10, n - n // 2])]
    clean = parts[0]
    check, held_out = (add_noise(part, noise, generator) for part in parts[1:])

    def draw(count: int, generator: torch.Generator) -> Rows:
        images = len(clean.z) // positions
        chosen = torch.randint(images, (max(2, count // positions),), generator=generator)
        return add_noise(_images(clean, chosen), noise, generator)

    c, size = z.shape[1], z[0, 0].numel()

    def make() -> Adversary:
        made = critic or HybridCritic
        return Adversary(range(c), size, n_classes, made, make_estimator(estimator), lr=lr)

    adversary = seeded(make, seed, z.device)
    adversary.limit(len(clean.z) // positions)
    train_critic(adversary, draw, steps, batch_size, generator, check)
    return read(adversary, held_out, shuffles, generator)


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
    for step in range(steps + 1):
        if check is not None and (step % max(1, steps // 40) == 0 or step == steps):
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
    value, square = 0.0, 0.0
    for estimator, (joint, marginal) in zip(
        adversary.estimators, adversary.values(rows, generator, shuffles), strict=True
    ):
        value += float(estimator(joint, marginal))
        square += float(joint.double().var()) / len(joint)
    return Measurement(value, math.sqrt(square))


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
