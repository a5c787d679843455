"""System that trains and evaluates a video predictor."""

from typing import Any

import torch
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor

from common.data.videos.base import Clip, VideoData
from common.errors import InputError, check_counts
from common.inputs import ArrayLike
from common.metrics.frames import psnr
from common.ode.evaluations import SolveError
from common.training.schedules import Schedule
from common.training.system import AutomaticSystem
from common.typing import Times, Video, Videos, VideoTimes
from video_ode.content import SeparatingPredictor
from video_ode.evaluation.systems import GivenFrames
from video_ode.predictor import Scoring, TrainablePredictor, VideoPredictor, to_unit


class VideoPredictionModule(AutomaticSystem):
    """System that trains a video predictor by its own loss and evaluates its predictions.

    Logs `val/psnr` and `val/mse` of the predicted frames, and `val/psnr_given` and `val/mse_given`
    of the conditioning frames, each of the best of `n_val_samples` samples. For a model with a
    likelihood it also logs the `scores` in validation and test, such as `val/nll` and `val/kl`.
    All other numbers of a test come from `video_ode.evaluation.protocol.Evaluation`.

    Args:
        predictor: Video model.
        n_cond: Number of conditioning frames in the evaluation (m in the report); the later frames
            are to be predicted.
        optimizer: Factory of the optimiser, from parameters.
        schedule: Schedule of the learning rate. None: a constant rate.
        n_samples: Number of samples of each test video, of which the best one counts.
        n_val_samples: Number of samples of each validation video.

    Raises:
        InputError: Counts below their minimum.
    """

    def __init__(
        self,
        predictor: VideoPredictor,
        n_cond: int,
        optimizer: OptimizerCallable = torch.optim.Adam,
        schedule: Schedule | None = None,
        n_samples: int = 1,
        n_val_samples: int = 1,
    ) -> None:
        super().__init__(optimizer, schedule)
        check_counts(0, n_cond=n_cond)
        check_counts(1, n_samples=n_samples, n_val_samples=n_val_samples)
        self.save_hyperparameters()
        self.predictor, self.n_cond = predictor, n_cond
        self.n_samples, self.n_val_samples = n_samples, n_val_samples

    def setup(self, stage: str) -> None:
        if stage == "fit" and not isinstance(self.predictor, TrainablePredictor):
            raise InputError(
                f"{type(self.predictor).__name__} has no loss, so it can't be trained; test it "
                "without training, or give a TrainablePredictor"
            )
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, VideoData):
            self.check(data, stage)

    def check(self, data: VideoData, stage: str) -> None:
        """Checks that a data set has frames of the predictor's shape, and enough of them.

        Args:
            data: Data set.
            stage: Stage of Lightning; in `predict` no frame after the conditioning frames is
                needed.

        Raises:
            InputError: Frames of another shape, or videos that are too short.
        """
        wanted, found = self.predictor.shape, tuple(data.shape)
        if wanted is not None and tuple(wanted) != found:
            raise InputError(
                f"the data's frames are {_size(found)} but the predictor was configured for "
                f"{_size(wanted)} (channels × height × width): change predictor.shape or the data"
            )
        if stage == "fit" and data.length("train") < self.n_cond:
            raise InputError(
                f"got training videos of {data.length('train')} frames, n_cond is "
                f"{self.n_cond}; raise data.n_frames or lower model.n_cond"
            )
        n_frames = data.length("val" if stage in ("fit", "validate") else "test")
        if n_frames < self.n_cond + (stage != "predict"):
            raise InputError(
                f"got videos of {n_frames} frames and n_cond {self.n_cond}; no frame is left to "
                "predict: lower model.n_cond or raise data.n_eval_frames"
            )

    def given_frames(self) -> GivenFrames:
        """Frames that the predictor needs of a video of the user.

        Raises:
            InputError: The predictor is for fields, or for frames of neither 1 nor 3 channels.
        """
        shape = self.predictor.shape
        channels = self.predictor.channels if shape is None else shape[0]
        if self.predictor.fields or channels not in (1, 3):
            raise InputError(
                f"this {type(self.predictor).__name__} predicts fields of physics, which no video "
                "file holds; leave input out"
            )
        return GivenFrames(self.n_cond, channels, None if shape is None else shape[1:])

    def clip_of(self, batch: Clip | ArrayLike) -> Clip:
        """Clip of a batch; videos without times, with or without labels, get 0, 1, 2 and so on.

        Raises:
            InputError: A batch that is no video (see `common.inputs.as_pixels`), or with fewer
                than `n_cond` frames.
        """
        clip = batch if isinstance(batch, Clip) else _clip(self.predictor.as_frames(batch))
        if clip.frames.shape[1] < self.n_cond:
            raise InputError(
                f"got videos of {clip.frames.shape[1]} frames, n_cond is {self.n_cond}; give "
                "longer videos or lower model.n_cond"
            )
        return clip

    def predict(self, clip: Clip, target_times: Times | VideoTimes, n_samples: int) -> Videos:
        """Samples `[s b k c h w]` at these times, from the first `n_cond` frames of a clip."""
        given = slice(self.n_cond)
        # Unobserved frames become black, in case a model uses them by mistake.
        video = to_unit(clip.frames[:, given]) * clip.mask[:, given, None, None, None]
        return self.predictor.predict(
            video, clip.times[..., given], target_times, n_samples, clip.mask[:, given]
        )

    def swap(self, clip: Clip, content: Clip) -> Videos:
        """Samples of clips with the content of other clips, at the times of the clips.

        Raises:
            InputError: The predictor doesn't separate content and motion.
        """
        if not isinstance(self.predictor, SeparatingPredictor):
            raise InputError(
                f"got {type(self.predictor).__name__}, which doesn't separate content and motion; "
                "give an SRVP or Separation model, or set evaluation.swap false"
            )
        given = slice(self.n_cond)
        found = self.predictor.content_of(to_unit(content.frames[:, given]))
        video, times = to_unit(clip.frames[:, given]), clip.times[..., given]
        return self.predictor.with_content(
            video, times, clip.times, self.n_samples, found, clip.mask[:, given]
        )

    def training_step(self, batch: Clip | ArrayLike, batch_idx: int) -> Tensor:
        assert isinstance(self.predictor, TrainablePredictor)
        clip = self.clip_of(batch)
        try:
            loss, terms = self.predictor.loss(
                to_unit(clip.frames), clip.times, clip.mask, self.n_cond, self.progress
            )
        except SolveError as error:
            return self.left_out(error)
        self.log("train/loss", loss, prog_bar=True)
        self.log_dict({f"train/{name}": value for name, value in terms.items()})
        return loss

    def validation_step(self, batch: Clip | ArrayLike, batch_idx: int) -> None:
        clip = self.clip_of(batch)
        samples = self.predict(clip, clip.times, self.n_val_samples)
        shown, truth = clip.unit_range(samples), clip.unit_range(clip.frames)
        errors = (clip.own_unit(samples) - clip.own_unit(clip.frames)).square().flatten(3).mean(3)
        values = torch.stack([psnr(sample, truth) for sample in shown])  # [s b t]
        for suffix, part in {"_given": slice(self.n_cond), "": slice(self.n_cond, None)}.items():
            if values[..., part].numel():
                best = values[..., part].mean(-1).max(0).values
                self._log_mean(f"val/psnr{suffix}", best, prog_bar=not suffix)
                self._log_mean(f"val/mse{suffix}", errors[..., part].mean(-1).min(0).values)

    def test_step(self, batch: Clip | ArrayLike, batch_idx: int) -> Videos:
        """Samples of the whole clip, for `Evaluation`."""
        clip = self.clip_of(batch)
        return self.predict(clip, clip.times, self.n_samples)

    # After the batch's callbacks: what they count or catch belongs to the prediction alone.
    def on_validation_batch_end(
        self, outputs: object, batch: Clip | ArrayLike, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._log_scores("val", self.clip_of(batch))

    def on_test_batch_end(
        self, outputs: object, batch: Clip | ArrayLike, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._log_scores("test", self.clip_of(batch))

    def _log_scores(self, stage: str, clip: Clip) -> None:
        if not isinstance(self.predictor, Scoring):
            return
        devices = [self.device] if self.device.type == "cuda" else []
        # With separate random numbers, so that scores don't change the rest of the training.
        with torch.random.fork_rng(devices):
            scores = self.predictor.scores(
                to_unit(clip.frames), clip.times, clip.mask, self.n_cond
            )
        for name, values in scores.items():
            self._log_mean(f"{stage}/{name}", values)

    def _log_mean(self, name: str, values: Tensor, **options: Any) -> None:
        self.log(name, values.mean(), batch_size=len(values), sync_dist=True, **options)


def _clip(video: Video) -> Clip:
    b, t = video.shape[:2]
    times = torch.arange(float(t), device=video.device)
    seen = torch.ones(b, t, dtype=torch.bool, device=video.device)
    return Clip(video, times, seen, torch.arange(b, device=video.device))


def _size(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
