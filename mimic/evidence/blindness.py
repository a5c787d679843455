"""What penalties see: their values on dependent channels against those on independent ones."""

import statistics
import time
from pathlib import Path

import torch

from common.errors import check_counts
from mimic.evidence.distributions import (
    Apart,
    Distribution,
    Equicorrelated,
    ExclusiveOr,
    Independent,
    RotatedUniforms,
)
from mimic.regularizer import MiMIcRegularizer, PenaltyName
from mimic.results import OUT, markdown, show

PENALTIES: dict[PenaltyName, str] = {
    "covariance": "covariance",
    "barlow": "Barlow",
    "hsic": "HSIC",
    "distance_correlation": "distance correlation",
    "mimic": "MiMIc",
}


def blindness(
    batch_size: int = 512, draws: int = 50, critic_steps: int = 1000, out: str = OUT
) -> None:
    """What each penalty says of channels that depend on one another, before any training.

    Shown is how well its values on batches stand out from those on batches of independent channels
    with the same marginals: the sensitivity index d′, see `sensitivity`. Near 0 the penalty is
    blind to what the channels share.

    Args:
        batch_size: Samples of a batch.
        draws: Batches.
        critic_steps: Of MiMIc's critic on other batches, before.
        out: Folder of results.
    """
    check_counts(2, batch_size=batch_size, draws=draws)
    check_counts(1, critic_steps=critic_steps)
    begin = time.process_time()
    lines = []
    for distribution in (ExclusiveOr(), RotatedUniforms(), Equicorrelated(4, 0.3), Independent(4)):
        cells: list[str] = []
        for name in PENALTIES:
            joint, apart = (
                penalty_values(name, of, batch_size, draws, critic_steps)
                for of in (distribution, Apart(distribution))
            )
            cells.append(f"{sensitivity(joint, apart):.1f}")
            if name == "mimic":
                cells.append(f"{statistics.mean(joint):.3f}")
        lines.append([distribution.name, f"{distribution.truth:.3f}", *cells])
    penalties = (f"d′ of {shown}" for shown in PENALTIES.values())
    header = ["channels", "truth, nats", *penalties, "MiMIc, nats"]
    seconds = f"{time.process_time() - begin:.0f} seconds in all."
    show(Path(out) / "blindness.md", f"{markdown(header, lines)}\n\n{seconds}")


def penalty_values(
    name: PenaltyName, distribution: Distribution, n: int, draws: int, critic_steps: int
) -> list[float]:
    """A penalty on batches of n samples, after so many steps of its critic, if any, on others."""
    penalty = MiMIcRegularizer(name)
    generator = torch.Generator().manual_seed(0)
    if penalty.trains_critic:
        for _ in range(critic_steps):
            penalty.critic_step(distribution.draw(n, generator))
    return [float(penalty(distribution.draw(n, generator))) for _ in range(draws)]


def sensitivity(signal: list[float], noise: list[float]) -> float:
    """`d′ = (mean of the signal - mean of the noise) / √(mean of their variances)`."""
    spread = (statistics.variance(signal) + statistics.variance(noise)) / 2
    return (statistics.mean(signal) - statistics.mean(noise)) / spread**0.5
