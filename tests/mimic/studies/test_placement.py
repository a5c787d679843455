"""The study of the penalty's place, at the size of a test."""

import csv

import pytest
import torch
from matplotlib.image import imread

from mimic.studies import placement as study
from mimic.studies.digits import (
    FIRST,
    LAST,
    PARTS,
    HalvedDigits,
    dead_channels,
    digit_network,
    fitted,
)


def test_the_study_of_places_writes_tables_and_pictures(tmp_path, monkeypatch):
    monkeypatch.setitem(PARTS, "test", slice(2500, 2700))
    kept = list(study.DRAWN)
    rows = {name: study.PLACES[name] for name in kept}
    monkeypatch.setattr(study, "PLACES", rows)
    study.placement(seeds=1, out=tmp_path, epochs=1, n_train=128, audit_steps=10)
    for name in ("placement", "placement_filters"):
        picture = imread(tmp_path / f"{name}.png")
        assert min(picture.shape[:2]) > 200
        assert picture[..., :3].std() > 0.02
    with (tmp_path / "placement.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["row"] for line in lines] == kept
    for line in lines:
        assert 0 < float(line["accuracy"]) < 100
        assert 0 <= float(line["ece"]) <= 100
        assert 0 <= int(float(line["dead"])) <= 40
        assert abs(float(line["tc_first"])) < 50
        assert float(line["ms"]) > 0
    text = (tmp_path / "placement.md").read_text()
    assert all(f"| {name} |" in text for name in kept)
    assert "128 digits" in text
    # Nothing is trained again.
    done = sorted((tmp_path / "placement").iterdir())
    before = [path.stat().st_mtime_ns for path in done]
    study.placement(seeds=1, out=tmp_path, epochs=1, n_train=128, audit_steps=10)
    assert [path.stat().st_mtime_ns for path in done] == before
    assert (tmp_path / "placement.md").read_text() == text


def test_all_rows_of_the_study_can_be_had():
    for settings in study.PLACES.values():
        fit = fitted(HalvedDigits(64), {"epochs": 1, "penalty": settings}, 0)
        assert all(p.isfinite().all() for p in fit.network.parameters())


def test_the_parts_of_the_digits_do_not_overlap():
    data = HalvedDigits()
    parts = [data.images(split) for split in ("train", "val", "test")]
    assert [len(part) for part in parts] == [2000, 500, 2500]
    assert [len(data.labels(split)) for split in ("train", "val", "test")] == [2000, 500, 2500]
    rows = torch.cat(parts).flatten(1)
    assert len(rows.unique(dim=0)) == len(rows)
    whole = HalvedDigits(300)
    assert torch.equal(whole.images("train"), parts[0][:300])
    assert torch.equal(whole.images("test"), parts[2])


def test_a_row_differs_from_none_by_its_penalty_alone():
    settings = {"epochs": 1, "penalty": {"layers": [FIRST, LAST], "weight": 0.0}}
    data = HalvedDigits(128)
    with_it, without = fitted(data, settings, 3), fitted(data, {**settings, "penalty": None}, 3)
    for a, b in zip(with_it.network.parameters(), without.network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_dead_channels_are_counted_behind_the_relu():
    fit = fitted(HalvedDigits(64), {"epochs": 1, "penalty": None}, 0)
    before = dead_channels(fit)
    with torch.no_grad():
        fit.network.get_submodule("features.linear").bias[:5] = -1e6
        fit.network.get_submodule("conv2.norm").bias[:3] = -1e6
    assert dead_channels(fit) == pytest.approx(before + 8, abs=3)
    assert dead_channels(fit) >= 8


def test_networks_of_a_seed_begin_alike():
    torch.manual_seed(1)
    first = digit_network()
    torch.manual_seed(1)
    for a, b in zip(first.parameters(), digit_network().parameters(), strict=True):
        assert torch.equal(a, b)
