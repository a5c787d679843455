"""One protocol by which every predictor is judged."""

import math
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from common.data.videos.base import Clip, VideoData
from common.metrics.frames import ALEXNET_URL, LPIPS, psnr, ssim
from common.metrics.video import I3D_URL, ClipFeatures, RandomVideoFeatures
from common.typing import Mask, Times, Video, Videos
from video_ode.evaluation.report import AVERAGE, COPY, LOWER_IS_BETTER, MEAN, MODEL, Report, Scores
from video_ode.predictor import to_pixels, to_unit


@runtime_checkable
class Predicting(Protocol):
    """A system that predicts videos from their first `n_cond` frames."""

    n_cond: int

    def predict(self, clip: Clip, target_times: Times, n_samples: int) -> Videos:
        """Samples `[s b k c h w]` in `[0, 1]` at these times."""


class Evaluation(Callback):
    """Judges the samples that `test_step` returns as SRVP does (Franceschi 2020, section 5).

    Each metric is taken frame by frame, of samples clamped to `[0, 1]`. Of a video's samples the
    best counts, chosen for each metric by its mean over the predicted frames, and apart from that
    by its mean over the given ones, all of which are scored, seen or not. Numbers are means over
    videos ± 1.96 σ / √N. Beside the model stand the average of its samples' scores, the last given
    frame that was seen (not scored on itself), the mean of the given frames that were seen, and
    whatever the data know how to predict (of the predicted frames).

    The Fréchet distance to the true videos is that of the given frames followed by the predicted
    ones of one sample, in bytes.

    Logs `test/psnr`, `test/psnr_given`, the same for `ssim` and `lpips`, `test/psnr_margin` and
    `test/psnr_margin_given` over the better of copy and mean, and the distance by its name.
    Prints a table; writes `test_table.csv`, `test_curves.csv` and `test_curves.png`.

    Args:
        lpips: AlexNet's weights, `alexnet-owt-7be5be79.pth`; without them LPIPS is left out.
        features: `I3DFeatures(weights=…)` for FVD; a stand-in, logged under its own name, if none.
    """

    def __init__(self, lpips: Path | None = None, features: ClipFeatures | None = None) -> None:
        self.lpips, self.features = lpips, features or RandomVideoFeatures()
        self.metrics: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"psnr": psnr, "ssim": ssim}
        self._batches: list[Scores] = []
        self._times: list[float] = []
        self._n_samples = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "test" and self.lpips is not None:
            self.metrics["lpips"] = LPIPS(self.lpips)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._batches = []
        for part in (self.features, *self.metrics.values()):
            if isinstance(part, nn.Module):
                part.to(pl_module.device)

    def on_test_batch_end(  # type: ignore[override]
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Videos,
        batch: Clip,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        assert isinstance(pl_module, Predicting)
        n_cond, truth = pl_module.n_cond, to_unit(batch.frames)
        samples = outputs.to(truth.dtype).clamp(0, 1)
        rivals = baselines(truth, batch.mask[:, :n_cond])
        data = getattr(trainer, "datamodule", None)
        if isinstance(data, VideoData):
            known = data.baselines(batch, n_cond)
            rivals |= {name: to_unit(video.to(truth.device)) for name, video in known.items()}
        scores = self._curves(samples, rivals, truth, n_cond)
        last = last_seen(batch.mask[:, :n_cond])
        for row, name in product(rivals, self.metrics):
            curve = scores["curve", row, name]
            if row == COPY:
                curve[torch.arange(len(last)), last] = math.nan
            elif row != MEAN:
                curve[:, :n_cond] = math.nan  # handed to it
        scores |= self._features({MODEL: samples[0], **rivals}, truth, n_cond)
        scores["number",] = batch.number
        scores["seen",] = batch.mask[:, :n_cond].float()
        self._batches.append({key: x.cpu() for key, x in scores.items()})
        self._times, self._n_samples = batch.times.tolist(), len(samples)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Predicting)
        folder = Path(trainer.log_dir or trainer.default_root_dir)  # asked on every process
        scores, self._batches = gathered(self._batches), []
        n_cond, name = pl_module.n_cond, self.features.name
        report = Report(scores, self._times, n_cond, self._n_samples, name)
        numbers = {f"test/{name}": value for name, value in report.logged().items()}
        pl_module.log_dict(numbers, rank_zero_only=True)
        if trainer.is_global_zero:
            print(f"\n{report.table(_described(trainer))}\n", *self._missing(), sep="\n")
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            for path in report.write(folder.resolve()):
                print(f"{path.stem.replace('_', ' ')}: {path}")

    def _curves(
        self, samples: Videos, rivals: dict[str, Video], truth: Video, n_cond: int
    ) -> Scores:
        scores: Scores = {}
        for name, metric in self.metrics.items():
            # Sample by sample: what a network computes of all of them would not fit into memory.
            each = torch.stack([metric(sample, truth) for sample in samples])
            scores["curve", MODEL, name] = best_of(each, n_cond, name in LOWER_IS_BETTER)
            if len(samples) > 1:
                scores["curve", AVERAGE, name] = each.mean(0)
            for row, video in rivals.items():
                scores["curve", row, name] = metric(video, truth)
        return scores

    def _features(self, rows: dict[str, Video], truth: Video, n_cond: int) -> Scores:
        scores: Scores = {("features", "truth"): self.features(to_pixels(truth))}
        for row, video in rows.items():
            joined = torch.cat([truth[:, :n_cond], video[:, n_cond:]], 1)
            scores["features", row] = self.features(to_pixels(joined))
        return scores

    def _missing(self) -> list[str]:
        lines = []
        if self.lpips is None:
            lines.append(f"LPIPS needs --evaluation.lpips FILE, AlexNet's weights: {ALEXNET_URL}")
        if self.features.name != "fvd":
            lines.append(
                f"{self.features.name} compares runs of this project only; FVD needs "
                "--evaluation.features I3DFeatures --evaluation.features.weights FILE, "
                f"i3d_torchscript.pt: {I3D_URL}"
            )
        return lines


def best_of(scores: Tensor, n_cond: int, lower: bool = False) -> Tensor:
    """The scores of each video's best sample, one for the given frames, one for the others.

    Args:
        scores: `[s b t]`.
        n_cond: The first so many frames are given.
        lower: Whether low scores are good.

    Returns:
        `[b t]`.
    """
    chosen = []
    for part in (scores[..., :n_cond], scores[..., n_cond:]):
        means = part.mean(-1)
        index = means.argmin(0) if lower else means.argmax(0)
        chosen.append(part[index, torch.arange(part.shape[1], device=part.device)])
    return torch.cat(chosen, 1)


def last_seen(mask: Mask) -> Tensor:
    """Of each video, the place of the last frame that may be seen, `[b]`."""
    return (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).argmax(1)


def baselines(truth: Video, mask: Mask) -> dict[str, Video]:
    """Still videos as long as the true ones: the last and the mean of the given frames.

    Args:
        truth: `[b t c h w]`.
        mask: Of the given frames, which may be seen.
    """
    seen = mask[:, :, None, None, None]
    mean = (truth[:, : mask.shape[1]] * seen).sum(1) / seen.sum(1)
    last = truth[torch.arange(len(truth), device=truth.device), last_seen(mask)]
    still = {COPY: last, MEAN: mean}
    return {row: frame[:, None].expand_as(truth) for row, frame in still.items()}


def gathered(batches: list[Scores]) -> Scores:
    """The scores of all videos by number, from all processes, each video once.

    Processes that share a set unevenly judge some videos twice.
    """
    everyones: list[Any] = [batches]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        everyones = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(everyones, batches)
    parts = [part for share in everyones for part in share]
    scores = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    _, place = torch.unique(scores["number",], return_inverse=True)
    first = torch.full((int(place.max()) + 1,), len(place))
    first = first.scatter_reduce(0, place, torch.arange(len(place)), "amin")
    return {key: x[first] for key, x in scores.items()}


def _described(trainer: Trainer) -> str:
    """The data set's class, and which of its generators made the videos."""
    data = getattr(trainer, "datamodule", None)
    name, generator = type(data).__name__, getattr(data, "generator", None)
    if generator is None:
        return name
    return f"{name} ({generator if isinstance(generator, str) else type(generator).__name__})"
