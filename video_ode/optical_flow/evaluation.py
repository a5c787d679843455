"""Evaluation of optical flow and of frames between two given ones, beside baselines."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import Tensor
from torchmetrics import MeanMetric, Metric

from common.data.flow.base import FlowClip
from common.data.videos.base import Clip
from common.metrics.flow import FlowMetrics
from common.metrics.frames import psnr, ssim
from common.nn.warping import inverted_flow, sampled
from common.typing import FlowField, Image, Times, Video
from video_ode.evaluation.report import MODEL, number, text_table, write_csv
from video_ode.optical_flow.baselines import FlowMethod, ilk, tvl1, zero_flow
from video_ode.optical_flow.estimator import FlowEstimator
from video_ode.optical_flow.warping import pixel_places
from video_ode.times import shared_times

# From two frames and shares between 0 and 1 to the frames between.
Kind = TypeVar("Kind", bound=Metric)
Between = Callable[[Image, Image, Times], Video]
COLUMNS = {
    "epe": ".3f",
    "epe_all": ".3f",
    "f1_all": ".3f",
    "within_1px": ".3f",
    "within_3px": ".3f",
    "within_5px": ".3f",
    "psnr": ".2f",
    "ssim": ".4f",
}


def blended(first: Image, last: Image, shares: Times) -> Video:
    """Frames `[b t c h w]` between two frames `[b c h w]`: mixtures of both, without motion."""
    return torch.lerp(first[:, None], last[:, None], shares[:, None, None, None].to(first))


def warped_between(method: FlowMethod) -> Between:
    """Frames between two frames by a method of optical flow, at constant velocities.

    Both frames are warped to each time by the part of the flow up to it, and mixed by nearness in
    time. Where only one of them reaches a pixel, it alone counts.
    """

    def between(first: Image, last: Image, shares: Times) -> Video:
        forward, backward = method(first, last), method(last, first)
        found = []
        for share in shares.tolist():
            sides = [_part(first, forward, share), _part(last, backward, 1 - share)]
            (one, reached), (two, reached_too) = sides
            nearer, later = (1 - share) * (reached + 1e-3), share * (reached_too + 1e-3)
            found.append(torch.lerp(one, two, later / (nearer + later)))
        return torch.stack(found, 1)

    return between


def shares_of(clip: Clip) -> Times:
    """Times of the frames between the first (0) and the last (1), which all videos share.

    Raises:
        InputError: The videos differ in their times.
    """
    times = shared_times(clip.times, "FlowEvaluation")
    return ((times - times[0]) / (times[-1] - times[0]))[1:-1]


def _two(kind: type[Kind], device: torch.device) -> tuple[Kind, Kind]:
    return kind().to(device), kind().to(device)


def _part(frame: Image, flow: FlowField, share: float) -> tuple[Image, Tensor]:
    """Frame warped along a share of its flow, and 1 where it reaches the pixel, `[b 1 h w]`."""
    back, known = inverted_flow(share * flow)
    return sampled(frame, pixel_places(frame) + back), known[:, None].to(frame)


BASELINES: dict[str, tuple[FlowMethod, Between]] = {
    "zero flow, blend": (zero_flow, blended),
    "TV-L1": (tvl1, warped_between(tvl1)),
    "iLK": (ilk, warped_between(ilk)),
}


class FlowEvaluation:
    """Scores of optical flow, and of the frames between the first and the last one.

    Flow is scored on the pixels that both frames show, `epe_all` on all pixels of known flow; the
    frames between are the mean PSNR and SSIM over frames. Rows are the model and, if asked for,
    zero flow (whose frames are blends) and classical methods.

    Args:
        model: The model.
        baselines: Whether there are other rows than the model.
    """

    def __init__(self, model: FlowEstimator, baselines: bool = True) -> None:
        own = (lambda first, last: model.flows(first, last).flow, model.between)
        self.methods = {MODEL: own, **(BASELINES if baselines else {})}
        self._flows: dict[str, tuple[FlowMetrics, FlowMetrics]] = {}
        self._frames: dict[str, tuple[MeanMetric, MeanMetric]] = {}

    @torch.no_grad()
    def update(self, batch: FlowClip | Clip) -> None:
        """Adds videos; in all of them, the first and the last frame are given."""
        clip = batch.clip if isinstance(batch, FlowClip) else batch
        video = clip.unit_range(clip.frames)
        first, last, middle = video[:, 0], video[:, -1], video[:, 1:-1]
        shares = shares_of(clip)
        for row, (flow, between) in self.methods.items():
            if isinstance(batch, FlowClip):
                found = flow(first, last)
                seen, known = self._flows.setdefault(row, _two(FlowMetrics, found.device))
                seen.update(found, batch.flow, batch.visible)
                known.update(found, batch.flow, batch.valid)
            if middle.shape[1]:
                frames = between(first, last, shares)
                by_psnr, by_ssim = self._frames.setdefault(row, _two(MeanMetric, frames.device))
                by_psnr.update(psnr(frames, middle))
                by_ssim.update(ssim(frames, middle))

    def numbers(self, row: str = MODEL) -> dict[str, float]:
        """Scores of a row by name; the data may lack a true flow, or frames between."""
        found: dict[str, float] = {}
        if row in self._flows:
            seen, known = (metric.compute() for metric in self._flows[row])
            found = {"epe_all": known["epe"], **cast(dict[str, float], seen)}
        if row in self._frames:
            found["psnr"], found["ssim"] = (float(x.compute()) for x in self._frames[row])
        return found

    def table(self) -> str:
        """Table as text."""
        rows = {row: self.numbers(row) for row in self.methods}
        columns = {name: digits for name, digits in COLUMNS.items() if name in rows[MODEL]}
        body = [
            [row, *(number(scores[name], digits) for name, digits in columns.items())]
            for row, scores in rows.items()
        ]
        return "\n".join(text_table([["", *columns], *body]))

    def write(self, folder: Path) -> Path:
        """Writes the table into a folder, and returns the file."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "test_table.csv"
        write_csv(path, ({"row": row, **self.numbers(row)} for row in self.methods))
        return path
