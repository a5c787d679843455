"""Animated samples of a video model, in TensorBoard and in the run's folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor

from common.data.videos.base import Clip
from common.errors import check_counts, check_positive
from common.typing import Times, Videos, VideoTimes
from video_ode.evaluation.files.media import gif, save_gif, save_png
from video_ode.evaluation.pictures import Scene, animation, generated_scene, scene, strip
from video_ode.evaluation.systems import (
    Displaying,
    Generating,
    Predicting,
    not_a_video_system,
)
from video_ode.predictor import to_pixels


class AnimatedSamples(Callback):
    """Shows predictions of the first validation videos: conditioning frames | truth | samples.

    After every validation there is an animated image in TensorBoard, and after training there are
    `samples.gif` and `samples.png` in the run's folder. The noise is the same each time, so that
    pictures can be compared over training. For a generator, generated videos are shown, side by
    side in the animations.

    Args:
        n: Number of videos.
        n_samples: Number of samples of each video.
        fps: Number of frames a second of the animation.
        seed: Seed of the noise.

    Raises:
        InputError: Arguments out of range.
    """

    def __init__(self, n: int = 4, n_samples: int = 3, fps: float = 8.0, seed: int = 0) -> None:
        check_counts(1, n=n, n_samples=n_samples)
        check_positive(fps=fps)
        self.n, self.n_samples, self.fps, self.seed = n, n_samples, fps, seed
        self._clip: Any = None  # the first videos of the validation, as their set serves them

    # With the last batch, not after it: after it the averaged weights are no longer in the model.
    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        if batch_idx == 0:
            self._clip = batch.select(slice(self.n))
        last = batch_idx == int(trainer.num_val_batches[dataloader_idx]) - 1
        if last and isinstance(trainer.logger, TensorBoardLogger):
            frames = animated(self._scenes(pl_module))
            add_gif(trainer.logger, "samples", frames, self.fps, trainer.global_step)

    # Not on_train_end: the averaged weights may be put into the model only then.
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # On every process, because `log_dir` communicates between processes.
        folder = Path(trainer.log_dir or trainer.default_root_dir)
        if self._clip is None or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        found = self._scenes(pl_module)
        gif_path = save_gif(animated(found), folder / "samples.gif", self.fps)
        print(f"samples: {gif_path}")
        picture = torch.cat([strip(s.rows, times=s.times) for s in found], -2)
        print(f"samples: {save_png(picture, folder / 'samples.png')}")

    def _scenes(self, pl_module: LightningModule) -> list[Scene]:
        assert self._clip is not None
        clip = self._clip.to(pl_module.device)
        devices = [pl_module.device] if pl_module.device.type == "cuda" else []
        with torch.random.fork_rng(devices), evaluation_mode(pl_module):
            torch.manual_seed(self.seed)
            if isinstance(pl_module, Predicting):
                samples = pl_module.predict(clip, clip.times, self.n_samples)
                return scenes(clip, pl_module.n_cond, clip.times, samples)
            if isinstance(pl_module, Displaying):
                return pl_module.draw(clip, None, None, self.n_samples)
            if isinstance(pl_module, Generating):
                times = clip.own_times()[0]
                videos = pl_module.generate(len(clip.frames), times)
                return [generated_scene(list(to_pixels(videos).cpu()), times.tolist())]
        raise not_a_video_system(pl_module)


def scenes(clip: Clip, n_cond: int, times: Times | VideoTimes, samples: Videos) -> list[Scene]:
    """Scenes of all videos of a clip.

    Args:
        clip: True videos.
        n_cond: Number of conditioning frames, the first ones.
        times: Times of the samples, `[k]` or `[b k]`, in any order.
        samples: Samples `[s b k c h w]`.
    """
    pixels = to_pixels(clip.unit_range(samples)).cpu()
    frames = to_pixels(clip.unit_range(clip.frames)).cpu()
    clip = clip.to("cpu")
    own, asked = clip.own_times(), times.cpu().expand(len(frames), -1)
    return [
        scene(frames[i], own[i], clip.mask[i, :n_cond], asked[i], pixels[:, i])
        for i in range(len(frames))
    ]


def animated(found: list[Scene]) -> Tensor:
    """Animation `[t 3 h w]` of scenes below each other."""
    return animation([s.panels for s in found], times=[s.times for s in found])


def add_gif(
    logger: TensorBoardLogger, tag: str, frames: Tensor, fps: float, global_step: int
) -> None:
    """Logs an animation `[t 3 h w]` of bytes to TensorBoard.

    TensorBoard's `add_video` would need an old version of moviepy.
    """
    height, width = frames.shape[-2:]
    image = Summary.Image(
        height=height, width=width, colorspace=3, encoded_image_string=gif(frames, fps)
    )
    summary = Summary(value=[Summary.Value(tag=tag, image=image)])
    logger.experiment._get_file_writer().add_summary(summary, global_step)


@contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Context with evaluation mode and without gradients; it restores the mode of each part."""
    training = {part: part.training for part in model.modules()}
    try:
        with torch.no_grad():
            model.eval()
            yield
    finally:
        for part, mode in training.items():
            part.training = mode
