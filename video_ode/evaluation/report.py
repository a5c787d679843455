"""The scores of a test as a table, as curves over time, and as files."""

import csv
import math
from collections.abc import Iterable
from itertools import product
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from common.metrics.frechet import frechet_distance

MODEL, AVERAGE = "model", "average of samples"
COPY, MEAN = "copy of last given", "mean of given"
LOWER_IS_BETTER = ("lpips",)
LABELS = {"psnr": "PSNR, dB", "ssim": "SSIM", "lpips": "LPIPS"}
DIGITS = {"psnr": ".2f"}
SUFFIXES = {"given": "_given", "predicted": ""}  # of names in logs and tables

Scores = dict[tuple[str, ...], Tensor]  # each with one row a video


class Report:
    """Scores of many videos, summed up.

    Args:
        scores: `("curve", row, metric): [n t]`, `("features", row): [n f]` with the row `truth`,
            and `("seen",): [n t']`, which of the given frames could be seen.
        times: Of the frames.
        n_cond: The first so many frames were given.
        n_samples: Samples of which the model's best counts.
        distance: Name of the Fréchet distance.
    """

    def __init__(
        self, scores: Scores, times: list[float], n_cond: int, n_samples: int, distance: str
    ) -> None:
        self.scores, self.times = scores, times
        self.n_cond, self.n_samples, self.distance = n_cond, n_samples, distance
        self.rows = list(dict.fromkeys(k[1] for k in scores if k[0] == "curve"))
        self.metrics = list(dict.fromkeys(k[2] for k in scores if k[0] == "curve"))
        self.columns = [(m, part) for m in self.metrics for part in SUFFIXES]
        self._distances = {row: self._distance(row) for row in self.rows}

    @property
    def n_videos(self) -> int:
        return len(self.scores["seen",])

    def mean(self, row: str, metric: str, part: str) -> tuple[float, float]:
        """Mean over videos and the half-width of its 95 % interval; NaN where there is none."""
        curve = self.scores["curve", row, metric]
        frames = curve[:, : self.n_cond] if part == "given" else curve[:, self.n_cond :]
        # Baselines lack scores of frames that they were handed; a model's NaN must show.
        return _interval(frames.mean(1) if row in (MODEL, AVERAGE) else frames.nanmean(1))

    def logged(self) -> dict[str, float]:
        """The model's numbers by log key, without those that can't be had."""
        numbers = {self.distance: self._distances[MODEL]}
        for metric, part in self.columns:
            numbers[f"{metric}{SUFFIXES[part]}"] = self.mean(MODEL, metric, part)[0]
        for part, suffix in SUFFIXES.items():
            rivals = [self.mean(row, "psnr", part)[0] for row in (COPY, MEAN)]
            margin = numbers[f"psnr{suffix}"] - torch.tensor(rivals).max().item()
            numbers[f"psnr_margin{suffix}"] = margin
        absent = {key for key in numbers if "margin" in key or key == self.distance}
        return {k: v for k, v in numbers.items() if k not in absent or not math.isnan(v)}

    def heading(self, data: str) -> str:
        """The protocol that the numbers belong to."""
        protocol = (self.n_cond, len(self.times), self.n_samples)
        text = f"{data}: (n_cond, n_total, n_samples) = {protocol}, {self.n_videos} videos"
        seen = float(self.scores["seen",].mean())
        return text if seen == 1 else f"{text}, {seen:.0%} of the given frames seen"

    def table(self, data: str) -> str:
        """Lines for people: rows by metrics on given and on predicted frames."""
        head = ["", *(f"{m} {part}" for m, part in self.columns), self.distance]
        body = []
        for row in self.rows:
            cells = [
                _cell(*self.mean(row, m, part), DIGITS.get(m, ".4f")) for m, part in self.columns
            ]
            body.append([self._label(row), *cells, _number(self._distances[row], ".4g")])
        widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
        lines = [
            "  ".join(
                [line[0].ljust(widths[0])]
                + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
            ).rstrip()
            for line in [head, *body]
        ]
        return "\n".join([self.heading(data), *lines])

    def write(self, folder: Path) -> list[Path]:
        """Writes table and curves into a folder; returns the files."""
        folder.mkdir(parents=True, exist_ok=True)
        table, curves = folder / "test_table.csv", folder / "test_curves.csv"
        _write_csv(table, self._table_records())
        _write_csv(curves, self._curve_records())
        picture = folder / "test_curves.png"
        self.figure().savefig(picture, dpi=120)
        return [table, curves, picture]

    def figure(self) -> Figure:
        """A panel a metric, a line a row, over the times of the frames."""
        figure = Figure(figsize=(4.6 * len(self.metrics), 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, len(self.metrics), squeeze=False)[0]
        for panel, metric in zip(panels, self.metrics, strict=True):
            self._draw(panel, metric)
        lines, labels = panels[0].get_legend_handles_labels()
        figure.legend(lines, labels, loc="outside lower center", ncols=3, frameon=False)
        return figure

    def _draw(self, panel: Axes, metric: str) -> None:
        for i, row in enumerate(self.rows):
            mean, half = (torch.tensor(x) for x in self._curve(row, metric))
            style = "-" if row in (MODEL, AVERAGE) else "--"
            panel.plot(
                self.times, mean, style, color=f"C{i}", label=self._label(row), zorder=9 - i
            )
            panel.fill_between(
                self.times, mean - half, mean + half, color=f"C{i}", alpha=0.15, lw=0
            )
        border = (self.times[self.n_cond - 1] + self.times[self.n_cond]) / 2
        panel.axvline(border, color="0.5", lw=1, ls=":")
        panel.annotate(
            "predicted →",
            (border, 1),
            (4, 2),
            xycoords=panel.get_xaxis_transform(),
            textcoords="offset points",
            va="bottom",
            color="0.4",
        )
        panel.set(xlabel="time, frames", ylabel=LABELS.get(metric, metric))
        panel.grid(alpha=0.2)

    def _curve(self, row: str, metric: str) -> tuple[list[float], list[float]]:
        """Mean and half-width at each frame."""
        points = [
            _interval(x if row in (MODEL, AVERAGE) else x[~x.isnan()])
            for x in self.scores["curve", row, metric].T
        ]
        return [mean for mean, _ in points], [half for _, half in points]

    def _distance(self, row: str) -> float:
        if ("features", row) not in self.scores or self.n_videos < 2:
            return math.nan
        truth, found = self.scores["features", "truth"], self.scores["features", row]
        return float(frechet_distance(truth, found))

    def _label(self, row: str) -> str:
        best = f"{MODEL} (best of {self.n_samples})"
        return best if row == MODEL and self.n_samples > 1 else row

    def _table_records(self) -> Iterable[dict[str, object]]:
        for row in self.rows:
            record: dict[str, object] = {"row": row}
            for metric, part in self.columns:
                name = f"{metric}{SUFFIXES[part]}"
                record[name], record[f"{name}_ci"] = self.mean(row, metric, part)
            yield {
                **record,
                self.distance: self._distances[row],
                "n_cond": self.n_cond,
                "n_total": len(self.times),
                "n_samples": self.n_samples,
                "n_videos": self.n_videos,
            }

    def _curve_records(self) -> Iterable[dict[str, object]]:
        for metric, row in product(self.metrics, self.rows):
            for time, mean, half in zip(self.times, *self._curve(row, metric), strict=True):
                yield {"time": time, "metric": metric, "row": row, "mean": mean, "ci": half}


def _interval(values: Tensor) -> tuple[float, float]:
    """Mean and `1.96 σ / √N`; NaN of none, and of one the half-width."""
    half = 1.96 * values.std() / len(values) ** 0.5 if len(values) > 1 else math.nan
    return float(values.mean()), float(half)


def _number(value: float, digits: str) -> str:
    return "–" if math.isnan(value) else f"{value:{digits}}"


def _cell(mean: float, half: float, digits: str) -> str:
    shown = _number(mean, digits)
    return shown if math.isnan(half) else f"{shown} ± {_number(half, digits)}"


def _write_csv(path: Path, records: Iterable[dict[str, object]]) -> None:
    records = list(records)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows(records)
