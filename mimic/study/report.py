"""What the studies show beside tables: differences, numbers as CSV, dots of every run."""

import csv
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mimic.study.grid import Results


def against(results: Results, base: str, key: str, digits: str) -> str:
    """A line on how every row differs from one of them, seed by seed.

    Rows without that number are left out. A mean difference that is no larger than its standard
    deviation over seeds is called none.
    """
    parts = []
    for name, runs in results.items():
        if name != base and all(key in run for run in runs):
            pairs = zip(runs, results[base], strict=True)
            parts.append(f"{name} {_difference([a[key] - b[key] for a, b in pairs], digits)}")
    return "; ".join(parts)


def _difference(values: Sequence[float], digits: str) -> str:
    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:+{digits}} (one seed)"
    deviation = statistics.stdev(values)
    said = "" if abs(mean) > deviation else " (no difference)"
    return f"{mean:+{digits}} ± {deviation:{digits}}{said}"


def write_csv(path: Path, results: Results) -> None:
    """A line for every run."""
    keys = list(dict.fromkeys(key for runs in results.values() for run in runs for key in run))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["row", "seed", *keys])
        writer.writeheader()
        for name, runs in results.items():
            writer.writerows({"row": name, "seed": i, **run} for i, run in enumerate(runs))


def dots(
    results: Results, panels: Mapping[str, str], base: str, log: Sequence[str] = ()
) -> Figure:
    """A panel for each number: a dot for every run, a bar at the mean of its row.

    Args:
        results: Of `run_grid`.
        panels: Numbers by heading.
        base: A line is drawn at this row's mean.
        log: Headings of the panels with a logarithmic axis.
    """
    size = (1.6 + 2.4 * len(panels), 0.9 + 0.28 * len(results))
    figure = Figure(size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for panel, (heading, key) in zip(axes, panels.items(), strict=True):
        values = {name: [run.get(key, math.nan) for run in runs] for name, runs in results.items()}
        _draw(panel, values, base)
        panel.set_xlabel(heading)
        if heading in log:
            panel.set_xscale("log")
        else:
            panel.xaxis.set_major_locator(MaxNLocator(4))
    axes[0].set_yticks(range(len(results)), list(results))
    axes[0].set_ylim(len(results) - 0.5, -0.5)
    return figure


def _draw(panel: Axes, values: Mapping[str, Sequence[float]], base: str) -> None:
    if base in values:
        panel.axvline(statistics.fmean(values[base]), color="0.6", lw=1, ls=":")
    for row, (name, of_row) in enumerate(values.items()):
        colour = "0.45" if name == base else "C0"
        panel.plot(of_row, [row] * len(of_row), "o", ms=5, color=colour, alpha=0.6, mew=0)
        panel.plot(statistics.fmean(of_row), row, "|", ms=14, mew=2, color=colour)
    panel.grid(axis="x", alpha=0.25)
    panel.tick_params(left=False)
    panel.spines[["top", "right", "left"]].set_visible(False)
