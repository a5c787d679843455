"""Grids of runs that can be stopped and gone on with, and the tables made of them."""

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from common.errors import check_counts
from mimic.results import kept, markdown, one_thread, spread

Numbers = dict[str, float]
Results = dict[str, list[Numbers]]  # of each row, the numbers of each seed


def run_grid(
    out: Path, rows: Mapping[str, Any], seeds: int, run: Callable[[Any, int], Numbers]
) -> Results:
    """Runs every row with every seed on one thread, unless it is done already.

    Args:
        out: Folder of the results; every run has a file of its own there.
        rows: Settings by name, of plain data. A run with other settings isn't the same run.
        seeds: Runs of each row, with seeds from 0.
        run: From settings and a seed to numbers.
    """
    check_counts(1, seeds=seeds)
    out.mkdir(parents=True, exist_ok=True)
    # Seed by seed, so that a grid that is stopped early has a number for every row.
    results: Results = {name: [] for name in rows}
    for seed in range(seeds):
        for name, settings in rows.items():
            path = out / f"{'_'.join(name.split())}_{seed}.json".replace("/", "-")
            work = partial(_timed, f"{out.name}: {name}", settings, seed, run)
            results[name].append(kept(path, settings, work))
    return results


def _timed(name: str, settings: Any, seed: int, run: Callable[[Any, int], Numbers]) -> Numbers:
    begin = time.perf_counter()
    with one_thread():
        numbers = run(settings, seed)
    numbers = {**numbers, "seconds": time.perf_counter() - begin}
    shown = ", ".join(f"{key} {value:.4g}" for key, value in numbers.items())
    print(f"{name}, seed {seed}: {shown}", flush=True)
    return numbers


def table(results: Results, columns: Mapping[str, tuple[str, str]], first: str = "") -> str:
    """Mean ± standard deviation over seeds, in Markdown.

    Args:
        results: Of `run_grid`.
        columns: By heading, the number's name and its format.
        first: Heading of the names.
    """
    lines = []
    for name, runs in results.items():
        values = {key: [run.get(key, math.nan) for run in runs] for key, _ in columns.values()}
        lines.append([name, *(spread(values[key], digits) for key, digits in columns.values())])
    return markdown([first, *columns], lines)
