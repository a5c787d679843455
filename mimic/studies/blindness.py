"""Sensitivity of penalties: their values on dependent channels against independent ones."""

import statistics
from pathlib import Path

import torch

from common.errors import check_counts
from common.experiments import Scores, results_table, run_grid, write_report
from mimic.penalties import PenaltyName
from mimic.regularizer import MiMIcRegularizer
from mimic.studies import OUT
from mimic.studies.distributions import (
    Apart,
    Distribution,
    Equicorrelated,
    ExclusiveOr,
    Independent,
    RotatedUniforms,
)
from mimic.studies.fitting import Settings

COMPARED: dict[PenaltyName, str] = {
    "covariance": "covariance",
    "barlow": "Barlow",
    "hsic": "HSIC",
    "distance_correlation": "distance correlation",
    "mimic": "MiMIc",
}


def blindness(
    batch_size: int = 512, draws: int = 50, critic_steps: int = 1000, out: Path = OUT
) -> None:
    """Values of each penalty on channels that depend on one another, before any training.

    The table shows how well its values on batches stand out from those on batches of independent
    channels with the same marginals: the sensitivity index d′, see `sensitivity`. Near 0 the
    penalty is blind to the dependence.

    Args:
        batch_size: Number of samples of a batch.
        draws: Number of batches.
        critic_steps: Number of steps of MiMIc's critic on other batches before.
        out: Folder of the results.
    """
    check_counts(2, batch_size=batch_size, draws=draws)
    check_counts(1, critic_steps=critic_steps)
    every = (ExclusiveOr(), RotatedUniforms(), Equicorrelated(4, 0.3), Independent(4))
    known: dict[str, Distribution] = {each.name: each for each in every}
    size = {"n": batch_size, "draws": draws, "critic_steps": critic_steps}

    def run(settings: Settings, seed: int) -> Scores:
        of = known[settings["of"]]
        scores = {"truth": of.truth}
        for name in COMPARED:
            joint, apart = (penalty_values(name, each, **size) for each in (of, Apart(of)))
            scores[name] = sensitivity(joint, apart)
            if name == "mimic":
                scores["nats"] = statistics.mean(joint)
        return scores

    rows = {name: {"of": name, **size} for name in known}
    results = run_grid(out / "blindness", rows, 1, run)
    columns = {
        "truth, nats": ("truth", ".3f"),
        **{f"d′ of {shown}": (name, ".1f") for name, shown in COMPARED.items()},
        "MiMIc, nats": ("nats", ".3f"),
    }
    seconds = sum(scores["seconds"] for (scores,) in results.values())
    text = results_table(results, columns, "channels")
    write_report(out / "blindness.md", f"{text}\n\n{seconds:.0f} seconds in all.")


def penalty_values(
    name: PenaltyName, distribution: Distribution, n: int, draws: int, critic_steps: int
) -> list[float]:
    """Values of a penalty on batches of n samples, after its critic trained on other batches."""
    penalty = MiMIcRegularizer(name)
    generator = torch.Generator().manual_seed(0)
    if penalty.trains_critic:
        for _ in range(critic_steps):
            penalty.critic_step(distribution.draw(n, generator))
    return [float(penalty(distribution.draw(n, generator))) for _ in range(draws)]


def sensitivity(signal: list[float], noise: list[float]) -> float:
    """Index `d′ = (mean of the signal - mean of the noise) / √(mean of their variances)`."""
    spread = (statistics.variance(signal) + statistics.variance(noise)) / 2
    return (statistics.mean(signal) - statistics.mean(noise)) / spread**0.5
