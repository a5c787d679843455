"""Sea-surface temperature in zones of 64×64 cells, one netCDF file for each zone."""

import functools
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.data.base import Split
from common.data.formats.footage import Footage, VideoScale
from common.data.formats.netcdf import read_variables
from common.data.videos.windows import VideoOpener, WindowData, check_val_fraction
from common.errors import InputError

_ONE_AT_A_TIME = threading.Lock()  # a zone takes some hundred megabytes while it is normalised
SIDE = 64  # cells of a side of a zone
TRAIN_ZONES, TEST_ZONES = range(1, 30), range(17, 21)  # of the published evaluation
TRAIN_SHARE = 0.8  # of the days


class SeaSurface(WindowData):
    """Sea-surface temperature (de Bézenac et al. 2018), day by day, in zones of 64×64 cells.

    The file `data_{zone}.nc` of a zone has the variables `thetao`, temperature in °C `[t 64 64]`,
    and `daily_mean` and `daily_std`, climatology of each day `[t]`. Each day is normalised by its
    climatology, and then by the mean and the standard deviation of its own cells. Errors of models
    are reported in °C. Cells that are masked or NaN on every day are land: they are served as 0
    and count nowhere.

    The first 80% of the days are for training, the last part of them for validation; the other
    days are for testing. A zone is read into memory.

    Args:
        root: Folder of the files.
        train_zones: Numbers of the zones for training and validation. None: 1 to 29.
        test_zones: Numbers of the zones for testing. None: 17 to 20.
        val_fraction: Share of the training days for validation.
        n_frames: Number of frames of a training video.
        n_eval_frames: Number of frames of a validation or test video. None: `n_frames`.
    """

    shape = (1, SIDE, SIDE)

    def __init__(
        self,
        root: str | Path,
        train_zones: list[int] | None = None,
        test_zones: list[int] | None = None,
        val_fraction: float = 0.1,
        n_frames: int = 10,
        n_eval_frames: int | None = 14,
        **serving: Any,
    ) -> None:
        super().__init__(
            n_frames=n_frames, n_eval_frames=n_eval_frames, in_memory=False, **serving
        )
        self.root = Path(root).expanduser()
        self.train_zones = _checked("train_zones", train_zones, TRAIN_ZONES)
        self.test_zones = _checked("test_zones", test_zones, TEST_ZONES)
        check_val_fraction(val_fraction)
        self.val_fraction = val_fraction

    def openers(self, split: Split) -> Sequence[VideoOpener]:
        folder, zones = self.folder(), self.test_zones if split == "test" else self.train_zones
        for zone in zones:
            if not zone_file(folder, zone).is_file():
                there = ", ".join(sorted(path.name for path in folder.glob("data_*.nc"))) or "none"
                raise InputError(
                    f"found no file {zone_file(folder, zone)} of zone {zone}; there are {there}; "
                    "change data.root, data.train_zones or data.test_zones"
                )
        files = [zone_file(folder, zone) for zone in zones]
        return [functools.partial(_opened, file, split, self.val_fraction) for file in files]

    def folder(self) -> Path:
        """Folder of the files."""
        return self.root


class ZoneVideo(Footage):
    """Normalised temperature of a zone on the days of a split.

    Args:
        path: File of the zone.
        split: The split.
        val_fraction: Share of the training days for validation.

    Raises:
        InputError: The file can't be read, values are missing, or days don't vary.
    """

    def __init__(self, path: Path, split: Split, val_fraction: float) -> None:
        temperature, mean, std = read_variables(path, "thetao", "daily_mean", "daily_std")
        n_days = len(temperature) if temperature.ndim else 0
        if temperature.shape != (n_days, SIDE, SIDE) or {mean.size, std.size} != {n_days}:
            raise InputError(
                f"{path} has thetao {temperature.shape}, daily_mean {mean.shape} and daily_std "
                f"{std.shape}, not (t, {SIDE}, {SIDE}), (t,) and (t,); give another file"
            )
        first, last = days_of_split(n_days, split, val_fraction)
        self.name = f"{path} (days {first} to {last - 1})"
        self.sea = _sea_cells(path, temperature)
        days = slice(first, last)
        mean, std = mean.ravel()[days, None], std.ravel()[days, None]
        _check_days(path, first, "daily_mean", np.isfinite(mean))
        _check_days(path, first, "daily_std", (std > 0) & np.isfinite(std))
        cells = (temperature[days, self.sea] - mean) / std
        _check_days(path, first, "the spread of thetao", np.ptp(cells, 1) > 0)
        spread = cells.std(1, keepdims=True)
        cells = (cells - cells.mean(1, keepdims=True)) / spread
        self.frames = np.zeros((last - first, 1, SIDE, SIDE), np.float32)
        self.frames[:, 0, self.sea] = cells
        self.low, self.high = float(cells.min()), float(cells.max())
        self.unit = (std * spread)[..., None, None].astype(np.float32)

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, frames: range) -> np.ndarray:
        return self.frames[frames.start : frames.stop : frames.step]

    def scale(self, frames: range) -> VideoScale:
        weight = self.sea * np.float32(np.sqrt(self.sea.size / self.sea.sum()))
        unit = self.unit[frames.start : frames.stop : frames.step]
        return VideoScale(self.low, self.high, unit * weight)


def _opened(path: Path, split: Split, val_fraction: float) -> ZoneVideo:
    with _ONE_AT_A_TIME:
        return ZoneVideo(path, split, val_fraction)


def zone_file(folder: Path, zone: int) -> Path:
    """File of a zone."""
    return folder / f"data_{zone}.nc"


def days_of_split(n_days: int, split: Split, val_fraction: float) -> tuple[int, int]:
    """First day of a split and the day after its last one.

    Raises:
        InputError: The split has no day.
    """
    test = int(TRAIN_SHARE * n_days)
    val = test - round(val_fraction * test)
    first, last = {"train": (0, val), "val": (val, test), "test": (test, n_days)}[split]
    if first >= last:
        raise InputError(
            f"got val_fraction {val_fraction} and {n_days} days, which leaves none for {split}; "
            "change data.val_fraction"
        )
    return first, last


def _sea_cells(path: Path, temperature: np.ndarray) -> np.ndarray:
    """Cells that are sea, `bool [64 64]`."""
    missing = ~np.isfinite(temperature)
    land = missing.all(0)
    gaps = np.argwhere(missing & ~land)
    if len(gaps):
        day, row, column = gaps[0].tolist()
        raise InputError(
            f"{path} has no thetao on day {day} in row {row}, column {column} ({len(gaps)} such "
            "gaps); fill them, or mask the cells on every day"
        )
    if land.all():
        raise InputError(f"{path} has no thetao on any day; give another file")
    return ~land


def _check_days(path: Path, first: int, what: str, fine: np.ndarray) -> None:
    """Raises an `InputError` that names the first day on which something isn't fine."""
    if not fine.all():
        day = first + int(np.argmin(fine.ravel()))
        raise InputError(
            f"{path}: {what} on day {day} isn't "
            + ("a number" if what == "daily_mean" else "above 0")
            + "; give another file or leave out this zone"
        )


def _checked(name: str, given: list[int] | None, published: range) -> list[int]:
    """Numbers of zones, each once."""
    zones = list(published) if given is None else given
    if not zones or len(set(zones)) < len(zones) or min(zones) < 1:
        raise InputError(f"got {name} {zones}; give one or more numbers from 1 on, each once")
    return zones
