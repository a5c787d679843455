"""Training and judging of a video predictor."""

import torch
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor

from common.data.videos.base import Clip, VideoData
from common.errors import InputError, check_counts
from common.metrics.frames import psnr
from common.ode.solve import SolveError
from common.training.schedules import Schedule
from common.training.system import AutomaticSystem
from common.typing import Times, Videos
from video_ode.predictor import VideoPredictor, to_unit


class VideoPredictionModule(AutomaticSystem):
    """Trains by the predictor's loss; judges by the frames after the given ones.

    Logs `val/psnr` of the predicted frames and `val/psnr_given` of the given ones, each the best
    of `n_val_samples`; what `test` logs is `video_ode.evaluation.protocol.Evaluation`'s.

    Args:
        predictor: The model.
        n_cond: Frames that are given at test (the report's m); the rest are to be predicted.
        optimizer: From parameters to an optimiser.
        schedule: Of the learning rate.
        n_samples: Samples of each test video, of which the best counts.
        n_val_samples: The same in validation.
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
        check_counts(1, n_cond=n_cond, n_samples=n_samples, n_val_samples=n_val_samples)
        self.save_hyperparameters()
        self.predictor, self.n_cond = predictor, n_cond
        self.n_samples, self.n_val_samples = n_samples, n_val_samples

    def setup(self, stage: str) -> None:
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, VideoData):
            return
        ours, theirs = self.predictor.shape, tuple(data.shape)
        if ours is not None and ours != theirs:
            raise InputError(
                f"the data's frames are {_size(theirs)} but the predictor was configured for "
                f"{_size(ours)} (channels × height × width): change predictor.shape or the data"
            )
        if stage == "fit" and data.length("train") < self.n_cond:
            raise InputError(
                f"got training videos of {data.length('train')} frames, n_cond is "
                f"{self.n_cond}; raise data.n_frames or lower model.n_cond"
            )
        n_frames = data.length("val" if stage in ("fit", "validate") else "test")
        if n_frames <= self.n_cond:
            raise InputError(
                f"got videos of {n_frames} frames, of which n_cond {self.n_cond} are given, so "
                "none is left to predict; lower model.n_cond or raise data.n_eval_frames"
            )

    def predict(self, clip: Clip, target_times: Times, n_samples: int) -> Videos:
        """Samples at these times, from the clip's first `n_cond` frames."""
        given = slice(self.n_cond)
        # A model that looked at a frame it must not see would see black.
        video = to_unit(clip.frames[:, given]) * clip.mask[:, given, None, None, None]
        return self.predictor.predict(
            video, clip.times[given], target_times, n_samples, clip.mask[:, given]
        )

    def training_step(self, clip: Clip, batch_idx: int) -> Tensor:
        try:
            loss, terms = self.predictor.loss(
                to_unit(clip.frames), clip.times, clip.mask, self.n_cond, self.progress
            )
        except SolveError as error:
            return self.left_out(error)
        self.log("train/loss", loss, prog_bar=True)
        self.log_dict({f"train/{name}": value for name, value in terms.items()})
        return loss

    def validation_step(self, clip: Clip, batch_idx: int) -> None:
        samples = self.predict(clip, clip.times, self.n_val_samples)
        truth = to_unit(clip.frames)
        values = torch.stack([psnr(sample, truth) for sample in samples])  # [s b t]
        for name, part in (
            ("psnr_given", slice(self.n_cond)),
            ("psnr", slice(self.n_cond, None)),
        ):
            best = values[..., part].mean(-1).max(0).values
            self.log(
                f"val/{name}",
                best.mean(),
                prog_bar=name == "psnr",
                batch_size=len(best),
                sync_dist=True,
            )

    def test_step(self, clip: Clip, batch_idx: int) -> Videos:
        """Samples of the whole clip."""
        return self.predict(clip, clip.times, self.n_samples)


def _size(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
