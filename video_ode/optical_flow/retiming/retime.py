"""Videos at another frame rate or speed, by interpolation between their frames."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.data.formats.video_streams import VideoStream
from common.errors import InputError
from common.files import check_new, is_file, shown, written_whole
from common.progress import Progress
from video_ode.optical_flow.estimator import FlowEstimator
from video_ode.optical_flow.retiming.movies import FORMATS, write_movie
from video_ode.optical_flow.retiming.shots import Neighbours, TimedFrame, neighbours

# (first [1 c h w], last [1 c h w], shares [t] in (0, 1)) -> frames [1 t c h w], all in [0, 1]. A
# share of 0 would be the first frame, a share of 1 the last one.
Interpolator = Callable[[Tensor, Tensor, Tensor], Tensor]

SLACK = 0.01  # share of the time between two frames within which a time is that of a frame
MOST_PIXELS = 2**23  # of frames that are interpolated at once
MOST_RATE = 1000.0  # frames a second, and times faster or slower


def shipped() -> Interpolator:
    """Interpolator that comes with the project, on the fastest device."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = FlowEstimator.pretrained().to(device)

    def between(first: Tensor, last: Tensor, shares: Tensor) -> Tensor:
        return model.between(first.to(device), last.to(device), shares.to(device)).cpu()

    return between


def retime(
    *,
    video: str,
    fps: float | None = None,
    speed: float = 1.0,
    backward: bool = False,
    out: str | None = None,
) -> Path:
    """Changes the frame rate of a video, or plays it slower, faster or backward.

    New frames are interpolated with optical flow. At a cut, the nearer frame is repeated. The main
    sound track is kept, and its tempo changes with the speed; a video that plays backward has no
    sound.

    Args:
        video: Video file.
        fps: Number of frames a second of the new video, from 0.001 to 1000. None: that of the
            video.
        speed: Speed of the motion, from 0.001 to 1000: 0.25 is four times slower.
        backward: Play from the end to the beginning.
        out: File to write, which must not exist: .mp4, .m4v, .mov or .mkv. None: an MP4 file
            beside the video whose name tells the options, such as clip_60fps.mp4.

    Returns:
        Written file.
    """
    return retimed(video, shipped(), fps, speed, backward, out)


def retimed(
    video: str | Path,
    interpolate: Interpolator,
    fps: float | None = None,
    speed: float = 1.0,
    backward: bool = False,
    out: str | Path | None = None,
) -> Path:
    """Writes a video at another frame rate or speed, frame by frame, and returns its file.

    Frame k of the new video shows the time `k · speed / fps` of the video, by the time stamps of
    its frames; the last frame is shown for the usual time between two frames. Only a few frames
    are held, or 128 MiB of them to play backward.

    Args:
        video: Video file.
        interpolate: Interpolator between two frames.
        fps: Number of frames a second of the new video. None: that of the video.
        speed: Speed of the motion.
        backward: Play from the end to the beginning.
        out: File to write. None: an MP4 file beside the video.

    Raises:
        InputError: The video can't be read or has one frame, an option is out of range, or the
            new file exists.
    """
    path = Path(video)
    target = _target(path, fps, speed, backward, out)
    stream = VideoStream(path, bar=True)
    if len(stream) < 2:
        raise InputError(f"{shown(path)} has one frame; give a video of two or more frames")
    rate = stream.rate if fps is None else Fraction(fps).limit_denominator(1001)
    seconds = stream.seconds
    if backward:
        seconds = seconds[-1] - seconds[::-1]
    images = stream.backward() if backward else stream.images(range(len(stream)))
    frames = (TimedFrame(float(s), _rgb(x)) for s, x in zip(seconds, images, strict=True))
    count = max(1, math.ceil((seconds[-1] + stream.gap) * float(rate) / speed - SLACK))
    made = frames_at(frames, speed / float(rate), count, interpolate)
    begin = time.perf_counter()
    with written_whole(target) as file:
        bar = iter(Progress(made, "Retiming", count))
        form = FORMATS[target.suffix.lower()]
        note = write_movie(file, form, bar, rate, stream, None if backward else speed)
    pace = count / (time.perf_counter() - begin)
    print(f"retimed: {target} ({count} frames, {pace:.1f} frames a second; {note})")
    return target


def frames_at(
    frames: Iterable[TimedFrame], step: float, count: int, interpolate: Interpolator
) -> Iterator[np.ndarray]:
    """Frames of a video at the times `0, step, 2 step, …`, each `uint8 [h w 3]`.

    A frame of the video is used unchanged within 1 % of the time to its neighbour. Between two
    shots, and after the last frame, the nearest frame is repeated.

    Args:
        frames: Frames of the video in the order of their times, from 0 on; two or more.
        step: Time between two new frames, in s.
        count: Number of new frames.
        interpolate: Interpolator between two frames.
    """
    k, pair = 0, None
    for pair in neighbours(frames):
        begin, gap, shares = pair.first.time, pair.last.time - pair.first.time, []
        while k < count and (share := (k * step - begin) / gap) < 1 - SLACK:
            shares.append(share)
            k += 1
        yield from _between(pair, shares, interpolate)
    if pair is not None:
        for _ in range(k, count):
            yield np.asarray(pair.last.image)


def _between(
    pair: Neighbours, shares: list[float], interpolate: Interpolator
) -> Iterator[np.ndarray]:
    """Frames at shares of the time between two frames."""
    first, last = (frame.image for frame in (pair.first, pair.last))
    while shares and (pair.cut or shares[0] <= SLACK):
        yield np.asarray(first if shares.pop(0) < 0.5 else last)
    if not shares:
        return
    begin, end = _tensor(first), _tensor(last)
    at_once = max(1, MOST_PIXELS // (first.width * first.height))
    for some in torch.tensor(shares).split(at_once):
        with torch.no_grad():
            found = interpolate(begin, end, some)[0]
        for frame in found:
            yield (frame.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def _target(
    path: Path, fps: float | None, speed: float, backward: bool, out: str | Path | None
) -> Path:
    """File to write, once the options are known to be right."""
    for name, value in (("fps", fps), ("speed", speed)):
        if value is not None and not 1 / MOST_RATE <= value <= MOST_RATE:
            raise InputError(
                f"got {name} {value}; give a number from {1 / MOST_RATE:g} to {MOST_RATE:g}"
            )
    if fps is None and speed == 1 and not backward:
        raise InputError("nothing would change; give fps, speed or backward")
    if not is_file(path):
        raise InputError(f"there is no file {shown(path)}; give the path of a video file")
    if out is None:
        options = (
            f"_{fps:g}fps" if fps is not None else "",
            f"_speed{speed:g}" if speed != 1 else "",
            "_backward" if backward else "",
        )
        out = path.with_name(f"{path.stem}{''.join(options)}.mp4")
    target = Path(out)
    check_new(target, *FORMATS)
    return target


def _rgb(image: Image.Image) -> Image.Image:
    """Picture in RGB; transparent pixels show a black background."""
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return image.convert("RGB")


def _tensor(image: Image.Image) -> Tensor:
    """Picture as `[1 3 h w]` in [0, 1]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
