"""Evaluation protocol of all video models."""

import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from common.data.videos.base import Clip, VideoData
from common.errors import InputError, check_counts
from common.metrics.c3d import C3D_URL, C3DFeatures
from common.metrics.frames import ALEXNET_URL, PSNR, SSIM, FrameMetric
from common.metrics.video import I3D_URL, ClipFeatures, I3DFeatures, RandomVideoFeatures
from common.typing import Video, Videos
from video_ode.evaluation.baselines import COPY, MEAN, last_seen, still_videos
from video_ode.evaluation.generation import GenerationReport, generated_features, real_features
from video_ode.evaluation.report import AVERAGE, MODEL, SWAP, Report, VideoScores
from video_ode.evaluation.scores import best_of, gathered
from video_ode.evaluation.systems import (
    Displaying,
    Generating,
    Predicting,
    Swapping,
    not_a_video_system,
)
from video_ode.predictor import to_pixels, to_unit


class Evaluation(Callback):
    """Evaluates video models in `test`, by the protocol of SRVP (Franceschi 2020, section 5).

    It leaves systems alone that evaluate themselves (`Displaying`).

    A predictor is evaluated frame by frame, on the samples that `test_step` returns. Pictures are
    clamped to `[0, 1]`; fields are neither clamped nor rounded. Only the best sample of each video
    counts. It is chosen for each metric twice: by the mean over the predicted frames, and by the
    mean over the conditioning frames (all of these are scored, observed or not). The numbers are
    means over videos ± 1.96 σ / √N. The table also has the average of the scores of all samples,
    and the baselines:

    - the last observed conditioning frame (it has no score for its own frame);
    - the mean of the observed conditioning frames;
    - the baselines of the data set (with scores of the predicted frames only).

    The Fréchet distance compares the true videos with videos of one sample: the conditioning
    frames followed by the predicted frames, in bytes.

    A generator is evaluated by this distance alone and, if the features are those of a classifier,
    by the Inception score: on `repeats` fresh batches of `n_generated` videos, with the standard
    deviation over the batches. (The papers on video GANs take 5 or 10 batches of 2,048 videos.)
    Beside it stand real videos: half of them against the other half (the bias of few videos), and
    with their frames shuffled. The keys of these controls end in `_half` and `_shuffled`.

    Logs `test/psnr` and `test/psnr_given` (of predicted and of conditioning frames), the same for
    every other metric, `test/psnr_10` and so on for each of the `horizons`, the distance by its
    name, and `test/psnr_margin` and `test/psnr_margin_given`: how much better the model is than
    the better of the two still baselines, in dB. Prints a table; writes `test_table.csv`,
    `test_curves.csv` and `test_curves.png`.

    Args:
        metrics: Metrics in addition to PSNR and SSIM, such as `LPIPS`. None: no others.
        features: Features of the Fréchet distance, which has a name for each: `I3DFeatures` for
            FVD, `C3DFeatures` for the "IS" and "FID" of papers on video GANs, `DigitFeatures` for
            moving digits. None: random features.
        horizons: Numbers of predicted frames, such as 10: the table also has the mean over the
            first 10 predicted frames ("t+10" in papers).
        swap: Also score videos with the motion of one test video and the content of the next one
            in its batch, of all ways to give the true contents to the moving things the best one
            (Donà et al. 2021). The data must be able to make such videos.
        n_generated: Number of generated videos in a batch of the protocol of generators. None: as
            many as there are test videos.
        repeats: Number of these batches.

    Raises:
        InputError: Two metrics of one name, horizons or `repeats` below 1, or `n_generated` below
            2.
    """

    def __init__(
        self,
        metrics: list[FrameMetric] | None = None,
        features: ClipFeatures | None = None,
        horizons: Sequence[int] = (),
        swap: bool = False,
        n_generated: int | None = None,
        repeats: int = 1,
    ) -> None:
        self.metrics: list[FrameMetric] = [PSNR(), SSIM(), *(metrics or [])]
        names = [metric.name for metric in self.metrics]
        if len(set(names)) < len(names):
            raise InputError(f"got metrics {', '.join(names)}; give each name once")
        check_counts(1, **{f"horizons[{i}]": h for i, h in enumerate(horizons)})
        self.features, self.horizons = features or RandomVideoFeatures(), tuple(horizons)
        check_counts(2, n_generated=n_generated)
        check_counts(1, repeats=repeats)
        self.swap, self.n_generated, self.repeats = swap, n_generated, repeats
        self._batches: list[VideoScores] = []
        self._n_samples = 0

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._batches = []
        if isinstance(pl_module, Displaying):
            return
        if not isinstance(pl_module, Predicting | Generating):
            raise not_a_video_system(pl_module)
        for part in (self.features, *self.metrics):
            part.to(pl_module.device)

    def on_test_batch_end(  # type: ignore[override]
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Videos | None,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if isinstance(pl_module, Displaying):
            return
        if not isinstance(batch, Clip):
            raise InputError(
                f"got a batch of type {type(batch).__name__}; Evaluation needs clips with times, "
                "from a VideoData set"
            )
        if isinstance(pl_module, Predicting):
            assert outputs is not None
            samples = _evaluated(outputs, batch)
            data = getattr(trainer, "datamodule", None)
            scores = self._prediction_scores(samples, batch, pl_module.n_cond, data)
            if self.swap:
                scores |= self._swap_scores(pl_module, batch, data)
            self._n_samples, n_cond = len(samples), pl_module.n_cond
        else:
            scores, self._n_samples, n_cond = real_features(self.features, batch), 1, 0
        predicted = batch.frames.shape[1] - n_cond
        if max(self.horizons, default=0) > predicted:
            raise InputError(
                f"got horizons {list(self.horizons)}, but {predicted} frames are predicted; lower "
                "evaluation.horizons or raise data.n_eval_frames"
            )
        scores["number",] = batch.number
        scores["times",] = batch.own_times()
        scores["seen",] = batch.mask[:, :n_cond].float()
        self._batches.append({key: x.cpu() for key, x in scores.items()})

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if isinstance(pl_module, Displaying):
            return
        # On every process, because `log_dir` communicates between processes.
        folder = Path(trainer.log_dir or trainer.default_root_dir)
        size = len(self._batches[0]["number",])
        scores, self._batches = gathered(self._batches), []
        report = self._report(pl_module, scores, size)
        numbers = {f"test/{name}": value for name, value in report.logged().items()}
        pl_module.log_dict(numbers, rank_zero_only=True)
        if trainer.is_global_zero:
            missing = self._missing(report.metrics)
            print(f"\n{report.table(_data_name(trainer))}\n", *missing, sep="\n")
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            for path in report.write(folder.resolve()):
                print(f"{path.stem.replace('_', ' ')}: {path}")

    def _report(
        self, module: LightningModule, scores: VideoScores, batch_size: int
    ) -> Report | GenerationReport:
        if isinstance(module, Predicting):
            name = self.features.name
            return Report(scores, self.metrics, self._n_samples, name, self.horizons)
        assert isinstance(module, Generating)
        times = scores["times",].to(module.device)
        n = self.n_generated or len(times)
        batches = [
            generated_features(self.features, module.generate, times, n, batch_size)
            for _ in range(self.repeats)
        ]
        return GenerationReport(self.features, scores, batches)

    def _prediction_scores(
        self, samples: Videos, batch: Clip, n_cond: int, data: object
    ) -> VideoScores:
        """Scores of a predictor's samples and of the baselines."""
        truth, seen = to_unit(batch.frames), batch.mask[:, :n_cond]
        baselines = still_videos(truth, seen)
        if isinstance(data, VideoData):
            known = data.baselines(batch, n_cond)
            baselines |= {name: to_unit(video.to(truth.device)) for name, video in known.items()}
        scores = self._curves(samples, baselines, batch, n_cond)
        for row, metric in product(baselines, self._usable(batch)):
            curve = scores["curve", row, metric.name]
            if row == COPY:
                last = last_seen(seen)
                curve[torch.arange(len(last)), last] = math.nan
            elif row != MEAN:
                curve[:, :n_cond] = math.nan  # copies of the conditioning frames
        return scores | self._feature_scores({MODEL: samples[0], **baselines}, batch, n_cond)

    def _swap_scores(self, module: Predicting, batch: Clip, data: object) -> VideoScores:
        """Scores of the content swap, for each metric of the best of the true videos."""
        other = torch.arange(len(batch.frames)).roll(-1)
        content = batch.select(other)
        truths = data.swapped(batch, content.number) if isinstance(data, VideoData) else None
        if truths is None or not isinstance(module, Swapping):
            raise InputError(
                f"{type(data).__name__} or {type(module).__name__} can't swap contents; set "
                "evaluation.swap false, or test a model such as Separation on MovingDigits"
            )
        samples = _evaluated(module.swap(batch, content), batch)
        ways = []
        for frames in truths:
            truth = batch._replace(frames=frames)
            ways.append(self._curves(samples, {}, truth, module.n_cond))
        scores: VideoScores = {}
        for metric in self._usable(batch):
            each = torch.stack([way["curve", MODEL, metric.name] for way in ways])
            best = best_of(each, module.n_cond, metric.better == "lower")
            scores["curve", SWAP, metric.name] = best
        return scores

    def _usable(self, batch: Clip) -> list[FrameMetric]:
        """Metrics, without SSIM if the frames are too small for it."""
        side = min(batch.frames.shape[-2:])
        return [m for m in self.metrics if not (isinstance(m, SSIM) and side < m.smallest)]

    def _curves(
        self, samples: Videos, baselines: dict[str, Video], batch: Clip, n_cond: int
    ) -> VideoScores:
        scores: VideoScores = {}
        for metric in self._usable(batch):
            scaled = batch.own_unit if metric.own_unit else batch.unit_range
            truth = scaled(batch.frames)
            # One sample after the other: the activations of all would not fit into memory.
            each = torch.stack([metric(scaled(sample), truth) for sample in samples])
            best = best_of(each, n_cond, metric.better == "lower")
            scores["curve", MODEL, metric.name] = best
            if len(samples) > 1:
                scores["curve", AVERAGE, metric.name] = each.mean(0)
            for row, video in baselines.items():
                scores["curve", row, metric.name] = metric(scaled(video), truth)
        return scores

    def _feature_scores(self, rows: dict[str, Video], batch: Clip, n_cond: int) -> VideoScores:
        truth = batch.unit_range(batch.frames)
        scores: VideoScores = {("features", "truth"): self.features(to_pixels(truth))}
        for row, video in rows.items():
            joined = torch.cat([truth[:, :n_cond], batch.unit_range(video)[:, n_cond:]], 1)
            scores["features", row] = self.features(to_pixels(joined))
        return scores

    def _missing(self, used: Sequence[FrameMetric]) -> Sequence[str]:
        lines = []
        if used and not any(isinstance(metric, SSIM) for metric in used):
            lines.append(f"SSIM needs frames of {SSIM.smallest} x {SSIM.smallest} or more")
        if used and "lpips" not in {metric.name for metric in self.metrics}:
            lines.append(
                "LPIPS needs --evaluation.metrics+ LPIPS --evaluation.metrics.weights FILE, "
                f"AlexNet's weights: {ALEXNET_URL}"
            )
        if self.features.name not in (I3DFeatures.name, C3DFeatures.name):
            lines.append(
                f"{self.features.name} compares runs of this project only; FVD needs "
                "--evaluation.features I3DFeatures --evaluation.features.weights FILE, "
                f"i3d_torchscript.pt: {I3D_URL}; the IS and FID of papers on video GANs need "
                f"C3DFeatures and conv3d_deepnetA_ucf.npz: {C3D_URL}"
            )
        return lines


def _evaluated(video: Tensor, batch: Clip) -> Tensor:
    """Predicted videos in the type of the true ones; pictures are clamped to `[0, 1]`."""
    if batch.frames.is_floating_point():
        return video.to(batch.frames.dtype)
    return video.float().clamp(0, 1)


def _data_name(trainer: Trainer) -> str:
    """Class of the data set, with the generator of its videos if it has one."""
    data = getattr(trainer, "datamodule", None)
    name, generator = type(data).__name__, getattr(data, "generator", None)
    if generator is None:
        return name
    return f"{name} ({generator if isinstance(generator, str) else type(generator).__name__})"
