"""Methods of estimation: a critic trained and read on samples of a known distribution."""

import statistics
from typing import Literal, NamedTuple

import torch

from mimic.critic.critics import CriticFactory, HybridCritic, MLPCritic
from mimic.critic.estimators import EstimatorName, make_estimator
from mimic.critic.game import Game, Values
from mimic.critic.terms import Decomposition
from mimic.features.rows import Rows
from mimic.measure import fit_critics
from mimic.studies.distributions import Distribution

MethodName = Literal["mimic", "perceptron", "dv", "mine", "nwj", "infonce"]
ON_BATCHES = ", on batches"  # end of a column's name


class Method(NamedTuple):
    """Training of a critic, and the estimates that are read from it.

    Attributes:
        critic: Factory of critics.
        objective: Estimator whose objective the critic ascends.
        columns: Estimators that are read from the critic, by name of their column.
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
    """Samples and steps for which a critic is trained and read.

    Attributes:
        steps: Number of training steps, each on a fresh batch.
        batch_size: Number of samples of a step.
        lr: Learning rate of Adam, which falls to zero as a cosine.
        held_out: Number of fresh samples that the critic is read on.
        shuffles: Number of shuffles of these, for samples of the product of marginals.
        batches: Number of fresh batches that the critic is also read on; their mean counts.
    """

    steps: int
    batch_size: int
    lr: float = 3e-3
    held_out: int = 20_000
    shuffles: int = 10
    batches: int = 0


def estimate(
    distribution: Distribution,
    method: Method,
    budget: Budget,
    seed: int,
    decomposition: Decomposition = "direct",
) -> dict[str, float]:
    """Estimates of a newly trained critic, by column."""
    generator = torch.Generator().manual_seed(seed)

    def draw(n: int, generator: torch.Generator) -> Rows:
        return Rows(distribution.draw(n, generator))

    sample = draw(1, generator).z[0]
    game = Game(
        range(len(sample)),
        sample[0].numel(),
        critic=method.critic,
        estimator=method.objective,
        decomposition=decomposition,
        lr=budget.lr,
        seed=seed,
    )
    fit_critics(game, draw, budget.steps, budget.batch_size, generator)
    with torch.no_grad():
        values = game.values(draw(budget.held_out, generator), generator, budget.shuffles)
        batches = [
            game.values(draw(budget.batch_size, generator), generator)
            for _ in range(budget.batches)
        ]
    found = {}
    for column, name in method.columns.items():
        found[column] = _read(name, values)
        if batches:
            found[column + ON_BATCHES] = statistics.mean(_read(name, batch) for batch in batches)
    return found


def _read(name: EstimatorName, values: Values) -> float:
    """Sum of the estimates of all terms."""
    return sum(float(make_estimator(name)(*pair)) for pair in values)
