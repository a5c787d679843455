"""Report of a test: a table, curves over time, and their files."""

import csv
import math
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from common.metrics.frames import FrameMetric
from common.metrics.frechet import frechet_distance
from video_ode.evaluation.baselines import COPY, MEAN

MODEL, AVERAGE = "model", "average of samples"  # rows of tables
SWAP = "model, content swap"
OF_MODEL = (MODEL, AVERAGE, SWAP)

VideoScores = dict[tuple[str, ...], Tensor]  # tensors with one row for each video, by key


class Report:
    """Report of the scores of many videos.

    Args:
        scores: Scores by key. `("curve", row, metric)`: values `[n t]`; `("features", row)`:
            features `[n f]`, also of the row `truth`; `("seen",)`: mask of the observed
            conditioning frames, `[n t']`; `("times",)`: times of the frames, `[n t]`.
        metrics: Metrics of the curves.
        n_samples: Number of samples of each video, of which the best one counts.
        distance: Name of the Fréchet distance.
        horizons: Numbers of predicted frames over whose first ones there are means too.
    """

    def __init__(
        self,
        scores: VideoScores,
        metrics: Sequence[FrameMetric],
        n_samples: int,
        distance: str,
        horizons: Sequence[int] = (),
    ) -> None:
        self.scores, self.n_samples, self.distance = scores, n_samples, distance
        self.n_videos, self.n_cond = scores["seen",].shape
        times = scores["times",]
        same = bool((times == times[:1]).all())
        self.times: list[float] = (times[0] if same else times.mean(0)).tolist()
        named = [key[1] for key in scores if key[0] in ("curve", "features")]
        self.rows = [row for row in dict.fromkeys(named) if row != "truth"]
        self.metrics = [m for m in metrics if ("curve", MODEL, m.name) in scores]
        # Suffixes of the names in logs and tables, by part of the video.
        self.parts = {"given": "_given", "predicted": ""} if self.n_cond else {"predicted": ""}
        self.frames = {"given": slice(self.n_cond), "predicted": slice(self.n_cond, None)}
        for h in horizons if self.metrics else ():
            self.parts[f"t+{h}"] = f"_{h}"
            self.frames[f"t+{h}"] = slice(self.n_cond, self.n_cond + h)
        self.columns = [(metric, part) for metric in self.metrics for part in self.parts]
        self._distances = {row: self._distance(row) for row in self.rows}

    def mean(self, row: str, metric: str, part: str) -> tuple[float, float]:
        """Mean over videos, and half the width of its 95 % interval; NaN if there is no value."""
        curve = self.scores["curve", row, metric]
        frames = curve[:, self.frames[part]]
        # A baseline has NaN for frames that it copies; these are left out. NaN of a model must
        # stay visible.
        return _interval(frames.mean(1) if row in OF_MODEL else frames.nanmean(1))

    def logged(self) -> dict[str, float]:
        """Numbers of the model by log key, without undefined ones."""
        numbers = {self.distance: self._distances[MODEL]}
        for metric, part in self.columns:
            name = f"{metric.name}{self.parts[part]}"
            numbers[name] = self.mean(MODEL, metric.name, part)[0]
        for part, suffix in self.parts.items():
            still = [self.mean(row, "psnr", part)[0] for row in (COPY, MEAN) if row in self.rows]
            if still:
                better = torch.tensor(still).max().item()
                numbers[f"psnr_margin{suffix}"] = numbers[f"psnr{suffix}"] - better
        optional = {key for key in numbers if "margin" in key or key == self.distance}
        return {k: v for k, v in numbers.items() if k not in optional or not math.isnan(v)}

    def heading(self, data: str) -> str:
        """Heading of the table: data set and protocol."""
        protocol = (self.n_cond, len(self.times), self.n_samples)
        text = f"{data}: (n_cond, n_total, n_samples) = {protocol}, {self.n_videos} videos"
        seen = float(self.scores["seen",].mean()) if self.n_cond else 1.0
        return text if seen == 1 else f"{text}, {seen:.0%} of the conditioning frames observed"

    def table(self, data: str) -> str:
        """Table as text, with columns for the metrics of given and of predicted frames."""
        head = ["", *(f"{m.name} {part}" for m, part in self.columns), self.distance]
        body = []
        for row in self.rows:
            cells = [cell(*self.mean(row, m.name, part), m.digits) for m, part in self.columns]
            body.append([self._label(row), *cells, number(self._distances[row], ".4g")])
        return "\n".join([self.heading(data), *text_table([head, *body])])

    def write(self, folder: Path) -> list[Path]:
        """Writes table and curves into a folder, and returns the written files."""
        folder.mkdir(parents=True, exist_ok=True)
        table, curves = folder / "test_table.csv", folder / "test_curves.csv"
        write_csv(table, self._table_records())
        if not self.metrics:
            return [table]
        write_csv(curves, self._curve_records())
        picture = folder / "test_curves.png"
        self.figure().savefig(picture, dpi=120)
        return [table, curves, picture]

    def figure(self) -> Figure:
        """Figure of the curves over time: a panel for each metric, a line for each row."""
        figure = Figure(figsize=(4.6 * len(self.metrics), 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, len(self.metrics), squeeze=False)[0]
        for panel, metric in zip(panels, self.metrics, strict=True):
            self._draw(panel, metric)
        lines, labels = panels[0].get_legend_handles_labels()
        figure.legend(lines, labels, loc="outside lower center", ncols=3, frameon=False)
        return figure

    def _draw(self, panel: Axes, metric: FrameMetric) -> None:
        for i, row in enumerate(self.rows):
            mean, half = (torch.tensor(x) for x in self._curve(row, metric.name))
            style = "-" if row in OF_MODEL else "--"
            panel.plot(
                self.times, mean, style, color=f"C{i}", label=self._label(row), zorder=9 - i
            )
            panel.fill_between(
                self.times, mean - half, mean + half, color=f"C{i}", alpha=0.15, lw=0
            )
        if self.n_cond:
            self._draw_border(panel)
        panel.set(xlabel="time, frames", ylabel=metric.label, yscale=metric.axis)
        panel.grid(alpha=0.2)

    def _draw_border(self, panel: Axes) -> None:
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

    def _curve(self, row: str, metric: str) -> tuple[list[float], list[float]]:
        """Mean, and half the width of its 95 % interval, at each frame."""
        points = [
            _interval(x if row in OF_MODEL else x[~x.isnan()])
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
                name = f"{metric.name}{self.parts[part]}"
                record[name], record[f"{name}_ci"] = self.mean(row, metric.name, part)
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
            curve = self._curve(row, metric.name)
            for time, mean, half in zip(self.times, *curve, strict=True):
                yield {"time": time, "metric": metric.name, "row": row, "mean": mean, "ci": half}


def _interval(values: Tensor) -> tuple[float, float]:
    """Mean and `1.96 σ / √N`; both are NaN without values, the second one also for one value."""
    half = 1.96 * values.std() / len(values) ** 0.5 if len(values) > 1 else math.nan
    return float(values.mean()), float(half)


def number(value: float, digits: str) -> str:
    """Number as text; a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:{digits}}"


def cell(mean: float, half: float, digits: str) -> str:
    """Mean ± half-width or standard deviation, as text; the mean alone if the other is NaN."""
    shown = number(mean, digits)
    return shown if math.isnan(half) else f"{shown} ± {number(half, digits)}"


def text_table(rows: list[list[str]]) -> list[str]:
    """Lines of a table with aligned columns; the first row is the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)]
        ).rstrip()
        for row in rows
    ]


def write_csv(path: Path, records: Iterable[dict[str, object]]) -> None:
    """Writes records of equal keys as a CSV file."""
    records = list(records)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows(records)
