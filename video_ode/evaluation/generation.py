"""Evaluation of generators: features of generated and of real videos, controls, and a table."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from common.data.draws import uniform
from common.data.videos.base import Clip
from common.errors import RunError
from common.metrics.frames import FrameMetric
from common.metrics.frechet import frechet_distance
from common.metrics.video import ClipClassifier, ClipFeatures, inception_score
from common.progress import Progress
from common.typing import Times, Video
from video_ode.evaluation.report import MODEL, VideoScores, cell, number, text_table, write_csv
from video_ode.evaluation.scores import of_every_process
from video_ode.predictor import to_pixels

REAL, HALF, SHUFFLED = (
    "real videos",
    "real videos, other half",
    "real videos, frames shuffled",
)
Measured = tuple[int, int, list[float], list[float]]  # n, n of the other side, distances, scores


def real_features(features: ClipFeatures, clip: Clip) -> VideoScores:
    """Features of real videos, and of the same videos with their frames in random order.

    The number of a video determines its order.
    """
    frames = to_pixels(clip.unit_range(clip.frames))
    draws = uniform(clip.number.cpu().numpy(), frames.shape[1], seed=5000)
    order = torch.from_numpy(draws.argsort(1)).to(frames.device)
    shuffled = frames[torch.arange(len(frames), device=frames.device)[:, None], order]
    return {
        ("features", "truth"): features(frames),
        ("features", SHUFFLED): features(shuffled),
    }


def generated_features(
    features: ClipFeatures,
    generate: Callable[[int, Times], Video],
    times: Tensor,
    n: int,
    batch_size: int,
) -> Tensor:
    """Features of freshly generated videos, `[n f]`; the processes share the work.

    Args:
        features: The features.
        generate: Function from a number of videos and times `[t]` to videos in `[0, 1]`.
        times: Times of the real videos, `[m t]`, which the generated ones take in turn.
        n: Number of videos.
        batch_size: Number of videos that are generated at once.

    Raises:
        RunError: The frames are NaN or infinite.
    """
    rank, n_processes = 0, 1
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        rank, n_processes = torch.distributed.get_rank(), torch.distributed.get_world_size()
    # All processes have the same random state, but must not generate the same videos.
    seed = int(torch.randint(2**62, ())) + rank
    share = math.ceil(n / n_processes)
    found = []
    with torch.random.fork_rng([times.device] if times.device.type == "cuda" else []):
        torch.manual_seed(seed)
        for start in Progress(range(0, share, batch_size), "Generating", shown=rank == 0):
            count = min(batch_size, share - start)
            video = generate(count, times[start // batch_size % len(times)])
            if not video.isfinite().all():
                raise RunError(
                    "the generator made frames that are NaN or infinite; take an earlier "
                    "checkpoint, or train with a lower learning rate"
                )
            found.append(features(to_pixels(video.float().clamp(0, 1))).cpu())
    return of_all_processes(torch.cat(found))[:n]


def of_all_processes(rows: Tensor) -> Tensor:
    """Rows of all processes, `[n f]`, on the CPU."""
    return torch.cat(of_every_process(rows.cpu()))


def score_of(features: ClipFeatures, rows: Tensor) -> float:
    """Inception score of features `[n f]`; NaN without videos or without a classifier."""
    if not isinstance(features, ClipClassifier) or not len(rows):
        return math.nan
    device = next(features.parameters()).device
    return float(inception_score(features.probabilities(rows.to(device))))


def distance_of(real: Tensor, other: Tensor) -> float:
    """Fréchet distance of features `[n f]`; NaN if there are fewer than two videos."""
    enough = min(len(real), len(other)) > 1
    return float(frechet_distance(real, other)) if enough else math.nan


class GenerationReport:
    """Report of the test of a generator.

    Args:
        features: The features; a classifier gives the Inception score too.
        scores: Features of the real videos by key (see `real_features`), and their times.
        batches: Features of each batch of generated videos, `[n f]`.
    """

    metrics: tuple[FrameMetric, ...] = ()

    def __init__(self, features: ClipFeatures, scores: VideoScores, batches: list[Tensor]) -> None:
        self.features, self.n_frames = features, scores["times",].shape[1]
        self.distance = features.name
        self.score = features.score_name if isinstance(features, ClipClassifier) else None
        real, shuffled = scores["features", "truth"], scores["features", SHUFFLED]
        self.n_batches, self.n_generated, self.n_real = len(batches), len(batches[0]), len(real)
        self.rows = {MODEL: self._measured(batches, real), REAL: self._measured([real], None)}
        # Every second video, because neighbours in a data set are often alike.
        self.rows[HALF] = self._measured([real[1::2]], real[::2])
        self.rows[SHUFFLED] = self._measured([shuffled], real)

    def logged(self) -> dict[str, float]:
        """Numbers by log key, without undefined ones: of the model, and of the controls."""
        found = {}
        for row, suffix in {MODEL: "", HALF: "_half", SHUFFLED: "_shuffled"}.items():
            _, _, distances, scores = self.rows[row]
            for name, values in ((self.distance, distances), (self.score, scores)):
                mean, std = _mean_and_std(values)
                found[f"{name}{suffix}"] = mean
                if row == MODEL:
                    found[f"{name}_std"] = std
        return {name: value for name, value in found.items() if not math.isnan(value)}

    def table(self, data: str) -> str:
        """Table as text, with the bias of few videos beside it."""
        head = ["", "n", "n real", self.distance, *([self.score] if self.score else [])]
        body = []
        for row, (n, n_other, distances, scores) in self.rows.items():
            values = [cell(*_mean_and_std(distances), ".4g")]
            values += [cell(*_mean_and_std(scores), ".4g")] if self.score else []
            body.append([row, str(n), str(n_other or "–"), *values])
        heading = (
            f"{data}: (n_cond, n_total, n_samples) = (0, {self.n_frames}, 1), {self.n_real} real "
            f"videos, n = {self.n_generated} generated ones"
        )
        if self.n_batches > 1:
            heading += (
                f" in each of {self.n_batches} fresh batches (± is their standard deviation)"
            )
        n, n_other, distances, _ = self.rows[HALF]
        bias = (
            f"The distance is biased upward, the more the fewer videos there are: {n} real videos "
            f"have {number(distances[0], '.4g')} to {n_other} other ones. Compare numbers of "
            "equal n only."
        )
        return "\n".join([heading, *text_table([head, *body]), bias])

    def write(self, folder: Path) -> list[Path]:
        """Writes the table into a folder, and returns the written file."""
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(folder / "test_table.csv", self._records())
        return [folder / "test_table.csv"]

    def _records(self) -> Iterator[dict[str, object]]:
        for row, (n, n_other, distances, scores) in self.rows.items():
            record: dict[str, object] = {"row": row}
            for name, values in ((self.distance, distances), (self.score, scores)):
                if name is not None:
                    record[name], record[f"{name}_std"] = _mean_and_std(values)
            sizes = {"n_videos": n, "n_real": n_other, "n_batches": len(scores)}
            yield record | sizes | {"n_cond": 0, "n_total": self.n_frames, "n_samples": 1}

    def _measured(self, batches: list[Tensor], real: Tensor | None) -> Measured:
        """Numbers of videos, and distance and score of each batch.

        Args:
            batches: Features of the batches.
            real: Features that the distance compares with. None: there is no distance.
        """
        distances = [] if real is None else [distance_of(real, batch) for batch in batches]
        scores = [score_of(self.features, batch) for batch in batches]
        return len(batches[0]), 0 if real is None else len(real), distances, scores


def _mean_and_std(values: list[float]) -> tuple[float, float]:
    """Mean and standard deviation, NaN where they are undefined."""
    x = torch.tensor(values, dtype=torch.float64)
    return float(x.mean()), float(x.std()) if len(x) > 1 else math.nan
