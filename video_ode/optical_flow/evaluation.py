"""Evaluation of optical flow and of frames between two given ones, beside baselines."""

from collections.abc import Callable
from functools import partial
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
from video_ode.optical_flow.estimator import FlowEstimator, blended, check_observed
from video_ode.optical_flow.warping import pixel_places
from video_ode.times import shared_times

# From two frames and shares between 0 and 1: the flow from first to last, and frames between.
Method = Callable[[Image, Image, Times], tuple[FlowField, Video]]
Rows = dict[str, dict[str, float]]
AnyMetric = TypeVar("AnyMetric", bound=Metric)
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


def still(first: Image, last: Image, shares: Times) -> tuple[FlowField, Video]:
    """Zero flow, and blends of the two frames."""
    return zero_flow(first, last), blended(first, last, shares)


def warped(
    method: FlowMethod, first: Image, last: Image, shares: Times
) -> tuple[FlowField, Video]:
    """Flow by a method, and frames between two frames at constant velocities.

    Both frames are warped to each time by the part of the flow up to it, and mixed by nearness in
    time. Where only one of them reaches a pixel, it alone counts.
    """
    forward, backward = method(first, last), method(last, first)
    found = [blended(first, last, shares[:0])]  # in case there is no share
    for share in shares.tolist():
        one, reached = _part(first, forward, share)
        two, reached_too = _part(last, backward, 1 - share)
        nearer, later = (1 - share) * (reached + 1e-3), share * (reached_too + 1e-3)
        found.append(torch.lerp(one, two, later / (nearer + later))[:, None])
    return forward, torch.cat(found, 1)


def shares_of(clip: Clip) -> Times:
    """Times of the frames between the first (0) and the last (1), which all videos share.

    Raises:
        InputError: The videos differ in their times.
    """
    times = shared_times(clip.times, "FlowEvaluation")
    return ((times - times[0]) / (times[-1] - times[0]))[1:-1]


def _part(frame: Image, flow: FlowField, share: float) -> tuple[Image, Tensor]:
    """Frame warped along a share of its flow, and 1 where it reaches the pixel, `[b 1 h w]`."""
    back, known = inverted_flow(share * flow)
    return sampled(frame, pixel_places(frame) + back), known[:, None].to(frame)


def _two(kind: Callable[[], AnyMetric], device: torch.device) -> tuple[AnyMetric, AnyMetric]:
    return kind().to(device), kind().to(device)


BASELINES: dict[str, Method] = {
    "zero flow, blend": still,
    "TV-L1": partial(warped, tvl1),
    "iLK": partial(warped, ilk),
}
# NaN of a model must stay visible.
Mean = partial(MeanMetric, nan_strategy="disable")


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
        def own(first: Image, last: Image, shares: Times) -> tuple[FlowField, Video]:
            between = model.between if len(shares) else blended
            return model.flows(first, last).flow, between(first, last, shares)

        self.methods: dict[str, Method] = {MODEL: own, **(BASELINES if baselines else {})}
        self._flows: dict[str, tuple[FlowMetrics, FlowMetrics]] = {}
        self._frames: dict[str, tuple[MeanMetric, MeanMetric]] = {}

    @torch.no_grad()
    def update(self, batch: FlowClip | Clip) -> None:
        """Adds videos; in all of them, the first and the last frame are given.

        Raises:
            InputError: A model may not see these two, or the videos differ in their times.
        """
        clip = batch.clip if isinstance(batch, FlowClip) else batch
        check_observed(clip.mask[:, [0, -1]])
        video = clip.unit_range(clip.frames)
        middle, shares = video[:, 1:-1], shares_of(clip)
        for row, method in self.methods.items():
            flow, frames = method(video[:, 0], video[:, -1], shares)
            if isinstance(batch, FlowClip):
                seen, known = self._flows.setdefault(row, _two(FlowMetrics, flow.device))
                seen.update(flow, batch.flow, batch.visible)
                known.update(flow, batch.flow, batch.valid)
            if len(shares):
                by_psnr, by_ssim = self._frames.setdefault(row, _two(Mean, frames.device))
                by_psnr.update(psnr(frames, middle))
                by_ssim.update(ssim(frames, middle))

    def rows(self) -> Rows:
        """Scores by row and name; the data may lack a true flow, or frames between.

        On several devices, all of them must call it.
        """
        found: Rows = {}
        for row in self.methods:
            found[row] = {}
            if row in self._flows:
                seen, known = (metric.compute() for metric in self._flows[row])
                found[row] = {"epe_all": known["epe"], **cast(dict[str, float], seen)}
            if row in self._frames:
                names = zip(("psnr", "ssim"), self._frames[row], strict=True)
                found[row] |= {name: float(metric.compute()) for name, metric in names}
        return found


def flow_table(rows: Rows) -> str:
    """Scores of `FlowEvaluation.rows` as text."""
    columns = {name: form for name, form in COLUMNS.items() if name in rows[MODEL]}
    body = [
        [row, *(number(scores[name], form) for name, form in columns.items())]
        for row, scores in rows.items()
    ]
    return "\n".join(text_table([["", *columns], *body]))


def write_flow_table(rows: Rows, folder: Path) -> Path:
    """Writes the scores into a folder, and returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "test_table.csv"
    write_csv(path, ({"row": row, **scores} for row, scores in rows.items()))
    return path
