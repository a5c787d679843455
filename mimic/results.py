"""Tables in Markdown, and results that are kept so that none is worked out twice."""

import json
import math
import os
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

OUT = "lightning_logs/evidence"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(values: Sequence[float], digits: str) -> str:
    """`mean ± standard deviation` over runs, of one its value; a dash for what wasn't measured."""
    mean = statistics.fmean(values)
    if math.isnan(mean):
        return "–"
    if len(values) < 2:
        return f"{mean:{digits}}"
    return f"{mean:{digits}} ± {statistics.stdev(values):{digits}}"


def kept(path: Path, settings: Any, work: Callable[[], dict[str, float]]) -> dict[str, float]:
    """What `work` returns, read from a file if it was written there under the same settings."""
    settings = json.loads(json.dumps(settings))  # as they come back from a file
    if path.exists():
        stored = json.loads(path.read_text())
        if stored["settings"] == settings:
            return stored["values"]
    values = work()
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written aside and renamed, so that a run that is killed leaves no half a file.
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    aside.write_text(json.dumps({"settings": settings, "values": values}, indent=1))
    aside.replace(path)
    return values


def show(path: Path, text: str) -> None:
    """Prints a table, and writes it to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")
    print(f"\n{text}\n\ntable: {path}")


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread inside: faster for small networks, and no rounding depends on the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
