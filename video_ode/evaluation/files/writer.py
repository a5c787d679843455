"""Files of predicted and generated videos: animations, pictures, frames and arrays."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from common.data.videos.base import Clip
from common.errors import InputError, check_counts, check_output, check_positive
from common.files import free_path
from common.metrics.frames import psnr
from common.typing import Times, Videos, VideoTimes
from video_ode.evaluation.files.media import save_gif, save_mkv, save_mp4, save_png
from video_ode.evaluation.pictures import TOLERANCE, Scene, animation, generated_scene, strip
from video_ode.evaluation.rows import numbered
from video_ode.evaluation.samples import scenes
from video_ode.predictor import to_pixels

Format = Literal["gif", "mp4", "png", "frames", "mkv", "npz"]
ENDINGS: dict[Format, str] = {
    **{"gif": ".gif", "mp4": ".mp4", "png": ".png"},
    **{"frames": "_frames", "mkv": ".mkv", "npz": ".npz"},
}


class PredictionWriter:
    """Writer of predicted videos, each in its own files: context | truth | best sample | others.

    The best sample has the highest PSNR over the predicted frames whose truth is known; if there
    are no such frames, over all frames whose truth is known. If the truth of no frame is known,
    the samples keep their order.

    No file is replaced: if there are files of a name, the next ones get the name with `-2`, `-3`
    and so on.

    Args:
        folder: Folder of the files.
        formats: Formats of the files: `gif` and `mp4` are animations; `png` is a picture, with
            time from left to right. The others hold what was predicted, without enlargement and
            borders: `frames` is a folder with a PNG file of each frame of the best sample; `mkv`
            is the best sample as a lossless video (FFV1); `npz` has the arrays `times` `[k]`,
            `samples` `[s k c h w]`, and of a predicted video `given` and `truth` `[n c h w]` with
            `given_times` and `truth_times` `[n]`.
        fps: Number of frames a second of the animations and videos.
        n_shown: Largest number of samples to show; `npz` has all.

    Raises:
        InputError: No format, or a number of frames a second that isn't positive.
    """

    def __init__(
        self, folder: Path, formats: Sequence[Format], fps: float = 8.0, n_shown: int = 4
    ) -> None:
        if not formats:
            raise InputError(f"got no formats; give one or more of {', '.join(ENDINGS)}")
        check_positive(fps=fps)
        check_counts(1, n_shown=n_shown)
        check_output(folder)
        self.folder, self.formats, self.fps, self.n_shown = folder, formats, fps, n_shown

    def write(
        self,
        clip: Clip,
        n_cond: int,
        times: Times | VideoTimes,
        samples: Videos,
        name: str | None = None,
    ) -> list[Path]:
        """Writes the files of each video, and returns their paths.

        Args:
            clip: True videos.
            n_cond: Number of conditioning frames, the first ones.
            times: Times of the predictions, in the order in which to show them.
            samples: Samples at these times, `[s b k c h w]`.
            name: Name of the files, without their endings. None: `video_<number>`.
        """
        order = best_first(clip, n_cond, times, samples).T
        best = samples[order, torch.arange(samples.shape[1], device=order.device)]
        found = scenes(clip, n_cond, times, best[: self.n_shown])
        each = times.expand(len(found), -1)
        paths = []
        for i, (shown, number) in enumerate(zip(found, clip.number.tolist(), strict=True)):
            given = clip.mask[i].clone()
            given[n_cond:] = False
            arrays = {"times": each[i], "samples": best[:, i], **observed(clip, i, given)}
            labels = [numbered("sample", k) for k in order[: self.n_shown, i].tolist()]
            rows = zip(shown.samples, labels, strict=True)
            labelled = shown._replace(samples=[row._replace(label=x) for row, x in rows])
            paths += self.write_scene(labelled, name or f"video_{number:05d}", arrays)
        return paths

    def write_generated(self, motions: Videos, times: Times) -> list[Path]:
        """Writes `generated_<number>.<format>` for each generated video; returns the files.

        Args:
            motions: Motions of each video, `[s n t c h w]`, shown side by side; equal ones are
                shown once.
            times: Times of the frames, `[t]`.
        """
        paths = []
        for i, (video, shown) in enumerate(
            zip(motions.unbind(1), to_pixels(motions).cpu().unbind(1), strict=True)
        ):
            different = [shown[0], *(v for v in shown[1:] if not torch.equal(v, shown[0]))]
            found = generated_scene(different[: self.n_shown], times.tolist(), "motion")
            arrays = {"times": times, "samples": video}
            paths += self.write_scene(found, f"generated_{i:05d}", arrays)
        return paths

    def write_scene(self, found: Scene, name: str, arrays: dict[str, Tensor]) -> list[Path]:
        """Writes one scene in all formats, and returns the written files.

        Args:
            found: The scene; `frames` and `mkv` show its first sample.
            name: Name of the files, without their endings.
            arrays: Content of `npz`.
        """
        base = free_path(self.folder / name, *ENDINGS.values())
        return [self._save(found, form, f"{base}{ENDINGS[form]}", arrays) for form in self.formats]

    def _save(self, found: Scene, form: Format, path: str, arrays: dict[str, Tensor]) -> Path:
        if form == "npz":
            return save_npz(path, arrays)
        if form == "png":
            return save_png(strip(found.rows, times=found.times), path)
        if form == "frames":
            return save_frames(found.samples[0].frames, path)
        if form == "mkv":
            return save_mkv(found.samples[0].frames, path, self.fps)
        save = save_gif if form == "gif" else save_mp4
        return save(animation([found.panels], times=[found.times]), path, self.fps)


def observed(clip: Clip, i: int, given: Tensor) -> dict[str, Tensor]:
    """Frames of one video that were given, the others, and their times, by the names in `npz`.

    Args:
        clip: True videos.
        i: Place of the video in the clip.
        given: Mask of the given frames, `[t]`.
    """
    frames, times = clip.frames[i], clip.own_times()[i]
    parts = {"given": given, "truth": ~given}
    found = {name: frames[mask] for name, mask in parts.items()}
    return found | {f"{name}_times": times[mask] for name, mask in parts.items()}


def save_frames(frames: Tensor, folder: str | Path) -> Path:
    """Writes each frame of a video `[t c h w]` of bytes as a PNG file, `00000.png` and so on.

    Returns:
        The folder, which `VideoFolder` reads as one video.
    """
    folder = Path(folder).resolve()
    for i, frame in enumerate(frames):
        save_png(frame, folder / f"{i:05d}.png")
    return folder


def save_npz(path: str | Path, arrays: dict[str, Tensor]) -> Path:
    """Writes named arrays as a compressed NPZ file of numpy, and returns its path."""
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {name: x.cpu().numpy() for name, x in arrays.items()}
    np.savez_compressed(path, **found)
    return path


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
