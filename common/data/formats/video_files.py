"""Reader of video files of any codec, and of numbered frames."""

from pathlib import Path

import numpy as np

from common.data.formats.footage import Footage, FrameFolder, FrameFormat
from common.data.formats.video_paths import is_pattern
from common.data.formats.video_streams import VideoStream


class VideoFile(Footage):
    """Video file of any format that FFmpeg knows, as its header says that it is shown.

    The frames are turned, mirrored and stretched as players do it, and have the times of their
    time stamps.

    Args:
        path: The file.
        frame_format: Format of the frames that `read` returns.

    Raises:
        InputError: The file has no video, a frame can't be decoded, or the video ends long before
            the end that its header promises.
    """

    def __init__(self, path: Path, frame_format: FrameFormat) -> None:
        self.name, self.frame_format = str(path), frame_format
        self.stream = VideoStream(path)
        self.stamps = self.stream.stamps

    @property
    def original_size(self) -> tuple[int, int]:
        """Width and height at which players show the frames, before they get their format."""
        width, height = self.stream.size
        return max(1, round(width * self.stream.aspect)), height

    def __len__(self) -> int:
        return len(self.stream)

    def read(self, frames: range) -> np.ndarray:
        convert, aspect = self.frame_format.convert, self.stream.aspect
        return np.stack([convert(image, aspect) for image in self.stream.images(frames)])


def open_video(path: Path, frame_format: FrameFormat) -> VideoFile | FrameFolder:
    """Reader of a video file, or of numbered frames (a path of `videos_under`).

    Raises:
        InputError: The video can't be read.
    """
    frames = path.is_dir() or is_pattern(path)
    return FrameFolder(path, frame_format) if frames else VideoFile(path, frame_format)
