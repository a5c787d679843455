"""TaxiBJ: clips beside those of the released loader, scaling, and what is wrong with files."""

import h5py
import numpy as np
import pytest
import torch

from common.data.fields.taxi import TaxiBJ
from common.errors import InputError
from tests.common.data.small_files import taxi, write_taxi

DAYS = (3, 2, 4, 31)


def without(dates, *missing):
    """A year's flows and dates without some frames."""
    flows, dates = dates
    kept = [k for k in range(len(dates)) if k not in missing]
    return flows[kept], [dates[k] for k in kept]


@pytest.fixture(scope="module")
def years():
    found = taxi(DAYS)
    found[14] = without(found[14], 50)  # its second day lacks a half hour
    found[15] = without(found[15], *range(60, 80))  # a gap of a day
    found[16] = without(found[16], 10, *range(20 * 48, 21 * 48))
    return found


@pytest.fixture(scope="module")
def root(years, tmp_path_factory):
    return write_taxi(tmp_path_factory.mktemp("taxi"), years)


def released(years, n_frames):
    """Clips of the released loader: indices `(year, frame)`, from the newest to the oldest."""
    clips = []
    for year, (_, dates) in years.items():
        days = [date[:8] for date in dates]
        whole = [k for k, day in enumerate(days) if days.count(day) == 48]
        hours = {}
        for k in whole:
            day = np.datetime64(f"{dates[k][:4].decode()}-{dates[k][4:6].decode()}-"
                                f"{dates[k][6:8].decode()}")  # fmt: skip
            hours[day.astype(int) * 48 + int(dates[k][8:])] = k
        for time in list(hours)[n_frames:]:
            before = [time - j for j in range(1, n_frames + 1)]
            if all(moment in hours for moment in before):
                clips.append([(year, hours[moment]) for moment in before])
    return clips


def scaled(years, clip):
    whole = np.concatenate([
        flows[[k for k, d in enumerate(dates) if sum(e[:8] == d[:8] for e in dates) == 48]]
        for flows, dates in years.values()
    ])  # fmt: skip
    low, high = whole[:-1344].min(), whole[:-1344].max()
    return np.stack([(years[year][0][k] - low) / (high - low) for year, k in clip])


@pytest.mark.parametrize("order", ["forward", "released"])
def test_test_clips_are_the_last_1344_of_the_released_loader(order, years, root):
    clips = TaxiBJ(root, order=order).clips("test")
    expected = released(years, 8)[-1344:]
    assert len(clips) == 1344
    for number in (0, 1, 700, 1343):
        true = scaled(years, expected[number])
        true = true if order == "released" else true[::-1]
        assert np.abs(clips.frames([number])[0].numpy() - true).max() < 1e-6


def test_no_clip_crosses_a_gap_and_no_frame_is_in_two_splits(years, root):
    data = TaxiBJ(root, val_fraction=0.3, n_frames=5, n_eval_frames=8)
    seen = {}
    for split in ("train", "val", "test"):
        clips = data.clips(split)
        frames = clips.frames(list(range(len(clips))))[:, :, 0, 0, 0]
        steps = frames.diff(dim=1)
        assert steps.min() > 0
        assert torch.allclose(steps, steps.min(), rtol=1e-2)
        seen[split] = set(frames.flatten().tolist())
    assert seen["train"].isdisjoint(seen["val"])
    assert max(seen["train"]) < min(seen["val"])
    assert max(seen["val"]) < min(seen["test"])
    assert seen["val"].isdisjoint(seen["test"])


def test_training_serves_all_clips_before_validation(years, root):
    data = TaxiBJ(root, val_fraction=0.0)
    test = released(years, 8)[-1344]
    first = min(test)  # the first test frame
    expected = [clip for clip in released(years, 8) if max(clip) < first]
    clips = data.clips("train")
    assert len(clips) == len(expected) > 100
    for number in (0, len(expected) - 1):
        true = scaled(years, expected[number])[::-1]
        assert np.abs(clips.frames([number])[0].numpy() - true).max() < 1e-6


def test_flows_below_zero_are_zero_and_the_last_weeks_do_not_count_for_the_range(years, tmp_path):
    changed = dict(years)
    flows, dates = changed[16]
    flows = flows.copy()
    flows[-1, 0, 0, 0] = 1e6
    changed[16] = flows, dates
    flows, dates = changed[13]
    flows = flows.copy()
    flows[5, 1, 2, 3] = -4
    changed[13] = flows, dates
    data = TaxiBJ(write_taxi(tmp_path, changed))
    train, test = data.clips("train"), data.clips("test")
    frames = train.frames([0])[0]
    assert frames[5, 1, 2, 3] == 0 == frames.min()
    assert (frames >= 0).all()
    assert 1 < test.frames([1343])[0].max() < 2  # the last frame of all is in no clip


# Errors -------------------------------------------------------------------------------------


def spoiled(years, year=14, flows=None, dates=None):
    old = years[year]
    flows = old[0] if flows is None else flows
    return years | {year: (flows, old[1] if dates is None else dates)}


@pytest.mark.parametrize(
    ("index", "date", "told"),
    [
        (7, b"201402300x", "date 7 is '201402300x'"),
        (0, b"2014023001", "date 0 is '2014023001'"),
        (3, b"2014022649", "date 3 is '2014022649'"),
        (3, b"2014022600", "date 3 is '2014022600'"),
        (4, b"20140226", "date 4 is '20140226'"),
        (9, b"2014022605", "date 9 isn't after the one before"),
    ],
)
def test_wrong_dates_are_named(index, date, told, years, tmp_path):
    dates = list(years[14][1])
    dates[index] = date
    with pytest.raises(InputError, match=rf"BJ14_M32x32_T30_InOut\.h5: {told}"):
        TaxiBJ(write_taxi(tmp_path, spoiled(years, dates=dates))).setup("fit")


def test_wrong_flows_are_named(years, tmp_path):
    flows = years[14][0].copy()
    flows[6, 1, 30, 2] = np.nan
    with pytest.raises(InputError, match=r"BJ14.* has no number in frame 6, cell \[1, 30, 2\]"):
        TaxiBJ(write_taxi(tmp_path, spoiled(years, flows=flows))).setup("test")
    for wrong in (flows[:, :1], flows[1:], flows[..., 0]):
        with pytest.raises(InputError, match=r"BJ14.* has data \(9"):
            TaxiBJ(write_taxi(tmp_path, spoiled(years, flows=wrong))).setup("test")
    texts = spoiled(years, flows=[b"text"] * len(flows))
    with pytest.raises(InputError, match=r"BJ14.* isn't a whole h5 file of flows"):
        TaxiBJ(write_taxi(tmp_path, texts)).setup("test")


def test_missing_files_and_keys_are_named(years, tmp_path):
    with pytest.raises(InputError, match=r"found no file .*BJ13_M32x32_T30_InOut\.h5"):
        TaxiBJ(tmp_path).setup("fit")
    path = write_taxi(tmp_path, years) / "BJ15_M32x32_T30_InOut.h5"
    with h5py.File(path, "a") as file:
        del file["date"]
    with pytest.raises(InputError, match=r"BJ15.* lacks date and has data"):
        TaxiBJ(tmp_path).setup("fit")
    path.write_bytes(b"\x89HDF")
    with pytest.raises(InputError, match=r"BJ15.* isn't a whole h5 file"):
        TaxiBJ(tmp_path).setup("fit")


def test_too_few_days_are_refused(years, root, tmp_path):
    with pytest.raises(InputError, match=r"got 28 whole days .* more than 28"):
        TaxiBJ(write_taxi(tmp_path, taxi((1, 1, 1, 25)))).setup("test")
    with pytest.raises(InputError, match=r"have 1312 clips of 20 frames for test"):
        TaxiBJ(write_taxi(tmp_path, taxi((1, 1, 1, 26))), n_frames=20).setup("test")
    with pytest.raises(InputError, match=r"0 clips of 200 frames for val"):
        TaxiBJ(root, n_eval_frames=200).setup("validate")
