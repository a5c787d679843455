"""WaveEq and WaveEq-100: waves from a source, of which the model knows neither speed nor force."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.data.base import Split
from common.data.cache import cache_path, cached
from common.data.fields.waves import SIDE, WaveSolver
from common.data.formats.arrays import StackedVideo, mapped
from common.data.videos.windows import (
    VideoOpener,
    WindowData,
    check_val_fraction,
    videos_of_split,
)
from common.errors import InputError, check_counts
from common.files import written_whole
from common.progress import Progress

SIMULATED, EVERY = 300, 2  # frames of the simulation; every second one is kept
FORCES, SPEEDS = (1.0, 30.0), (300.0, 400.0)  # ranges of the source's strength and the speed
PIXEL_SEED = 42  # of the pixels of WaveEq-100


class WaveEq(WindowData):
    """WaveEq (Donà et al. 2021): waves from a source that dies out, on a square of 64×64.

    Each sequence has its own speed of the waves, from 300 to 400, and strength of the source,
    from 1 to 30. It has 150 frames, in values from 0, its lowest one, to 1, its highest one. The
    first 80% of the sequences are for training and validation, the others for testing. A seed
    gives the sequences that the published generator makes from it.

    The sequences are computed once, in about 5 seconds for 300 of 64×64, and kept on the disk
    (740 MB). Training clips begin at any frame of any sequence. The published loader has 126
    clips of 25 frames for each sequence in an epoch: `clips_per_video` 126.

    Args:
        n_sequences: Number of sequences of all splits together.
        seed: Random seed of the speeds and strengths.
        resolution: Number of grid points per published pixel and axis. The point in row
            `resolution * i` and column `resolution * j` is the place of pixel `(i, j)`.
        val_fraction: Share of the training sequences for validation.
        split_seed: Random seed of the validation sequences, independent of the training seed.
        cache: Folder of the computed sequences. None: the folder `dynamical_vision` in
            `$XDG_CACHE_HOME` or in `~/.cache`.
        n_frames: Number of frames of a training video, at most 150.
        n_eval_frames: Number of frames of a validation or test video, at most 150. None:
            `n_frames`.
    """

    def __init__(
        self,
        n_sequences: int = 300,
        seed: int = 42,
        resolution: int = 1,
        val_fraction: float = 0.05,
        split_seed: int = 0,
        cache: str | Path | None = None,
        n_frames: int = 25,
        n_eval_frames: int | None = 45,
        **serving: Any,
    ) -> None:
        super().__init__(n_frames=n_frames, n_eval_frames=n_eval_frames, **serving)
        check_counts(2, n_sequences=n_sequences)
        check_counts(1, resolution=resolution)
        if not 0 <= seed < 2**32:
            raise InputError(f"got seed {seed}; give 0 or more and less than 2³²")
        check_val_fraction(val_fraction)
        self.n_sequences, self.seed, self.resolution = n_sequences, seed, resolution
        self.val_fraction, self.split_seed, self.cache = val_fraction, split_seed, cache
        self.shape = (1, SIDE * resolution, SIDE * resolution)

    def prepare_data(self) -> None:
        self.file()

    def file(self) -> Path:
        """File of all sequences, `float32 [n 150 c h w]`; it is made if there is none."""
        path = cache_path(
            self.cache,
            "waves.npy",
            version=1,  # another one as soon as the same parameters give other numbers
            sequences=self.n_sequences,
            seed=self.seed,
            resolution=self.resolution,
            shape=self.shape,
        )
        return cached(path, lambda: self._check(path), lambda: self._write(path))

    def openers(self, split: Split) -> Sequence[VideoOpener]:
        path, n_training = self.file(), int(0.8 * self.n_sequences)
        numbers = range(n_training, self.n_sequences) if split == "test" else range(n_training)
        mine = videos_of_split(numbers, split, self.val_fraction, self.split_seed)
        return [functools.partial(StackedVideo, path, number) for number in mine]

    def pixels(self, fields: np.ndarray) -> np.ndarray:
        """Frames `[t c h w]` from the fields on the grid, `[t s s]`."""
        return fields[:, None]

    def _all_shape(self) -> tuple[int, ...]:
        return (self.n_sequences, SIMULATED // EVERY, *self.shape)

    def _check(self, path: Path) -> None:
        found = mapped(path)
        if found.shape != self._all_shape() or found.dtype != np.float32:
            raise InputError(f"{path} holds {found.dtype} {found.shape}; delete it")

    def _write(self, path: Path) -> None:
        solver = WaveSolver(self.resolution)
        draws = wave_parameters(self.n_sequences, self.seed)
        header = {"descr": "<f4", "fortran_order": False, "shape": self._all_shape()}
        with written_whole(path) as new, new.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for force, speed in Progress(draws, "Solving the wave equation"):
                kept = self.pixels(wave_sequence(solver, force, speed))
                file.write(np.ascontiguousarray(kept, "<f4").data)


class WaveEq100(WaveEq):
    """WaveEq-100 (Donà et al. 2021): WaveEq, seen at 100 random pixels only.

    A frame is a line of pixels, in the order in which they were drawn. The sequences, and the
    range that they are scaled by, are those of `WaveEq`.

    Args:
        n_points: Number of pixels. 100 gives those of the published set.
        in_memory: Keep all frames in memory (18 MB): faster.
    """

    def __init__(self, n_points: int = 100, in_memory: bool = True, **serving: Any) -> None:
        super().__init__(in_memory=in_memory, flip=False, **serving)
        check_counts(1, n_points=n_points)
        self.n_points, self.shape = n_points, (1, 1, n_points)

    def places(self) -> np.ndarray:
        """Row and column of each pixel in the grid of 64×64, `int64 [n 2]`."""
        # numpy's legacy generator, because the authors used it: all rows first.
        draw = np.random.RandomState(PIXEL_SEED).randint
        return np.stack([draw(SIDE, size=self.n_points) for _ in range(2)], 1)

    def pixels(self, fields: np.ndarray) -> np.ndarray:
        rows, columns = self.resolution * self.places().T
        return fields[:, None, None, rows, columns]


def wave_sequence(solver: WaveSolver, force: float, speed: float) -> np.ndarray:
    """Sequence of 150 fields, `float32 [150 s s]`, from 0 at its lowest value to 1.

    Args:
        solver: Solver of the grid.
        force: Strength of the source.
        speed: Speed of the waves.
    """
    modes = solver.evolve(speed, force, SIMULATED)[:, 0]
    fields = solver.fields(modes.astype(np.float32))
    low, high = fields.min(), fields.max()
    return (fields[::EVERY] - low) / (high - low)


def wave_parameters(n_sequences: int, seed: int) -> np.ndarray:
    """Strength of the source and speed of the waves of each sequence, `[n 2]`."""
    # numpy's legacy generator, because the authors used it.
    low, high = zip(FORCES, SPEEDS, strict=True)
    return np.random.RandomState(seed).uniform(low, high, (n_sequences, 2))
