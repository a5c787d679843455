"""Predictions of videos of the user: files, or folders of frames, of any size and frame rate."""

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch

from common.data.formats.footage import FrameFolder, FrameFormat
from common.data.formats.video_files import VideoFile, open_video
from common.data.formats.video_paths import IMAGE_SUFFIXES, VIDEO_SUFFIXES, videos_under
from common.data.videos.base import Clip
from common.errors import InputError, check_counts
from common.files import is_file, shown
from common.progress import Progress
from common.training.system import System
from video_ode.evaluation.files.writer import Format, PredictionWriter
from video_ode.evaluation.pictures import TOLERANCE
from video_ode.evaluation.predictions import (
    conditioned,
    time_range,
    write_drawn,
    write_predicted,
)
from video_ode.evaluation.systems import Displaying, Generating, GivenFrames, Watching

FOLDER_RATE = 25.0  # frames a second of a folder of frames, whose files don't tell it
LARGEST = 512  # height and width in px of the frames for a model that takes any size
OWN_FORMATS: tuple[Format, ...] = ("gif", "mp4", "png", "frames", "npz")
Timing = Literal["stamps", "frames"]


class Window(NamedTuple):
    """Part of a video that a system sees, and the unit of time.

    Attributes:
        start: Time in s at which the given frames begin.
        step: Number of frames of the video in a unit of time; every `step`-th frame is given.
        timing: `stamps`: the frames have the times of their time stamps; `frames`: they are taken
            as evenly spaced.
    """

    start: float = 0.0
    step: int = 1
    timing: Timing = "stamps"

    def check(self) -> None:
        """Raises an `InputError` if a number is out of range."""
        check_counts(0, start=self.start)
        check_counts(1, step=self.step)


class OwnClips:
    """Videos of the user that a system predicts, each from its own frames.

    Frames get the size and the colours that the system needs: they are cut to its aspect ratio
    around their centre and scaled. For a system that takes any size they keep theirs, scaled down
    to at most 512 pixels.

    Args:
        system: System that predicts.
        path: A video file, or a folder with videos at any depth, as `VideoFolder` takes them.
        window: Part of each video that the system sees.
        times: Times of the predictions as START:STOP:STEP; 0 is the first given frame. None: as
            many frames after the given ones as are given, or four frames between them.

    Attributes:
        videos: Names of the predictions by the paths of the videos.

    Raises:
        InputError: The system takes no videos, there is no video, or an option is out of range.
    """

    def __init__(
        self, system: System, path: str | Path, window: Window, times: str | None = None
    ) -> None:
        window.check()
        self.system, self.window, self.given = system, window, given_frames(system)
        between = self.given.between
        times = times or ("0:1.25:0.25" if between else f"0:{2 * self.given.n}:1")
        self.times = time_range(times)
        start, stop, step = (float(x) for x in f"{times}:1".split(":")[:3])
        begin = f"_start{window.start:g}" if window.start else ""
        begin += f"_step{window.step}" if window.step > 1 else ""
        asked = f"{begin}_{start:g}to{stop:g}by{step:g}"
        self.videos = {file: f"{name}{asked}" for file, name in found_videos(path).items()}

    def write(self, writer: PredictionWriter, n_samples: int) -> list[Path]:
        """Writes the predictions of all videos that can be predicted, and prints the files.

        Args:
            writer: Writer of the files.
            n_samples: Number of samples of each video.

        Raises:
            InputError: Some videos can't be read, are too short, or can't be predicted by this
                system. They are named after the others are written.
        """
        paths, failed = [], []
        for video in Progress(self.videos, "Predicting videos"):
            try:
                paths += self._written(video, writer, n_samples)
            except InputError as error:
                failed.append(str(error) if str(video) in str(error) else f"{video}: {error}")
        print("".join(f"prediction: {path}\n" for path in paths), end="")
        if failed:
            count = f"{len(failed)} of {len(self.videos)} videos aren't predicted:\n"
            raise InputError((count if len(self.videos) > 1 else "") + "\n".join(failed))
        return paths

    def _written(self, video: Path, writer: PredictionWriter, n_samples: int) -> list[Path]:
        name, system = self.videos[video], self.system
        until = None if self.given.between else float(self.times.max())
        clip = read_clip(video, self.given, self.window, until)
        clips = iter([clip.to(system.device)])
        if isinstance(system, Displaying):
            return write_drawn(writer, system, None, clips, self.times, n_samples, name)
        return write_predicted(writer, conditioned(system), clips, self.times, n_samples, name)


def given_frames(system: System) -> GivenFrames:
    """Frames that a system needs of a video.

    Raises:
        InputError: The system doesn't predict from the frames of a video alone.
    """
    if isinstance(system, Watching):
        return system.given_frames()
    name = type(system).__name__
    if isinstance(system, Generating):
        raise InputError(f"{name} generates videos from noise and takes no input; leave input out")
    raise InputError(
        f"{name} predicts from the examples of its data set, not from the frames of a video; "
        "leave input out, or give the system a method given_frames()"
    )


def found_videos(path: str | Path) -> dict[Path, str]:
    """Names of the videos of a path: relative to a folder, and without endings.

    Raises:
        InputError: There is no such path, or no video.
    """
    path, kinds = Path(path).expanduser(), " ".join(VIDEO_SUFFIXES)
    if path.is_dir():
        found = videos_under(path)
        if not found:
            frames = " ".join(IMAGE_SUFFIXES)
            raise InputError(
                f"found no video in {shown(path)}; put files ({kinds}) or folders of numbered "
                f"frames ({frames}) there"
            )
        whole = path.resolve().name
        return {file: _bare(whole if name == "." else name) for name, file in found.items()}
    if not is_file(path):
        raise InputError(f"there is no file {shown(path)}; give the path of a video or a folder")
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        raise InputError(f"got input {shown(path)}; give a folder, or a video file ({kinds})")
    return {path: path.stem}


def read_clip(path: Path, given: GivenFrames, window: Window, until: float | None) -> Clip:
    """Clip of one video: the given frames, and the true frames for comparison.

    Args:
        path: A path of `found_videos`.
        given: Frames that the system needs.
        window: Part of the video that it sees.
        until: Time after which no true frame is needed. None: the true frames are those between
            the given ones.

    Raises:
        InputError: The video can't be read, or has too few frames after the start.
    """
    video = _opened(path, given)
    seconds, gap = _seconds(video, window.timing)
    first = _frame_at(window.start, path, seconds, gap)
    step = window.step
    last = first + (given.n - 1) * step
    if last >= len(video):
        spaced = "" if step == 1 else f", every {step}th one, so {last - first + 1} in all"
        raise InputError(
            f"{path} lasts {seconds[-1] + gap:.2f} s and has {len(video) - first} frames from "
            f"second {window.start:g} on; the model needs {given.n}{spaced}: give an earlier "
            "start or a longer video"
        )
    units = (seconds - seconds[first]) / (gap * step)
    if until is None:
        parts = [range(first, last + 1)]
    else:
        stop = int(np.searchsorted(units, until + TOLERANCE, side="right"))
        parts = [range(first, last + 1, step), range(last + 1, stop)]
    frames = np.concatenate([video.read(part) for part in parts if part])
    times = torch.from_numpy(
        np.concatenate([units[part.start : part.stop : part.step] for part in parts])
    ).float()
    mask = torch.ones(1, len(times), dtype=torch.bool)
    return Clip(torch.from_numpy(frames)[None], times, mask, torch.zeros(1, dtype=torch.long))


def _opened(path: Path, given: GivenFrames) -> VideoFile | FrameFolder:
    """Opened video, whose frames get the size that is needed."""
    height, width = given.size or (1, 1)
    video = open_video(path, FrameFormat(height, width, given.channels))
    if given.size is None:
        width, height = video.original_size
        scale = min(1, LARGEST / max(width, height))
        height, width = (max(1, round(side * scale)) for side in (height, width))
        video.frame_format = FrameFormat(height, width, given.channels)
    return video


def _seconds(video: VideoFile | FrameFolder, timing: Timing) -> tuple[np.ndarray, float]:
    """Times of the frames since the first one, and the usual time between two frames, in s."""
    gap = video.stream.gap if isinstance(video, VideoFile) else 1 / FOLDER_RATE
    stamps = video.stamps if timing == "stamps" else None
    return (np.arange(float(len(video))) if stamps is None else stamps) * gap, gap


def _frame_at(start: float, path: Path, seconds: np.ndarray, gap: float) -> int:
    """Number of the frame that is shown at a time."""
    end = float(seconds[-1]) + gap
    if start >= end:
        raise InputError(f"got start {start:g}, but {path} lasts {end:.2f} s; give an earlier one")
    return int(np.searchsorted(seconds, start + TOLERANCE * gap, side="right")) - 1


def _bare(name: str) -> str:
    """Name of a video without its ending, and without the `*` of a pattern of frames."""
    base, dot, ending = name.replace("*", "").rpartition(".")
    return base if f"{dot}{ending.lower()}" in VIDEO_SUFFIXES else f"{base}{dot}{ending}"
