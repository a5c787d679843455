"""Estimates of total correlation compared with the truth.

    python -m mimic.studies.estimates table        # the default beside the usual estimators
    python -m mimic.studies.estimates published    # beside figures published for a benchmark
    python -m mimic.studies.estimates samples      # measurements of finite samples, as in audits

print a table each and write it under `--out`.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from common.errors import check_counts, check_output, check_positive
from common.experiments import Scores, markdown, mean_std, run_grid, write_report
from common.training.cli import run_command
from mimic.critic.critics import CriticFactory, HybridCritic, MLPCritic
from mimic.critic.estimators import EstimatorName, make_estimator
from mimic.critic.game import Game, Values
from mimic.critic.terms import Decomposition
from mimic.features.rows import Rows
from mimic.measure import FEWEST, fit_critics, measure_total_correlation
from mimic.studies import OUT
from mimic.studies import distributions as known
from mimic.studies.distributions import Distribution
from mimic.studies.fitting import Settings

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


GOOD = 0.1  # relative error up to which an estimate is shown in bold
WAYS: tuple[Decomposition, ...] = ("direct", "line", "tree")

# Means of the last 500 steps in the result files of Bai et al. (2023, PMLR 206:2147).
TRUTHS = (2.0, 4.0, 6.0, 8.0, 10.0)
PUBLISHED: dict[str, tuple[float | None, ...]] = {
    "line, MINE": (0.76, 1.57, 2.30, 3.03, 3.70),
    "line, NWJ": (0.66, None, None, None, 2.53),
    "line, InfoNCE": (1.20, 2.34, 3.42, 4.35, 5.12),
    "line, CLUB": (3.08, 6.04, 8.69, 11.14, 13.41),
    "tree, MINE": (0.57, 1.13, 1.73, 2.31, 2.83),
    "tree, InfoNCE": (0.93, None, None, None, 4.20),
    "tree, CLUB": (2.63, 5.18, 7.51, 9.56, 11.45),
}

TABLE_NOTE = """\
In bold: within 10 % of the truth. The critic of MiMIc contains the log ratio of Gaussian channels
in closed form, so what it has to learn is in the rows that are not Gaussian: the exclusive or, the
rotated uniforms and the cubes."""
PUBLISHED_NOTE = """\
Published: means over the last 500 training batches, of the authors' networks. Ours: mean and
deviation over seeds, on held-out samples and, as theirs, on batches of the training's size."""
SAMPLES_NOTE = """\
The measurement, which is a density's reading, and the critic's reading behind it: mean and
deviation over samples."""


def table(
    out: Path = OUT,
    steps: int = 4000,
    seeds: int = 1,
    methods: list[MethodName] | None = None,
    lr: float = 3e-3,
) -> None:
    """Total correlations known in closed form, and estimates of each.

    "MiMIc" is the default, a JS-trained `HybridCritic` read by SMILE. All other columns have the
    usual `MLPCritic`, so that "SMILE" shows what the critic adds and the other columns what the
    estimator does. All take the same steps of 256 fresh samples and are read on other samples.
    Bold is within 10 % of the truth.

    Args:
        out: Folder of the results.
        steps: Number of steps of each critic.
        seeds: Number of critics of a cell; the cell shows their mean and the greatest error.
        methods: Methods to run. None: all except infonce.
        lr: Learning rate of the critics' Adam, which falls to zero as a cosine.
    """
    check_counts(1, steps=steps, seeds=seeds)
    check_positive(lr=lr)
    check_output(out)
    chosen = methods or [name for name in METHODS if name != "infonce"]
    every = {_label(each): each for each in table_distributions()}
    budget = Budget(steps, 256, lr)._asdict()
    rows = {
        f"{label} by {method}": {"of": label, "method": method, "budget": budget}
        for label in every
        for method in chosen
    }

    def run(settings: Settings, seed: int) -> Scores:
        method = METHODS[settings["method"]]
        return estimate(every[settings["of"]], method, Budget(**settings["budget"]), seed)

    results = run_grid(out / "table", rows, seeds, run)
    columns = {column: method for method in chosen for column in METHODS[method].columns}
    lines: list[list[str]] = []
    good = {True: dict.fromkeys(columns, 0), False: dict.fromkeys(columns, 0)}
    for label, distribution in every.items():
        line = [distribution.name, f"{distribution.truth:.3f}"]
        for column, method in columns.items():
            values = [scores[column] for scores in results[f"{label} by {method}"]]
            line.append(_with_error(values, distribution.truth))
            good[known.is_gaussian(distribution)][column] += line[-1].startswith("**")
        lines.append(line)
    kinds = [known.is_gaussian(each) for each in every.values()]
    for gaussian, name in ((True, "Gaussian"), (False, "other")):
        counts = [f"{n} of {kinds.count(gaussian)}" for n in good[gaussian].values()]
        lines.append([f"*{name} rows within 10 %*", "", *counts])
    text = markdown(["channels", "truth, nats", *columns], lines)
    write_report(out / "table.md", f"{text}\n\n{TABLE_NOTE}")


def published(out: Path = OUT, steps: int = 4000, batch_size: int = 64, seeds: int = 3) -> None:
    """The benchmark of Bai et al. (2023), four vectors of 20 numbers, within their budget.

    Their figures are means over the last 500 training batches. Ours are read twice: on held-out
    samples, and on 500 fresh batches of the same size as theirs.

    Args:
        out: Folder of the results.
        steps: Number of steps of each critic, which starts anew at each truth.
        batch_size: Number of samples of a step.
        seeds: Number of critics of a cell.
    """
    check_counts(1, steps=steps, seeds=seeds)
    check_counts(2, batch_size=batch_size)
    check_output(out)
    budget = Budget(steps, batch_size, batches=500)
    rows = {
        f"{tc:g} nats, {way}": {"tc": tc, "way": way, "budget": budget._asdict()}
        for way in WAYS
        for tc in TRUTHS
    }

    def run(settings: Settings, seed: int) -> Scores:
        vectors, given = known.GaussianVectors(settings["tc"]), Budget(**settings["budget"])
        return estimate(vectors, METHODS["mimic"], given, seed, settings["way"])

    results = run_grid(out / "published", rows, seeds, run)
    lines = []
    for suffix in ("", ON_BATCHES):
        for way in WAYS:
            cells = [
                [scores["MiMIc" + suffix] for scores in results[f"{tc:g} nats, {way}"]]
                for tc in TRUTHS
            ]
            lines.append([f"MiMIc, {way}{suffix}", *(mean_std(cell, ".2f") for cell in cells)])
    for name, figures in PUBLISHED.items():
        shown = ["" if value is None else f"{value:.2f}" for value in figures]
        lines.append([f"*published:* {name}", *shown])
    text = markdown(["truth, nats", *(f"{tc:g}" for tc in TRUTHS)], lines)
    write_report(out / "published.md", f"{text}\n\n{PUBLISHED_NOTE}")


def samples(out: Path = OUT, sizes: list[int] | None = None, seeds: int = 3) -> None:
    """Measurements of `measure_total_correlation`, and so of audits, on finite samples.

    Args:
        out: Folder of the results.
        sizes: Sizes of the samples. None: 500, 2,000 and 10,000.
        seeds: Number of samples of each size, each with a critic of its own.
    """
    sizes = sizes or [500, 2000, 10_000]
    check_counts(1, seeds=seeds)
    check_counts(FEWEST, sizes=sizes)
    check_output(out)
    every = {_label(each): each for each in sample_distributions()}
    rows = {f"{label}, {n} samples": {"of": label, "size": n} for label in every for n in sizes}

    def run(settings: Settings, seed: int) -> Scores:
        z = every[settings["of"]].draw(settings["size"], torch.Generator().manual_seed(seed))
        found = measure_total_correlation(z, noise=0.0, seed=seed)
        return {"tc": found.value, "critic": found.critic}

    results = run_grid(out / "samples", rows, seeds, run)
    lines = []
    for label, distribution in every.items():
        found = [results[f"{label}, {size} samples"] for size in sizes]
        shown = [
            " / ".join(mean_std([s[key] for s in scores], ".2f") for key in ("tc", "critic"))
            for scores in found
        ]
        lines.append([distribution.name, f"{distribution.truth:.3f}", *shown])
    text = markdown(["channels", "truth, nats", *(f"{n:,} samples" for n in sizes)], lines)
    write_report(out / "samples.md", f"{text}\n\n{SAMPLES_NOTE}")


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


def table_distributions() -> list[Distribution]:
    """Rows of `table`."""
    of = [(c, tc) for c in (4, 16, 64) for tc in (2.0, 6.0, 8.0)]
    correlated = [kind(c, tc) for kind in (known.Equicorrelated, known.Pairs) for c, tc in of]
    cubed = [known.Cubed(kind(4, 2.0)) for kind in (known.Equicorrelated, known.Pairs)]
    return [known.ExclusiveOr(), known.RotatedUniforms(), *correlated, *cubed]


def sample_distributions() -> list[Distribution]:
    """Rows of `samples`."""
    correlated = [known.Equicorrelated(16, tc) for tc in (2.0, 6.0, 10.0, 15.0)]
    cubed = [known.Cubed(each) for each in (known.Pairs(4, 2.0), known.Equicorrelated(16, 6.0))]
    simple = [known.Independent(16), known.ExclusiveOr(), known.RotatedUniforms()]
    tails = [known.StudentT(nu, rho=rho) for rho in (0.5, 0.0) for nu in (5, 3, 2)]
    odd = [known.RareBits(), known.Sparse(), known.Repeated(known.Equicorrelated(8, 2.0))]
    return [*tails, *odd, *simple, *correlated, known.Pairs(16, 6.0), *cubed]


def _label(distribution: Distribution) -> str:
    return f"{distribution.name}, {distribution.truth:.3g} nats"


def _with_error(values: Sequence[float], truth: float) -> str:
    """Mean of several runs and the greatest error of any, bold if that is small."""
    worst = max((value / truth - 1 for value in values), key=abs)
    shown = f"{statistics.mean(values):.4g}"
    if abs(worst) < 10:  # the error of a run that diverged says nothing
        shown += f" ({100 * worst:+.1f} %)"
    return f"**{shown}**" if abs(worst) <= GOOD else shown


def main(args: list[str] | None = None) -> None:
    """One of the tables."""
    run_command([table, published, samples], args)


if __name__ == "__main__":
    main()
