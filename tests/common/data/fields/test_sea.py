"""Sea-surface temperature: normalisation, land, splits, scale, and what is wrong with files."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from common.data.fields.sea import SeaSurface
from common.errors import InputError
from tests.common.data.small_files import sea, write_sea

DEFAULTS = {
    "train_zones": [1],
    "test_zones": [1],
    "val_fraction": 0.2,
    "n_frames": 4,
    "n_eval_frames": 5,
}


def surface(folder, **arguments):
    return SeaSurface(folder, **DEFAULTS | arguments)


def batch(data, split="test"):
    data.setup({"train": "fit", "val": "validate", "test": "test"}[split])
    return next(iter(getattr(data, f"{split}_dataloader")()))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("land", [False, True])
def test_errors_of_served_values_are_errors_in_degrees(land, packed, tmp_path):
    true = sea(40, land=land)
    write_sea(tmp_path, true, packed=packed)
    clip = batch(surface(tmp_path, clips_per_video=1))
    celsius = true["thetao"][32:37]
    served = clip.own_unit(clip.frames)[0, :, 0].double().numpy()
    cells = ~np.ma.getmaskarray(celsius)[0]
    weight = np.sqrt(64 * 64 / cells.sum())
    tolerance = 2e-3 if packed else 1e-5
    for day, ours in zip(celsius, served, strict=True):
        assert (ours[~cells] == 0).all()
        expected = day[cells] - day[cells].mean()
        assert ours[cells] / weight == pytest.approx(np.asarray(expected), abs=tolerance)
    # The mean square over all cells is that over the sea, in °C².
    error = torch.randn(clip.frames.shape)
    squares = np.square(error[0, :, 0].numpy()[:, cells]).mean(1)
    unit = true["daily_std"][32:37] * (celsius / true["daily_std"][32:37, None, None]).std((1, 2))
    assert clip.own_unit(error).square().mean((0, 2, 3, 4)).numpy() == pytest.approx(
        np.asarray(squares * unit**2), rel=1e-3
    )


def test_each_day_is_normalised_by_its_own_cells(tmp_path):
    write_sea(tmp_path, sea(40, land=True))
    clip = batch(surface(tmp_path))
    assert clip.frames.dtype == torch.float32
    cells = clip.scale.error[0, 0, 0] > 0
    assert cells.sum() == 64 * 64 - 20 * 24
    days = clip.frames[:, :, 0, cells]
    assert days.mean(-1).abs().max() < 1e-5
    assert (days.std(-1, correction=0) - 1).abs().max() < 1e-5
    assert (clip.frames[:, :, 0, ~cells] == 0).all()


def test_pictures_span_the_zones_served_days(tmp_path):
    write_sea(tmp_path, sea(40, zone=1), zone=1)
    write_sea(tmp_path, sea(40, zone=2), zone=2)
    data = surface(tmp_path, test_zones=[1, 2], clips_per_video=4, batch_size=8)
    clip = batch(data)
    pictures = clip.unit_range(clip.frames)
    for zone in (pictures[:4], pictures[4:]):
        assert (zone.min(), zone.max()) == pytest.approx((0, 1), abs=1e-6)
    assert clip.scale.low[0] != clip.scale.low[4]


def test_days_are_shared_out_in_order(tmp_path):
    write_sea(tmp_path, sea(50))
    data = surface(tmp_path, val_fraction=0.25)
    lengths = {split: len(data.clips(split).footage[0]) for split in ("train", "val", "test")}
    assert lengths == {"train": 30, "val": 10, "test": 10}
    names = [data.clips(split).footage[0].name.partition("(")[2] for split in lengths]
    assert names == ["days 0 to 29)", "days 30 to 39)", "days 40 to 49)"]


def test_mirrored_clips_have_mirrored_land(tmp_path):
    write_sea(tmp_path, sea(40, land=True))
    clip = batch(surface(tmp_path, flip=True, clips_per_video=8, batch_size=8), "train")
    land = clip.scale.error == 0
    assert (clip.frames[land.expand_as(clip.frames)] == 0).all()
    corners = land[:, 0, 0, 0, [0, -1]].tolist()
    assert [False, True] in corners
    assert [True, False] in corners


def test_published_zones_are_the_default():
    data = SeaSurface("somewhere")
    assert (data.train_zones, data.test_zones) == (list(range(1, 30)), [17, 18, 19, 20])


# Errors -------------------------------------------------------------------------------------


def nan_at(day, row, column):
    def spoil(variables):
        variables["thetao"][day, row, column] = np.nan

    return spoil


def masked_at(day, row, column):
    def spoil(variables):
        variables["thetao"][day, row, column] = np.ma.masked

    return spoil


def put(name, index, value):
    def spoil(variables):
        variables[name][index] = value

    return spoil


def cut(name, part):
    def spoil(variables):
        variables[name] = variables[name][part]

    return spoil


WRONG = [
    (nan_at(7, 3, 5), r"data_1\.nc has no thetao on day 7 in row 3, column 5 \(1 such"),
    (masked_at(slice(9, 11), 0, 2), r"no thetao on day 9 in row 0, column 2 \(2 such"),
    (put("thetao", slice(None), np.nan), "on any day"),
    (put("thetao", 12, 20.3), "the spread of thetao on day 12 isn't above 0"),
    (put("daily_std", 11, 0.0), "daily_std on day 11 isn't above 0"),
    (put("daily_std", 3, -1.0), "daily_std on day 3 isn't above 0"),
    (put("daily_mean", 5, np.nan), "daily_mean on day 5 isn't a number"),
    (lambda variables: variables.pop("thetao"), "lacks the variable thetao and has daily_mean"),
    (lambda variables: variables.pop("daily_std"), "lacks the variable daily_std"),
    (cut("thetao", np.s_[:, :32]), r"has thetao \(40, 32, 64\)"),
    (cut("daily_mean", np.s_[1:]), r"daily_mean \(39,\)"),
    (lambda variables: [cut(name, np.s_[:4])(variables) for name in variables], "has 2 frames"),
    (lambda variables: [cut(name, np.s_[:0])(variables) for name in variables], "0 days, which"),
]


@pytest.mark.parametrize(("spoil", "told"), WRONG)
def test_wrong_values_are_named(spoil, told, tmp_path):
    variables = sea(40)
    spoil(variables)
    write_sea(tmp_path, variables)
    data = surface(tmp_path)
    with pytest.raises(InputError, match=told):
        data.setup("fit")


def test_a_broken_file_is_named(tmp_path):
    path = write_sea(tmp_path, sea(40))
    whole = path.read_bytes()
    for part in (b"", whole[:100], whole[: len(whole) // 2]):
        path.write_bytes(part)
        with pytest.raises(InputError, match=r"data_1\.nc isn't a whole netCDF file"):
            surface(tmp_path).setup("fit")


def test_a_missing_zone_is_named(tmp_path):
    write_sea(tmp_path, sea(40))
    with pytest.raises(InputError, match=r"no file .*data_5\.nc of zone 5; there are data_1\.nc"):
        surface(tmp_path, train_zones=[1, 5]).setup("fit")
    with pytest.raises(InputError, match="there are none"):
        surface(tmp_path / "empty").setup("test")


@pytest.mark.parametrize("zones", [[], [1, 2, 1], [0, 1], [-3]])
def test_zones_that_make_no_sense_are_refused(zones, tmp_path):
    with pytest.raises(InputError, match=r"got train_zones .*each once"):
        surface(tmp_path, train_zones=zones)


def test_too_long_clips_are_refused(tmp_path):
    write_sea(tmp_path, sea(40))
    with pytest.raises(InputError, match=r"has 8 frames, data.n_eval_frames 9"):
        surface(tmp_path, n_eval_frames=9).setup("test")
    with pytest.raises(InputError, match="leaves none for val"):
        surface(tmp_path, val_fraction=0.0).setup("validate")


@pytest.mark.parametrize("order", [("h5py", "netCDF4"), ("netCDF4", "h5py")])
def test_netcdf_and_h5_files_are_read_in_one_process(order, tmp_path):
    program = f"""
import {order[0]}, {order[1]}, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from common.data.formats.netcdf import read_variables
with h5py.File(sys.argv[1] + "/a.h5", "w") as file:
    file["x"] = list(range(1000))
for k in range(20):
    with netCDF4.Dataset(sys.argv[1] + "/a.nc", "w") as file:
        file.createDimension("x", 1000)
        file.createVariable("x", "f8", ("x",))[:] = range(1000)
    def net(_): return read_variables(Path(sys.argv[1] + "/a.nc"), "x")[0].sum()
    def h5(_):
        with h5py.File(sys.argv[1] + "/a.h5") as file: return file["x"][:].sum()
    with ThreadPoolExecutor() as pool:
        found = [*pool.map(net, range(8)), *pool.map(h5, range(8))]
    assert set(found) == {{499500}}
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=60)
