"""Neighbouring frames of a video, and the cuts between its shots."""

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

SIDE = 32  # height and width of the small grey frames that are compared
LEAST_CHANGE = 0.1  # mean absolute difference at a cut, of grey values in [0, 1]
LEAST_RATIO = 2.0  # of that difference to those before and after it


class TimedFrame(NamedTuple):
    """Frame of a video.

    Attributes:
        time: Time in s.
        image: Picture in RGB.
    """

    time: float
    image: Image.Image


class Neighbours(NamedTuple):
    """Two frames of which one follows the other.

    Attributes:
        first: The earlier frame.
        last: The later frame.
        cut: Whether a new shot begins with the later frame.
    """

    first: TimedFrame
    last: TimedFrame
    cut: bool


def neighbours(frames: Iterable[TimedFrame]) -> Iterator[Neighbours]:
    """All pairs of neighbouring frames; three frames are held at a time.

    A cut is a change of small grey versions of the frames by 0.1 or more on average, at least
    twice as large as the changes before and after it. So neither a fast pan nor a flash is a cut.

    Args:
        frames: Frames in the order of their times, two or more.
    """
    found = iter(frames)
    first = last = next(found)
    earlier = change = 0.0
    for after in itertools.chain(found, [None]):
        later = 0.0 if after is None else _change(last, after)
        if last is not first:
            cut = change >= LEAST_CHANGE and change >= LEAST_RATIO * max(earlier, later)
            yield Neighbours(first, last, cut)
        if after is not None:
            first, last, earlier, change = last, after, change, later


def _change(first: TimedFrame, last: TimedFrame) -> float:
    return float(abs(_small(first.image) - _small(last.image)).mean())


def _small(image: Image.Image) -> np.ndarray:
    """Small grey version, `float32 [32 32]` in [0, 1]."""
    grey = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(grey, np.float32) / 255
