"""A computed sea: temperature that eddies stir, in the files and the layout of the real one."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from common.data.cache import cache_path, cached
from common.data.fields.sea import SIDE, SeaSurface, zone_file
from common.data.fields.waves import runge_kutta
from common.data.formats.netcdf import check_variables
from common.errors import InputError, check_counts, extra
from common.files import written_whole
from common.progress import Progress

YEAR = 365  # days
SPIN_UP = 60  # days before the first one, in which the eddies form the fronts
STEPS = 8  # time steps of a day; the fastest currents then stay well inside the stable range
DIFFUSION = 0.2  # cells² a day
RELAXATION = 1 / 60  # to the climatology, per day
SPEED = 2.0  # of the currents, about the root mean square, in cells a day
EDDIES, SHORTEST = 40, 32  # number of waves of the currents, and the shortest of them in cells


class SyntheticSea(SeaSurface):
    """Synthetic sea-surface temperature, which needs no licence: eddies stir and mix it.

    Temperature is carried by currents, diffuses, and relaxes to a climatology with warm and cold
    latitudes and with seasons (`AdvectionDiffusion`). The currents are 40 slowly moving waves
    without divergence (`Eddies`). The zones are the tiles of one square sea without borders.

    The sea is computed once, in about 0.03 seconds a day for 9 zones, and kept on the disk as
    netCDF files in the published layout (16 kB for each zone and day). `SeaSurface` reads them.

    Args:
        days: Number of days.
        n_zones: Number of zones.
        seed: Random seed of the currents.
        train_zones: Numbers of the zones for training and validation. None: all zones.
        test_zones: Numbers of the zones for testing. None: all zones.
        cache: Folder of the computed sea. None: the folder `dynamical_vision` in
            `$XDG_CACHE_HOME` or in `~/.cache`.
    """

    def __init__(
        self,
        days: int = 1000,
        n_zones: int = 9,
        seed: int = 0,
        train_zones: list[int] | None = None,
        test_zones: list[int] | None = None,
        cache: str | Path | None = None,
        **serving: Any,
    ) -> None:
        check_counts(1, days=days, n_zones=n_zones)
        check_counts(0, seed=seed)
        given = train_zones, test_zones
        train_zones, test_zones = (list(range(1, n_zones + 1)) if z is None else z for z in given)
        self.days, self.n_zones, self.seed = days, n_zones, seed
        # The version becomes another one as soon as the same parameters give other numbers.
        root = cache_path(cache, "sea", version=1, days=days, zones=n_zones, seed=seed)
        super().__init__(root=root, train_zones=train_zones, test_zones=test_zones, **serving)
        if unknown := [zone for zone in train_zones + test_zones if zone > n_zones]:
            raise InputError(
                f"got zone {unknown[0]}, but data.n_zones is {n_zones}; give zones from 1 to "
                f"{n_zones}"
            )

    def prepare_data(self) -> None:
        self.folder()

    def folder(self) -> Path:
        return cached(self.root, self._check, self._write)

    def _check(self) -> None:
        n = self.days
        for zone in range(1, self.n_zones + 1):
            file = zone_file(self.root, zone)
            check_variables(file, thetao=(n, SIDE, SIDE), daily_mean=(n,), daily_std=(n,))

    def _write(self) -> None:
        tiles = max(2, int(np.ceil(np.sqrt(self.n_zones))))  # of a side of the whole sea
        moments = np.zeros((2, self.n_zones, self.days))
        with contextlib.ExitStack() as stack:
            files = [
                stack.enter_context(_new_file(zone_file(self.root, zone), self.days))
                for zone in range(1, self.n_zones + 1)
            ]
            progress = Progress(
                simulate(tiles * SIDE, self.days, self.seed), "Stirring the sea", self.days
            )
            for day, field in enumerate(progress):
                parts = field.reshape(tiles, SIDE, tiles, SIDE).swapaxes(1, 2)
                parts = parts.reshape(-1, SIDE, SIDE)[: self.n_zones]
                moments[:, :, day] = parts.mean((1, 2)), parts.std((1, 2))
                for file, part in zip(files, parts, strict=True):
                    file["thetao"][day] = part
            for file, mean, std in zip(files, *moments, strict=True):
                file["daily_mean"][:], file["daily_std"][:] = climatology(mean), climatology(std)


class AdvectionDiffusion:
    """Temperature on a periodic square that is carried by currents, diffuses and relaxes.

        T' = -div(velocity T) + diffusion ΔT + relaxation (target - T)

    Derivatives are exact for waves that the grid resolves (Fourier series, in which products keep
    two thirds of the waves, against aliasing); time steps are by Runge-Kutta's 3/8 rule.

    Args:
        side: Number of cells of a side.
        diffusion: Diffusion, in cells² a day.
        relaxation: Rate of the relaxation, per day.
    """

    def __init__(self, side: int, diffusion: float, relaxation: float = 0.0) -> None:
        self.side, self.relaxation = side, relaxation
        x, y = np.fft.rfftfreq(side), np.fft.fftfreq(side)[:, None]
        kept = (np.maximum(abs(x), abs(y)) < 1 / 3).astype(float)
        self.gradient = 2j * np.pi * np.stack([x * kept, y * kept])  # along x and along y
        self.decay = diffusion * (2 * np.pi) ** 2 * (x**2 + y**2) + relaxation

    def day(
        self, field: np.ndarray, velocity: np.ndarray, target: np.ndarray, steps: int = STEPS
    ) -> np.ndarray:
        """Temperature after a day, `[s s]`.

        Args:
            field: Temperature, `[s s]`.
            velocity: Velocity along x (columns) and along y (rows), `[2 s s]`, in cells a day.
            target: Temperature that the relaxation leads to, `[s s]`.
            steps: Number of time steps.
        """
        shape, source = field.shape, self.relaxation * np.fft.rfft2(target)

        def rate(time: float, state: np.ndarray) -> np.ndarray:
            flux = np.fft.rfft2(velocity * np.fft.irfft2(state, shape))
            return source - (self.gradient * flux).sum(0) - self.decay * state

        state = np.fft.rfft2(field)
        for step in range(steps):
            state = runge_kutta(rate, step / steps, state, 1 / steps)
        return np.fft.irfft2(state, shape)


class Eddies:
    """Currents of a stream function that is a sum of moving waves: they have no divergence.

    Args:
        side: Number of cells of a side of the periodic square.
        seed: Random seed of the waves.
    """

    def __init__(self, side: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        most = side // SHORTEST
        choices = [(x, y) for x in range(-most, most + 1) for y in range(most + 1)
                   if 0 < x * x + y * y <= most * most]  # fmt: skip
        waves = 2 * np.pi / side * rng.choice(choices, EDDIES).T
        self.waves = np.exp(1j * waves[..., None] * np.arange(side))  # along x and y, [2 m s]
        phases = np.exp(2j * np.pi * rng.uniform(size=EDDIES))
        # Each wave has the same share of the energy.
        strength = SPEED * np.sqrt(2 / EDDIES) * phases / np.sqrt((waves**2).sum(0))
        self.parts = 1j * strength * np.stack([-waves[1], waves[0]])
        self.turning = rng.normal(0, 2 * np.pi / 60, EDDIES)  # radians a day

    def velocity(self, day: int) -> np.ndarray:
        """Velocity along x (columns) and along y (rows), `[2 s s]`, in cells a day."""
        along_x, along_y = self.waves
        now = self.parts * np.exp(1j * self.turning * day)
        return np.stack([((along_y.T * part) @ along_x).real for part in now])


def simulate(side: int, days: int, seed: int) -> Iterator[np.ndarray]:
    """Temperature of each day in °C, `[s s]`, on a periodic square."""
    sea, eddies = AdvectionDiffusion(side, DIFFUSION, RELAXATION), Eddies(side, seed)
    latitudes = 18 + 4 * np.cos(2 * np.pi * np.arange(side) / side)[:, None] + np.zeros(side)
    field = latitudes
    for day in range(-SPIN_UP, days):
        if day >= 0:
            yield field
        target = latitudes + 3 * np.cos(2 * np.pi * day / YEAR)
        field = sea.day(field, eddies.velocity(day), target)


def climatology(values: np.ndarray) -> np.ndarray:
    """Mean of each day over the years, `[t]`, from the values of all days, `[t]`."""
    day = np.arange(len(values)) % YEAR
    return (np.bincount(day, values) / np.bincount(day))[day]


@contextlib.contextmanager
def _new_file(path: Path, days: int) -> Iterator[Any]:
    """Variables of a new netCDF file of a zone; it gets its name when all of it is written."""
    with extra("files"):
        import netCDF4

    try:
        with written_whole(path) as new, netCDF4.Dataset(new, "w") as file:
            for axis, length in (("time", days), ("y", SIDE), ("x", SIDE)):
                file.createDimension(axis, length)
            file.createVariable("thetao", "f4", ("time", "y", "x"))
            for name in ("daily_mean", "daily_std"):
                file.createVariable(name, "f8", ("time",))
            yield file.variables
    except RuntimeError as error:  # what the library raises where the disk is full
        raise OSError(str(error)) from error
