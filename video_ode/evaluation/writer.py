"""Predicted videos as files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from common.data.videos.base import Clip
from common.metrics.frames import psnr
from common.typing import Times, Videos
from video_ode.evaluation.pictures import (
    TOLERANCE,
    Scene,
    animation,
    save_gif,
    save_mp4,
    save_png,
    strip,
)
from video_ode.evaluation.samples import scenes
from video_ode.predictor import to_unit

Format = Literal["gif", "mp4", "png"]


class PredictionWriter:
    """Writes each predicted video to files of its own: context | truth | best sample | others.

    The best has the highest PSNR over the predicted frames whose truth is known, or over all such
    frames if none of the predicted is; there is no best of one sample, or where no truth is known.

    Args:
        folder: Where to.
        formats: `gif` and `mp4` play, in a `png` time goes to the right.
        fps: Frames a second at which to play.
        n_shown: Samples to show at most.
    """

    def __init__(
        self, folder: Path, formats: Sequence[Format], fps: float = 8.0, n_shown: int = 4
    ) -> None:
        self.folder, self.formats, self.fps, self.n_shown = folder, formats, fps, n_shown

    def write(self, clip: Clip, n_cond: int, times: Times, samples: Videos) -> list[Path]:
        """Writes `video_<number>.<format>` of each video; returns the files.

        Args:
            clip: The true videos.
            n_cond: The first so many frames were given.
            times: Of the predictions, in the order in which to show them.
            samples: At these times.
        """
        order = best_first(clip, n_cond, times, samples)[:, : self.n_shown]
        shown = samples[order.T, torch.arange(samples.shape[1], device=order.device)]
        found = scenes(clip, n_cond, times, shown)
        return [
            self._save(s, form, f"video_{int(number):05d}")
            for s, number in zip(found, clip.number, strict=True)
            for form in self.formats
        ]

    def _save(self, found: Scene, form: Format, name: str) -> Path:
        path = self.folder / f"{name}.{form}"
        if form == "png":
            return save_png(strip(found.rows), path)
        save = save_gif if form == "gif" else save_mp4
        return save(animation([found.panels]), path, self.fps)


def best_first(clip: Clip, n_cond: int, times: Times, samples: Videos) -> Tensor:
    """Of each video the numbers of its samples, `[b s]`, that of the best moved to the front."""
    near = (times[:, None] - clip.times).abs()
    known = near.amin(1) <= TOLERANCE
    later = known & (times > clip.times[n_cond - 1] + TOLERANCE)
    judged = later if bool(later.any()) else known
    order = torch.arange(len(samples), device=samples.device).expand(samples.shape[1], -1)
    if not bool(judged.any()):
        return order
    truth = to_unit(clip.frames[:, near.argmin(1)[judged]])
    best = psnr(samples[:, :, judged], truth).mean(-1).argmax(0)
    return order.gather(1, (order != best[:, None]).int().argsort(dim=1, stable=True))
