"""Study harness: a resumable grid of runs (settings × seeds), and the tables of its results.

A study is a few lines: rows of settings by name, a function that runs one of them with one seed
and returns numbers, and the columns to show. Every finished run is kept in a file of its own, so
a grid that was stopped continues where it was.
"""

import csv
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from common.errors import check_counts
from common.files import written_whole
from common.training.runs import run_name

Scores = dict[str, float]  # numbers of one run, by name
Results = dict[str, list[Scores]]  # for each row of a grid, the scores of each seed
Columns = Mapping[str, tuple[str, str]]  # heading: (name of a score, format)


def run_grid(
    folder: Path, rows: Mapping[str, Any], seeds: int, run: Callable[[Any, int], Scores]
) -> Results:
    """Runs every row with every seed on one thread, except runs that are already finished.

    Args:
        folder: Folder of the results, one file a run.
        rows: Settings by name, plain data (JSON). A run counts as finished only if its settings
            are still the same.
        seeds: Number of runs of each row, with the seeds 0 … seeds - 1.
        run: From settings and seed to scores; `seconds` is added.

    Raises:
        InputError: `seeds` is below 1.
    """
    check_counts(1, seeds=seeds)
    # Seed by seed, so that a grid that is stopped early has a number for every row.
    results: Results = {name: [] for name in rows}
    for seed in range(seeds):
        for name, settings in rows.items():
            path = folder / f"{'_'.join(name.split())}_{seed}.json".replace("/", "-")
            work = partial(_timed, f"{folder.name}: {name}", settings, seed, run)
            results[name].append(kept(path, settings, work))
    return results


def kept(path: Path, settings: Any, work: Callable[[], Scores]) -> Scores:
    """The scores that `work` returns, read from a file if it holds them for the same settings."""
    settings = json.loads(json.dumps(settings))  # as they come back from a file
    if path.exists():
        stored = json.loads(path.read_text())
        if stored["settings"] == settings:
            return stored["values"]
    values = work()
    with written_whole(path) as file:
        file.write_text(json.dumps({"settings": settings, "values": values}, indent=1))
    return values


@contextmanager
def one_thread() -> Iterator[None]:
    """Context with one thread: faster for small networks, and the same rounding on any machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def fit_and_test(
    main: Callable[[list[str]], Any],
    configs: Sequence[Path],
    folder: Path,
    options: Sequence[str] = (),
) -> Path:
    """Trains and tests one configuration through its package's command line.

    Args:
        main: `main` of the package's `cli`.
        configs: Configuration files, later ones over earlier ones.
        folder: Root folder of the run.
        options: More words of the command line, for training and test.

    Returns:
        The run's folder, which holds what the test wrote.
    """
    files = [word for config in configs for word in ("--config", str(config))]
    words = [*files, "--trainer.default_root_dir", str(folder), *options]
    main(["fit", *words])
    main(["test", *words, "--ckpt_path", "last"])
    runs = folder.glob(f"*/{run_name(configs)}/*")
    return max(runs, key=lambda path: (path.stat().st_mtime_ns, len(path.name), path.name))


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def results_table(results: Results, columns: Columns, first: str = "") -> str:
    """A Markdown table of means ± standard deviations over seeds.

    Args:
        results: Results of `run_grid`.
        columns: By heading, the name of a score and its format.
        first: Heading of the column of row names.
    """
    lines = []
    for name, runs in results.items():
        values = {key: [run.get(key, math.nan) for run in runs] for key, _ in columns.values()}
        lines.append([name, *(mean_std(values[key], form) for key, form in columns.values())])
    return markdown([first, *columns], lines)


def mean_std(values: Sequence[float], form: str) -> str:
    """`mean ± standard deviation`; the value alone for one run, a dash if it was not measured."""
    mean = statistics.fmean(values)
    if math.isnan(mean):
        return "–"
    if len(values) < 2:
        return f"{mean:{form}}"
    return f"{mean:{form}} ± {statistics.stdev(values):{form}}"


def differences(results: Results, base: str, key: str, form: str) -> str:
    """A line with the difference of every row from a base row, paired seed by seed.

    A mean difference that is not larger than its standard deviation over seeds is called no
    difference. Rows without that score are left out.
    """
    parts = []
    for name, runs in results.items():
        if name != base and all(key in run for run in runs):
            pairs = zip(runs, results[base], strict=True)
            parts.append(f"{name} {_difference([a[key] - b[key] for a, b in pairs], form)}")
    return "; ".join(parts)


def compared_table(
    results: Results, columns: Columns, first: str, base: str, compared: Columns
) -> str:
    """A `results_table`, and below it a line of `differences` from a base row for some scores."""
    lines = [
        f"{heading} less that of {base}: {differences(results, base, key, form)}."
        for heading, (key, form) in compared.items()
    ]
    return "\n\n".join([results_table(results, columns, first), *lines])


def write_csv(path: Path, results: Results) -> None:
    """Writes one line for every run."""
    keys = list(dict.fromkeys(key for runs in results.values() for run in runs for key in run))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["row", "seed", *keys])
        writer.writeheader()
        for name, runs in results.items():
            writer.writerows({"row": name, "seed": i, **run} for i, run in enumerate(runs))


def write_results(
    path: Path,
    results: Results,
    panels: Mapping[str, str],
    base: str,
    log: Sequence[str] = (),
) -> None:
    """Writes every run to `path` with the ending .csv, and its `dot_plot` with .png."""
    write_csv(path.with_name(f"{path.name}.csv"), results)
    figure = dot_plot(results, panels, base, log)
    figure.savefig(path.with_name(f"{path.name}.png"), dpi=120)


def write_report(path: Path, text: str) -> None:
    """Prints a report (Markdown) and writes it to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")
    print(f"\n{text}\n\nreport: {path.resolve()}")


def dot_plot(
    results: Results, panels: Mapping[str, str], base: str, log: Sequence[str] = ()
) -> Figure:
    """A figure with one panel a score: a dot for every run, a bar at the mean of its row.

    Args:
        results: Results of `run_grid`.
        panels: Names of scores by heading.
        base: A dotted line is drawn at this row's mean.
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


def _timed(name: str, settings: Any, seed: int, run: Callable[[Any, int], Scores]) -> Scores:
    begin = time.perf_counter()
    with one_thread():
        scores = run(settings, seed)
    scores = {**scores, "seconds": time.perf_counter() - begin}
    shown = ", ".join(f"{key} {value:.4g}" for key, value in scores.items())
    print(f"{name}, seed {seed}: {shown}", flush=True)
    return scores


def _difference(values: Sequence[float], form: str) -> str:
    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:+{form}} (one seed)"
    deviation = statistics.stdev(values)
    verdict = "" if abs(mean) > deviation else " (no difference)"
    return f"{mean:+{form}} ± {deviation:{form}}{verdict}"


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
