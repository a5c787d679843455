"""Grids of runs that can be stopped and gone on with, and the tables made of them."""

import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Numbers = dict[str, float]
Results = dict[str, list[Numbers]]  # of each row, the numbers of each seed


def run_grid(
    out: Path, rows: Mapping[str, Any], seeds: int, run: Callable[[Any, int], Numbers]
) -> Results:
    """Runs every row with every seed, unless it is done already.

    Args:
        out: Folder of the results; every run has a file of its own there.
        rows: Settings by name, of plain data. A run with other settings isn't the same run.
        seeds: Runs of each row, with seeds from 0.
        run: From settings and a seed to numbers.
    """
    out.mkdir(parents=True, exist_ok=True)
    # Seed by seed, so that a grid that is stopped early has a number for every row.
    results: Results = {name: [] for name in rows}
    for seed in range(seeds):
        for name, settings in rows.items():
            results[name].append(_done_or_run(out, name, settings, seed, run))
    return results


def _done_or_run(
    out: Path, name: str, settings: Any, seed: int, run: Callable[[Any, int], Numbers]
) -> Numbers:
    path = out / f"{'_'.join(name.split())}_{seed}.json".replace("/", "-")
    wanted = json.loads(json.dumps(settings))
    if path.is_file() and (known := json.loads(path.read_text()))["settings"] == wanted:
        numbers: Numbers = known["numbers"]
        return numbers
    begin = time.perf_counter()
    numbers = run(settings, seed)
    numbers = {**numbers, "seconds": time.perf_counter() - begin}
    shown = ", ".join(f"{key} {value:.4g}" for key, value in numbers.items())
    print(f"{out.name}: {name}, seed {seed}: {shown}", flush=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps({"settings": wanted, "numbers": numbers}, indent=1))
    part.replace(path)
    return numbers


def table(results: Results, columns: Mapping[str, tuple[str, str]], first: str = "") -> str:
    """Mean ± standard deviation over seeds, in Markdown.

    Args:
        results: Of `run_grid`.
        columns: By heading, the number's name and its format.
        first: Heading of the names.
    """
    lines = [f"| {first} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, runs in results.items():
        cells = [
            spread([run.get(key, math.nan) for run in runs], f) for key, f in columns.values()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: Sequence[float], digits: str) -> str:
    """Mean ± standard deviation; a dash for what wasn't measured."""
    mean = statistics.fmean(values)
    if math.isnan(mean):
        return "–"
    if len(values) < 2:
        return f"{mean:{digits}}"
    return f"{mean:{digits}} ± {statistics.stdev(values):{digits}}"


def write(out: Path, name: str, text: str) -> None:
    """Writes a study's text to `<out>/<name>.md` and shows it."""
    path = out / f"{name}.md"
    path.write_text(text + "\n")
    print(f"{text}\n{name}: {path.resolve()}")
