"""Files of predicted and generated videos: GIF, MP4 and PNG."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from common.data.videos.base import Clip
from common.errors import InputError, check_counts, check_output, check_positive
from common.metrics.frames import psnr
from common.typing import Times, Videos, VideoTimes
from video_ode.evaluation.pictures import (
    TOLERANCE,
    Scene,
    animation,
    generated_scene,
    save_gif,
    save_mp4,
    save_png,
    strip,
)
from video_ode.evaluation.rows import numbered
from video_ode.evaluation.samples import scenes
from video_ode.predictor import to_pixels

Format = Literal["gif", "mp4", "png"]


class PredictionWriter:
    """Writer of predicted videos, each in its own files: context | truth | best sample | others.

    The best sample has the highest PSNR over the predicted frames whose truth is known; if there
    are no such frames, over all frames whose truth is known. If the truth of no frame is known,
    the samples keep their order.

    Args:
        folder: Folder of the files.
        formats: Formats of the files: `gif` and `mp4` are animations; `png` is a picture, with
            time from left to right.
        fps: Number of frames a second of the animations.
        n_shown: Largest number of samples to show.

    Raises:
        InputError: No format, or a number of frames a second that isn't positive.
    """

    def __init__(
        self, folder: Path, formats: Sequence[Format], fps: float = 8.0, n_shown: int = 4
    ) -> None:
        if not formats:
            raise InputError("got no formats; give one or more of gif, mp4 and png")
        check_positive(fps=fps)
        check_counts(1, n_shown=n_shown)
        check_output(folder)
        self.folder, self.formats, self.fps, self.n_shown = folder, formats, fps, n_shown

    def write(
        self, clip: Clip, n_cond: int, times: Times | VideoTimes, samples: Videos
    ) -> list[Path]:
        """Writes `video_<number>.<format>` for each video, and returns the written files.

        Args:
            clip: True videos.
            n_cond: Number of conditioning frames, the first ones.
            times: Times of the predictions, in the order in which to show them.
            samples: Samples at these times, `[s b k c h w]`.
        """
        order = best_first(clip, n_cond, times, samples)[:, : self.n_shown]
        shown = samples[order.T, torch.arange(samples.shape[1], device=order.device)]
        paths = []
        for s, own, i in zip(
            scenes(clip, n_cond, times, shown), order.tolist(), clip.number.tolist(), strict=True
        ):
            labels = [numbered("sample", k) for k in own]
            rows = [row._replace(label=x) for row, x in zip(s.samples, labels, strict=True)]
            paths += self.write_scene(s._replace(samples=rows), f"video_{i:05d}")
        return paths

    def write_generated(self, motions: Videos, times: Times) -> list[Path]:
        """Writes `generated_<number>.<format>` for each generated video; returns the files.

        Args:
            motions: Motions of each video, `[s n t c h w]`, shown side by side; equal ones are
                shown once.
            times: Times of their frames, `[t]`.
        """
        paths = []
        for i, shown in enumerate(to_pixels(motions).cpu().unbind(1)):
            different = [shown[0], *(v for v in shown[1:] if not torch.equal(v, shown[0]))]
            found = generated_scene(different[: self.n_shown], times.tolist(), "motion")
            paths += self.write_scene(found, f"generated_{i:05d}")
        return paths

    def write_scene(self, found: Scene, name: str) -> list[Path]:
        """Writes one scene to `<name>.<format>`, and returns the written files."""
        return [self._save(found, form, name) for form in self.formats]

    def _save(self, found: Scene, form: Format, name: str) -> Path:
        path = self.folder / f"{name}.{form}"
        if form == "png":
            return save_png(strip(found.rows, times=found.times), path)
        save = save_gif if form == "gif" else save_mp4
        return save(animation([found.panels], times=[found.times]), path, self.fps)


def best_first(clip: Clip, n_cond: int, times: Times | VideoTimes, samples: Videos) -> Tensor:
    """Order of the samples of each video, `[b s]`: the best one first, the others in order."""
    own = clip.own_times()
    asked = times.to(own).expand(len(own), -1)
    gaps = (asked[:, :, None] - own[:, None]).abs()
    nearest = gaps.argmin(2)
    known = gaps.amin(2) <= TOLERANCE  # [b k]
    later = known & (asked > own[:, n_cond - 1 : n_cond] + TOLERANCE) if n_cond else known
    scored = torch.where(later.any(1, keepdim=True), later, known)
    order = torch.arange(len(samples), device=samples.device).expand(samples.shape[1], -1)
    if not bool(scored.any()):
        return order
    rows = torch.arange(len(own), device=nearest.device)[:, None]
    truth = clip.unit_range(clip.frames[rows, nearest])
    values = torch.where(scored, psnr(clip.unit_range(samples), truth), 0.0)  # [s b k]
    best = values.sum(-1).argmax(0)
    return order.gather(1, (order != best[:, None]).int().argsort(dim=1, stable=True))
