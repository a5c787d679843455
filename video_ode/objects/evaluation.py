"""Evaluation of predicted features: what the extractor reads from them, beside baselines."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics import MeanMetric

from video_ode.evaluation.baselines import COPY
from video_ode.evaluation.report import MODEL, number, text_table, write_csv
from video_ode.objects.decoders.inversion import feature_error
from video_ode.objects.extractor import FeatureExtractor, ReadingScores
from video_ode.objects.feature_clips import FeatureClip
from video_ode.times import shared_times

TRUE = "true frames"  # row of what is read from the true frames, the upper bound
ERROR = "feature_error"


class FeatureEvaluation:
    """Scores of predicted features at each later frame, for the model and for baselines.

    The scores are those of the extractor, and the `feature_error`, `‖φ - φ*‖² / ‖φ*‖²` (a mean
    over the scales). The rows are the model, the features of the last given frame, the methods of
    `FeatureExtractor.extrapolated`, and the features of the true frames.

    Args:
        extractor: Network that reads the features.
        n_cond: Number of given frames.
        baselines: Whether there are other rows than the model.
    """

    def __init__(self, extractor: FeatureExtractor, n_cond: int, baselines: bool = True) -> None:
        self.extractor, self.n_cond, self.baselines = extractor, n_cond, baselines
        self.names = (*extractor.scores().names, ERROR)
        self.rows: list[str] = []
        self.times: list[float] = []
        self._scores: dict[tuple[str, int], ReadingScores] = {}
        self._errors: dict[tuple[str, int], MeanMetric] = {}

    @torch.no_grad()
    def update(self, batch: FeatureClip, predicted: Sequence[Tensor]) -> None:
        """Adds videos, which must all have the same times.

        Args:
            batch: The videos with their features.
            predicted: Predicted features of the later frames, `[b k c h w]` each.
        """
        times, device = shared_times(batch.clip.times, "FeatureEvaluation"), predicted[0].device
        self.times = times.tolist()
        n, later, truths = self.n_cond, range(self.n_cond, len(times)), {}
        read = range(0 if self.baselines else n, len(times))
        own = {k: self.extractor.readings(_frame(batch.features, k)) for k in read}
        for k in later:
            truths[k] = self.extractor.truths(batch.videos, k)
            rows = {MODEL: _frame(predicted, k - n)}
            if self.baselines:
                rows |= {COPY: _frame(batch.features, n - 1)}
            for row, maps in rows.items():
                found = self.extractor.readings(maps)
                self._of(row, k, device).update(found, truths[k], own[k])
                error = feature_error(maps, _frame(batch.features, k))
                self._errors.setdefault((row, k), MeanMetric().to(device)).update(error)
        if self.baselines:
            h, w = batch.clip.frames.shape[-2:]
            given, true = [own[k] for k in range(n)], [own[k] for k in later]
            others = self.extractor.extrapolated(given, times[:n], times[n:], (h, w))
            for row, readings in {**others, TRUE: true}.items():
                for k, found in zip(later, readings, strict=True):
                    self._of(row, k, device).update(found, truths[k], own[k])
        self.rows = list(dict.fromkeys(row for row, _ in self._scores))

    def curves(self) -> dict[tuple[str, str], list[float]]:
        """Scores of each later frame, by row and name; NaN where there is none."""
        curves: dict[tuple[str, str], list[float]] = {}
        for (row, k), scores in self._scores.items():
            found = scores.compute()
            if (row, k) in self._errors:
                found[ERROR] = float(self._errors[row, k].compute())
            for name in self.names:
                curves.setdefault((row, name), []).append(found.get(name, math.nan))
        return curves

    def _of(self, row: str, frame: int, device: torch.device) -> ReadingScores:
        if (row, frame) not in self._scores:
            self._scores[row, frame] = self.extractor.scores().to(device)
        return self._scores[row, frame]


class FeatureReport:
    """Report of a test: a table, curves over time, and their files.

    Args:
        evaluation: Evaluation of all test videos.
    """

    def __init__(self, evaluation: FeatureEvaluation) -> None:
        self.curves, self.names = evaluation.curves(), evaluation.names
        self.rows, n = evaluation.rows, evaluation.n_cond
        self.times = [t - evaluation.times[n - 1] for t in evaluation.times[n:]]
        # As many frames later as were given, and the last one.
        self.horizons = sorted({min(n, len(self.times)) - 1, len(self.times) - 1})

    def numbers(self, row: str) -> dict[str, float]:
        """Scores of a row by key: the mean over the later frames, and `map50_3` after 3 frames."""
        found = {}
        for name in self.names:
            curve = self.curves[row, name]
            found[name] = math.fsum(curve) / len(curve)
            found |= {f"{name}_{k + 1}": curve[k] for k in self.horizons}
        return found

    def table(self) -> str:
        """Table as text."""
        keys = list(self.numbers(MODEL))
        head = ["", *keys]
        body = [
            [row, *(number(self.numbers(row)[key], ".3f") for key in keys)] for row in self.rows
        ]
        return "\n".join(text_table([head, *body]))

    def write(self, folder: Path) -> list[Path]:
        """Writes table and curves into a folder, and returns the written files."""
        folder.mkdir(parents=True, exist_ok=True)
        names = ("test_table.csv", "test_curves.csv", "test_curves.png")
        table, curves, picture = (folder / name for name in names)
        write_csv(table, ({"row": row, **self.numbers(row)} for row in self.rows))
        write_csv(curves, self._records())
        self.figure().savefig(picture, dpi=120)
        return [table, curves, picture]

    def figure(self) -> Figure:
        """Figure of the curves over time: a panel for each score, a line for each row."""
        figure = Figure(figsize=(3.6 * len(self.names), 3.6), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, len(self.names), squeeze=False)[0]
        for panel, name in zip(panels, self.names, strict=True):
            for i, row in enumerate(self.rows):
                style = "-" if row == MODEL else "--"
                panel.plot(self.times, self.curves[row, name], style, color=f"C{i}", label=row)
            panel.set(xlabel="frames after the last given one", ylabel=name.replace("_", " "))
            panel.grid(alpha=0.2)
        lines, labels = panels[0].get_legend_handles_labels()
        figure.legend(lines, labels, loc="outside lower center", ncols=4, frameon=False)
        return figure

    def _records(self) -> Iterable[dict[str, object]]:
        for row in self.rows:
            for k, time in enumerate(self.times):
                values = {name: self.curves[row, name][k] for name in self.names}
                yield {"row": row, "time": time, **values}


def _frame(features: Sequence[Tensor], k: int) -> list[Tensor]:
    """Feature maps of one frame of each video, in single precision."""
    return [x[:, k].float() for x in features]
