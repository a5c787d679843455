"""Estimates of total correlation beside the truth.

    python -m mimic.evidence.estimators table        # our default beside the usual estimators
    python -m mimic.evidence.estimators published    # beside figures published for a benchmark
    python -m mimic.evidence.estimators samples      # the audit's measurement of finite samples

print a table each and write it under `--out`. Each critic's results are kept in a file as soon as
it is trained: a command that was stopped goes on where it was.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path

from common.errors import check_counts
from common.training.cli import run_command
from mimic.evidence.cells import METHODS, ON_BATCHES, Budget, MethodName, cell, measured
from mimic.evidence.distributions import (
    Cubed,
    Distribution,
    Equicorrelated,
    ExclusiveOr,
    GaussianVectors,
    Independent,
    Pairs,
    RotatedUniforms,
)
from mimic.results import OUT, markdown, one_thread, show, spread
from mimic.terms import Decomposition

GOOD = 0.1  # a relative error
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
In bold: within 10 % of the truth. The critic of MiMIc holds the log ratio of Gaussian channels in
closed form, so what it has to learn is in the rows that aren't Gaussian: the exclusive or, the
rotated uniforms and the cubes."""
PUBLISHED_NOTE = """\
Published: means over the last 500 training batches, of the authors' networks. Ours: mean and
deviation over seeds, on samples held out and, as theirs, on batches of the training's size."""

SAMPLES_NOTE = """\
Mean and deviation over samples. A critic trains on two fifths of a sample and is read on half."""


def table(
    out: str = OUT,
    steps: int = 4000,
    seeds: int = 1,
    methods: list[MethodName] | None = None,
    lr: float = 3e-3,
) -> None:
    """Total correlations known in closed form, and what is estimated of each.

    "MiMIc" is the default, a JS-trained `HybridCritic` read by SMILE; all other columns have the
    usual `MLPCritic`, so that "SMILE" tells what the critic adds and the others what the estimator
    does. All take the same steps of 256 fresh samples and are read on other samples. Bold is
    within 10 % of the truth.

    Args:
        out: Folder of results.
        steps: Of each critic.
        seeds: Critics of a cell; their mean is shown with the greatest error of any.
        methods: Which critics; all but infonce if none.
        lr: Of the critics' Adam; a cosine leads it down to zero.
    """
    check_counts(1, steps=steps, seeds=seeds)
    chosen = methods or [name for name in METHODS if name != "infonce"]
    columns = [column for method in chosen for column in METHODS[method].columns]
    lines: list[list[str]] = []
    good = dict.fromkeys(columns, 0)
    for distribution in table_distributions():
        cells: dict[str, list[float]] = {}
        for method in chosen:
            runs = [
                cell(Path(out) / "table", distribution, method, Budget(steps, 256, lr), seed)
                for seed in range(seeds)
            ]
            cells |= {column: [one[column] for one in runs] for column in METHODS[method].columns}
        truth = distribution.truth
        good = {column: good[column] + _is_good(cells[column], truth) for column in columns}
        shown = [_with_error(cells[column], truth) for column in columns]
        lines.append([distribution.name, f"{truth:.3f}", *shown])
    lines.append(["*within 10 %*", "", *(f"{good[column]} of {len(lines)}" for column in columns)])
    shown_table = markdown(["channels", "truth, nats", *columns], lines)
    show(Path(out) / "table.md", f"{shown_table}\n\n{TABLE_NOTE}")


def published(out: str = OUT, steps: int = 4000, batch_size: int = 64, seeds: int = 3) -> None:
    """The benchmark of Bai et al. (2023), four vectors of 20 numbers, within their budget.

    Their figures are means over the last 500 training batches. Ours are read twice: on samples
    held out, and on 500 fresh batches of the same size as theirs.

    Args:
        out: Folder of results.
        steps: Of each critic, which starts anew at each truth.
        batch_size: Samples of a step.
        seeds: Critics of a cell.
    """
    check_counts(1, steps=steps, seeds=seeds)
    budget = Budget(steps, batch_size, batches=500)
    held_out: list[list[str]] = []
    on_batches: list[list[str]] = []
    for way in WAYS:
        runs = [
            [
                cell(Path(out) / "published", GaussianVectors(tc), "mimic", budget, seed, way)
                for seed in range(seeds)
            ]
            for tc in TRUTHS
        ]
        for lines, suffix in ((held_out, ""), (on_batches, ON_BATCHES)):
            shown = [spread([one["MiMIc" + suffix] for one in of], ".2f") for of in runs]
            lines.append([f"MiMIc, {way}{suffix}", *shown])
    theirs = [
        [f"*published:* {name}", *("" if value is None else f"{value:.2f}" for value in figures)]
        for name, figures in PUBLISHED.items()
    ]
    header = ["truth, nats", *(f"{tc:g}" for tc in TRUTHS)]
    shown_table = markdown(header, [*held_out, *on_batches, *theirs])
    show(Path(out) / "published.md", f"{shown_table}\n\n{PUBLISHED_NOTE}")


def samples(out: str = OUT, sizes: list[int] | None = None, seeds: int = 3) -> None:
    """What `measure_total_correlation`, and so the audit, says of a finite sample.

    Args:
        out: Folder of results.
        sizes: Of the samples; 500, 2,000 and 8,000 if none.
        seeds: Samples of each size, each with a critic of its own.
    """
    sizes = sizes or [500, 2000, 8000]
    check_counts(1, seeds=seeds)
    lines = []
    for distribution in sample_distributions():
        line = [distribution.name, f"{distribution.truth:.3f}"]
        for size in sizes:
            runs = [
                measured(Path(out) / "samples", distribution, size, seed) for seed in range(seeds)
            ]
            line.append(spread(runs, ".2f"))
        lines.append(line)
    header = ["channels", "truth, nats", *(f"{size:,} samples" for size in sizes)]
    show(Path(out) / "samples.md", f"{markdown(header, lines)}\n\n{SAMPLES_NOTE}")


def table_distributions() -> list[Distribution]:
    """The rows of `table`."""
    shares = [(c, tc) for c in (4, 16, 64) for tc in (2.0, 6.0, 8.0)]
    return [
        ExclusiveOr(),
        RotatedUniforms(),
        *(Equicorrelated(c, tc) for c, tc in shares),
        *(Pairs(c, tc) for c, tc in shares),
        Cubed(Equicorrelated(4, 2.0)),
        Cubed(Pairs(4, 2.0)),
    ]


def sample_distributions() -> list[Distribution]:
    """The rows of `samples`."""
    return [
        Independent(16),
        ExclusiveOr(),
        RotatedUniforms(),
        *(Equicorrelated(16, tc) for tc in (2.0, 6.0, 10.0)),
        Pairs(16, 6.0),
        Cubed(Pairs(4, 2.0)),
        Cubed(Equicorrelated(16, 6.0)),
    ]


def _errors(values: Sequence[float], truth: float) -> list[float]:
    return [value / truth - 1 for value in values]


def _is_good(values: Sequence[float], truth: float) -> bool:
    return all(abs(error) <= GOOD for error in _errors(values, truth))


def _with_error(values: Sequence[float], truth: float) -> str:
    """The mean of several runs and the worst error of any, bold if that is small."""
    worst = max(_errors(values, truth), key=abs)
    shown = f"{statistics.mean(values):.4g}"
    if abs(worst) < 10:  # of one that diverged, per cent say nothing
        shown += f" ({100 * worst:+.1f} %)"
    return f"**{shown}**" if _is_good(values, truth) else shown


def main(args: list[str] | None = None) -> None:
    """One of the tables."""
    with one_thread():
        run_command([table, published, samples], args)


if __name__ == "__main__":
    main()
