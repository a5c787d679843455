"""The computed sea: physics beside exact solutions, and files beside what the reader wants."""

import netCDF4
import numpy as np
import pytest

from common.data.fields import synthetic_sea
from common.data.fields.sea import SeaSurface
from common.data.fields.synthetic_sea import (
    AdvectionDiffusion,
    Eddies,
    SyntheticSea,
    climatology,
    simulate,
)
from common.errors import InputError, RunError

SIDE = 96
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE]
STILL = np.zeros((2, SIDE, SIDE))
FRAMES = {"n_frames": 4, "n_eval_frames": 5}


@pytest.fixture(autouse=True)
def short_spin_up(monkeypatch):
    monkeypatch.setattr(synthetic_sea, "SPIN_UP", 5)


def blob(row, column):
    """Periodic smooth hill."""
    far = [1 - np.cos(2 * np.pi * (x - c) / SIDE) for x, c in ((ROWS, row), (COLUMNS, column))]
    return 10 + np.exp(-10 * sum(far))


def largest(x):
    return np.abs(x).max()


def test_a_sine_decays_by_diffusion():
    kx, ky = 2 * np.pi / SIDE * np.array([3, 5])
    wave = np.sin(kx * COLUMNS + ky * ROWS)
    field = 18 + wave
    for _ in range(20):
        field = AdvectionDiffusion(SIDE, 0.4).day(field, STILL, 0 * wave)
    expected = 18 + wave * np.exp(-0.4 * (kx**2 + ky**2) * 20)
    assert largest(field - expected) < 1e-9


def test_a_uniform_current_moves_the_field():
    field, current = blob(40, 30), STILL + np.array([1.5, -0.5])[:, None, None]
    for _ in range(20):
        field = AdvectionDiffusion(SIDE, 0.0).day(field, current, 0 * field)
    assert largest(field - blob(30, 60)) < 1e-4
    assert largest(field - blob(40, 30)) > 0.5


def test_steps_have_order_four():
    current = Eddies(SIDE, 0).velocity(5)
    days = [AdvectionDiffusion(SIDE, 0.1).day(blob(40, 30), current, STILL[0], steps)
            for steps in (16, 32, 64, 512)]  # fmt: skip
    errors = np.array([largest(day - days[-1]) for day in days[:-1]])
    assert np.log2(errors[:-1] / errors[1:]) == pytest.approx([4, 4], abs=0.2)


def test_currents_keep_the_mean_and_diffusion_takes_from_the_spread():
    sea, eddies, field = AdvectionDiffusion(SIDE, 0.2), Eddies(SIDE, 1), blob(40, 30)
    spreads = [field.std()]
    for day in range(20):
        field = sea.day(field, eddies.velocity(day), 0 * field)
        spreads.append(field.std())
    assert field.mean() == pytest.approx(blob(40, 30).mean(), rel=1e-12)
    assert (np.diff(spreads) < 0).all()


def test_relaxation_leads_to_the_target():
    field, target = blob(40, 30), blob(60, 60) + 2
    sea = AdvectionDiffusion(SIDE, 0.0, relaxation=0.1)
    for _ in range(10):
        field = sea.day(field, STILL, target)
    expected = target + (blob(40, 30) - target) * np.exp(-1)
    assert largest(field - expected) < 1e-6


def test_currents_have_no_divergence_and_change_slowly():
    u, v = Eddies(SIDE, 2).velocity(7)
    frequencies = 2j * np.pi * np.fft.fftfreq(SIDE)
    divergence = frequencies * np.fft.fft2(u) + frequencies[:, None] * np.fft.fft2(v)
    assert largest(np.fft.ifft2(divergence)) < 1e-12
    rotation = frequencies * np.fft.fft2(v) - frequencies[:, None] * np.fft.fft2(u)
    assert largest(np.fft.ifft2(rotation)) > 0.1
    assert 1 < np.sqrt(np.mean(u**2 + v**2)) < 4
    following = Eddies(SIDE, 2).velocity(8)
    assert 0 < largest(following - [u, v]) < 0.5 * largest([u, v])


def test_climatology_is_the_mean_over_the_years():
    values = np.arange(2.0 * 365 + 10)
    found = climatology(values)
    assert found[0] == found[365] == found[730] == 365
    assert found[364] == (364 + 729) / 2
    assert climatology(values[:20]).tolist() == values[:20].tolist()


def test_the_files_hold_the_tiles_of_the_sea(tmp_path):
    data = SyntheticSea(days=30, n_zones=3, seed=4, cache=tmp_path, val_fraction=0.3, **FRAMES)
    data.prepare_data()
    fields = list(simulate(128, 30, 4))
    assert np.std(fields) > 1
    for zone, rows, columns in ((1, 0, 0), (2, 0, 64), (3, 64, 0)):
        with netCDF4.Dataset(data.folder() / f"data_{zone}.nc") as file:
            parts = np.stack([f[rows : rows + 64, columns : columns + 64] for f in fields])
            assert largest(file["thetao"][:] - parts) < 1e-5
            assert largest(file["daily_mean"][:] - parts.mean((1, 2))) < 1e-9
            assert largest(file["daily_std"][:] - parts.std((1, 2))) < 1e-9
    data.setup("test")
    same = SeaSurface(data.folder(), [1], [1, 2, 3], **FRAMES)
    same.setup("test")
    one, two = (next(iter(d.test_dataloader())) for d in (data, same))
    assert (one.frames == two.frames).all()


def test_a_sea_is_computed_once_and_a_damaged_one_again(tmp_path):
    data = SyntheticSea(days=3, n_zones=2, cache=tmp_path)
    (first, second) = sorted(data.folder().glob("*"))
    assert (first.name, second.name) == ("data_1.nc", "data_2.nc")
    whole, made = second.read_bytes(), first.stat().st_mtime_ns
    data.folder()
    assert first.stat().st_mtime_ns == made
    second.write_bytes(whole[:5000])
    data.folder()
    with netCDF4.Dataset(second) as file:
        assert file["thetao"].shape == (3, 64, 64)
    second.unlink()
    data.folder()
    assert second.exists()
    others = [{"days": 4}, {"n_zones": 3}, {"seed": 1}]
    roots = {SyntheticSea(**{"days": 3, "n_zones": 2} | other).root for other in others}
    assert len(roots | {data.root}) == 4


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"days": 0}, "days 0; give 1 or more"),
        ({"n_zones": 0}, "n_zones 0; give 1 or more"),
        ({"seed": -1}, "seed -1; give 0 or more"),
        ({"n_zones": 4, "test_zones": [3, 5]}, r"zone 5, but data\.n_zones is 4"),
        ({"train_zones": [2, 2]}, "each once"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, told, tmp_path):
    with pytest.raises(InputError, match=told):
        SyntheticSea(cache=tmp_path, **arguments)


def test_too_few_days_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"has 2 frames, data\.n_eval_frames 5"):
        SyntheticSea(days=10, n_zones=1, cache=tmp_path, **FRAMES).setup("test")


def test_a_break_leaves_no_file(tmp_path, monkeypatch):
    def day(*arguments):
        raise RuntimeError("NetCDF: HDF error")

    monkeypatch.setattr(AdvectionDiffusion, "day", day)
    with pytest.raises(RunError, match=r"can't write .*sea_.*: NetCDF: HDF error; free"):
        SyntheticSea(days=3, n_zones=1, cache=tmp_path).prepare_data()
    assert not list(tmp_path.rglob("*.nc*"))
