"""TaxiBJ: flows of taxis into and out of the districts of Beijing, every half hour."""

import datetime
import itertools
import re
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from common.data.base import Split
from common.data.formats.footage import Footage, MemoryVideo
from common.data.videos.base import VideoData
from common.data.videos.windows import ClipStart, Windows, check_val_fraction
from common.errors import InputError, check_words, extra, reason

YEARS = (13, 14, 15, 16)
SHAPE = (2, 32, 32)  # inflow and outflow of each district
SLOTS = 48  # half hours of a day
TEST = SLOTS * 7 * 4  # number of test clips: four weeks
Order = Literal["forward", "released"]


class TaxiBJ(VideoData):
    """TaxiBJ (Zhang et al. 2017): flows of taxis in Beijing, 2 channels on 32×32 districts.

    The four files `BJ{13,14,15,16}_M32x32_T30_InOut.h5` each hold `data`, `[n 2 32 32]`, and
    `date`, `[n]`, texts such as `2013070148`: the day, and its half hour from 01 to 48. Days
    without all half hours are left out, and no clip crosses a gap. Numbers below 0 become 0. The
    smallest and the largest number of all frames but the last 1344 (four weeks) become 0 and 1,
    so numbers of the test clips may be above 1.

    The test clips are the last 1344 of those in the loader that Donà et al. (2021) released; like
    there, a clip needs a frame after it. Clips of training and validation end before the first
    of them begins: those that end later, in that loader training clips, show test frames. The
    last part of the frames before it is for validation. An epoch has every training clip once.

    Args:
        root: Folder of the four files.
        order: Order of the frames in a clip. `forward`: from the oldest to the newest; `released`:
            from the newest to the oldest, as the released loader serves them, so that models
            predict the past.
        val_fraction: Share of the frames before the test clips for validation.
        n_frames: Number of frames of a training video.
        n_eval_frames: Number of frames of a validation or test video. None: `n_frames`.
    """

    shape = SHAPE

    def __init__(
        self,
        root: str | Path,
        order: Order = "forward",
        val_fraction: float = 0.05,
        n_frames: int = 8,
        n_eval_frames: int | None = None,
        **serving: Any,
    ) -> None:
        super().__init__(n_frames=n_frames, n_eval_frames=n_eval_frames, flip=False, **serving)
        check_words((order, Order))
        check_val_fraction(val_fraction)
        self.root, self.order, self.val_fraction = Path(root).expanduser(), order, val_fraction
        self._traffic: Traffic | None = None

    def clips(self, split: Split) -> Windows:
        if self._traffic is None:
            self._traffic = read_traffic(self.root)
        runs, n_frames = self._traffic.runs, self.length(split)
        starts = self._starts(split, self._traffic)
        videos: list[Footage] = []
        for run in runs:
            frames = self._traffic.flows[run.start : run.stop]
            backward = self.order == "released"
            videos.append(MemoryVideo("TaxiBJ", frames[::-1] if backward else frames))
        if self.order == "released":
            starts = [(k, len(runs[k]) - n_frames - first) for k, first in starts]
        return Windows(videos, [ClipStart(*start) for start in starts], n_frames)

    def _starts(self, split: Split, traffic: "Traffic") -> list[tuple[int, int]]:
        """Run and first frame in it of each clip of a split, in the order of time."""
        test = traffic.clips(self.n_eval_frames)[-TEST:]
        end = traffic.runs[test[0][0]].start + test[0][1] if test else 0
        middle = end - round(self.val_fraction * end)
        first, last = {"train": (0, middle), "val": (middle, end), "test": (end, None)}[split]
        mine = test if split == "test" else traffic.clips(self.length(split), first, last)
        if len(mine) < (TEST if split == "test" else 1):
            raise InputError(
                f"the {len(traffic.flows) // SLOTS} whole days in {self.root} have {len(mine)} "
                f"clips of {self.length(split)} frames for {split}, besides {len(test)} of "
                f"{TEST} for testing; give more days or shorter clips, or change data.val_fraction"
            )
        return mine


class Traffic(NamedTuple):
    """Flows of all whole days.

    Attributes:
        flows: Flows from 0 to 1, `float32 [n 2 32 32]`.
        runs: Numbers of the frames that follow one another without a gap, for each such run.
    """

    flows: np.ndarray
    runs: list[range]

    def clips(
        self, n_frames: int, first: int = 0, last: int | None = None
    ) -> list[tuple[int, int]]:
        """Run and first frame in it of all clips between two frames, in the order of time.

        Args:
            n_frames: Number of frames of a clip.
            first: Number of the first frame that they may have.
            last: Number of the first frame that they may not have. None: they may have all.
        """
        last = len(self.flows) if last is None else last
        return [
            (k, start)
            for k, run in enumerate(self.runs)
            for start in range(max(0, first - run.start), len(run) - n_frames)
            if run.start + start + n_frames <= last
        ]


def read_traffic(root: Path) -> Traffic:
    """Flows of all whole days in the four files, scaled.

    Raises:
        InputError: A file is missing or damaged, or lacks something.
    """
    flows: list[np.ndarray] = []
    runs: list[range] = []
    for year in YEARS:
        path = root / f"BJ{year}_M32x32_T30_InOut.h5"
        data, dates = _read(path)
        times = [_slot(path, k, date) for k, date in enumerate(dates)]
        kept = _whole_days(path, times)
        begin = sum(len(earlier) for earlier in flows)
        breaks = [k for k in range(1, len(kept)) if times[kept[k]] != times[kept[k - 1]] + 1]
        edges = [0, *breaks, len(kept)] if kept else []
        runs += [range(begin + a, begin + b) for a, b in itertools.pairwise(edges)]
        flows.append(np.maximum(data[kept], 0))
    together = np.concatenate(flows)
    if len(together) <= TEST:
        raise InputError(
            f"got {len(together) // SLOTS} whole days in {root}; give more than {TEST // SLOTS}, "
            "because the last four weeks are for testing"
        )
    low, high = together[:-TEST].min(), together[:-TEST].max()
    if low == high:
        raise InputError(f"all flows in {root} are {low:g}; give other files")
    return Traffic(((together - low) / (high - low)).astype(np.float32), runs)


def _read(path: Path) -> tuple[np.ndarray, list[str]]:
    """Flows `float64 [n 2 32 32]` and dates of a file."""
    with extra("files"):
        import h5py

    if not path.is_file():
        raise InputError(f"found no file {path}; give the folder of BJ13 to BJ16 as data.root")
    try:
        with h5py.File(path) as file:
            if missing := [key for key in ("data", "date") if key not in file]:
                raise InputError(
                    f"{path} lacks {missing[0]} and has {', '.join(file) or 'nothing'}; download "
                    "it again"
                )
            data, dates = np.asarray(file["data"][()], float), file["date"][()].tolist()
    except (OSError, TypeError, AttributeError, KeyError, RuntimeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} isn't a whole h5 file of flows ({reason(error)}); download it again"
        ) from error
    if data.shape != (len(dates), *SHAPE):
        raise InputError(
            f"{path} has data {data.shape} and {len(dates)} dates, not (n, 2, 32, 32) and n; "
            "download it again"
        )
    if not np.isfinite(data).all():
        frame, *cell = np.argwhere(~np.isfinite(data))[0].tolist()
        raise InputError(f"{path} has no number in frame {frame}, cell {cell}; download it again")
    return data, [d.decode("latin-1") if isinstance(d, bytes) else str(d) for d in dates]


def _slot(path: Path, number: int, date: str) -> int:
    """Number of a half hour, counted from the first day of the calendar."""
    try:
        slot = int(date[8:]) - 1 if re.fullmatch(r"\d{10}", date, re.ASCII) else -1
        if not 0 <= slot < SLOTS:
            raise ValueError
        day = datetime.date(int(date[:4]), int(date[4:6]), int(date[6:8]))
    except ValueError:
        raise InputError(
            f"{path}: date {number} is {date!r}, not one such as 2013070148 (year, month, day, "
            "half hour from 01 to 48); download it again"
        ) from None
    return day.toordinal() * SLOTS + slot


def _whole_days(path: Path, times: list[int]) -> list[int]:
    """Numbers of the frames of the days that have every half hour once."""
    for number, (one, two) in enumerate(itertools.pairwise(times)):
        if two <= one:
            raise InputError(f"{path}: date {number + 1} isn't after the one before; sort them")
    days = [time // SLOTS for time in times]
    counts = {day: len(list(same)) for day, same in itertools.groupby(days)}
    return [k for k, day in enumerate(days) if counts[day] == SLOTS]
