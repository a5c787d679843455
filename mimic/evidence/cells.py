"""One estimate: a critic of its own, trained and read on samples of a known distribution."""

import statistics
import time
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mimic.adversary import Adversary, seeded
from mimic.critics import CriticFactory, HybridCritic, MLPCritic
from mimic.estimators import make_estimator
from mimic.evidence.distributions import Distribution
from mimic.measure import measure_total_correlation, train_critic
from mimic.regularizer import EstimatorName
from mimic.results import kept
from mimic.terms import Decomposition, Rows

MethodName = Literal["mimic", "perceptron", "dv", "mine", "nwj", "infonce"]
ON_BATCHES = ", on batches"  # after a column's name


class Method(NamedTuple):
    """How a critic is trained, and what is read from it.

    Attributes:
        critic: Makes it.
        objective: The estimator whose objective it ascends.
        columns: What is read from it, with the name of each column.
    """

    critic: CriticFactory
    objective: EstimatorName
    columns: dict[str, EstimatorName]


METHODS: dict[MethodName, Method] = {
    "mimic": Method(HybridCritic, "smile", {"MiMIc": "smile"}),
    # These three ascend the same objective: one critic serves them all.
    "perceptron": Method(
        MLPCritic, "smile", {"SMILE": "smile", "JS": "js", "density ratio": "density_ratio"}
    ),
    "dv": Method(MLPCritic, "dv", {"DV": "dv"}),
    "mine": Method(MLPCritic, "mine", {"MINE": "mine"}),
    "nwj": Method(MLPCritic, "nwj", {"NWJ": "nwj"}),
    "infonce": Method(MLPCritic, "infonce", {"InfoNCE": "infonce"}),
}


class Budget(NamedTuple):
    """What a critic is trained and read with.

    Attributes:
        steps: Of training, each on a fresh batch.
        batch_size: Samples of a step.
        lr: Of Adam; a cosine leads it down to zero.
        held_out: Fresh samples that it is read on.
        shuffles: Of those, for samples of the product of marginals.
        batches: Fresh batches that it is read on one by one, besides; the mean counts.
    """

    steps: int
    batch_size: int
    lr: float = 3e-3
    held_out: int = 20_000
    shuffles: int = 10
    batches: int = 0


def cell(
    folder: Path,
    distribution: Distribution,
    method: MethodName,
    budget: Budget,
    seed: int,
    decomposition: Decomposition = "direct",
) -> dict[str, float]:
    """Estimates of one critic by column, and its seconds; kept in a file of the folder."""
    values = kept(
        _file(folder, distribution, method, decomposition, f"seed{seed}"),
        {**budget._asdict(), "truth": distribution.truth},
        lambda: estimate(distribution, METHODS[method], budget, seed, decomposition),
    )
    found = ", ".join(f"{key} {value:.3f}" for key, value in values.items())
    print(
        f"{distribution.name}, truth {distribution.truth:.3f}, {decomposition}, seed {seed}: "
        f"{found}",
        flush=True,
    )
    return values


def measured(folder: Path, distribution: Distribution, size: int, seed: int) -> float:
    """What is measured of one sample without noise; kept in a file of the folder."""

    def measure() -> dict[str, float]:
        z = distribution.draw(size, torch.Generator().manual_seed(seed))
        return {"value": measure_total_correlation(z, noise=0.0, seed=seed).value}

    path = _file(folder, distribution, str(size), f"seed{seed}")
    value = kept(path, {"truth": distribution.truth}, measure)["value"]
    print(
        f"{distribution.name}, truth {distribution.truth:.3f}, {size} samples, seed {seed}: "
        f"{value:.3f}",
        flush=True,
    )
    return value


def estimate(
    distribution: Distribution,
    method: Method,
    budget: Budget,
    seed: int,
    decomposition: Decomposition = "direct",
) -> dict[str, float]:
    """Trains a critic and reads it; by column, with the processor's seconds for all of it."""
    begin = time.process_time()
    generator = torch.Generator().manual_seed(seed)

    def draw(n: int, generator: torch.Generator) -> Rows:
        return Rows(distribution.draw(n, generator))

    sample = draw(1, generator).z[0]

    def make() -> Adversary:
        return Adversary(
            range(len(sample)),
            sample[0].numel(),
            None,
            method.critic,
            make_estimator(method.objective),
            decomposition,
            budget.lr,
        )

    adversary = seeded(make, seed, torch.device("cpu"))
    train_critic(adversary, draw, budget.steps, budget.batch_size, generator)
    with torch.no_grad():
        values = adversary.values(draw(budget.held_out, generator), generator, budget.shuffles)
        batches = [
            adversary.values(draw(budget.batch_size, generator), generator)
            for _ in range(budget.batches)
        ]
    found = {}
    for column, read in method.columns.items():
        found[column] = _read(read, values)
        if batches:
            found[column + ON_BATCHES] = statistics.mean(_read(read, batch) for batch in batches)
    return {**found, "seconds": time.process_time() - begin}


def _file(folder: Path, distribution: Distribution, *parts: str) -> Path:
    name = "-".join([distribution.name, f"{distribution.truth:.3g}", *parts])
    return folder / f"{name.replace(',', '').replace(' ', '_')}.json"


def _read(name: EstimatorName, values: list[tuple[Tensor, Tensor]]) -> float:
    """The estimate of that name, of the values of each term on joint and marginal samples."""
    return sum(float(make_estimator(name)(*pair)) for pair in values)
