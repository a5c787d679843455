"""The study of the game, at the size of a test."""

import csv

import pytest
from matplotlib.image import imread

from mimic.plugin import MiMIc
from mimic.studies import minmax as study
from mimic.studies.digits import PARTS
from mimic.studies.fitting import penalties
from mimic.studies.games import GAMES


def read(path):
    with path.open(newline="") as file:
        return {line["row"]: line for line in csv.DictReader(file)}


def test_the_study_of_the_game_writes_tables_and_pictures(tmp_path, monkeypatch):
    monkeypatch.setitem(PARTS, "test", slice(2500, 2700))
    games = {name: study.VARIANTS[name] for name in ("alternating", "simultaneous")}
    monkeypatch.setattr(study, "VARIANTS", games)
    monkeypatch.setattr(study, "BY_STEP", {})
    study.minmax(seeds=1, out=tmp_path, steps=150, epochs=1, n_train=128, audit_steps=10)
    for name in ("minmax_exact", "minmax_digits"):
        assert list(read(tmp_path / f"{name}.csv")) == ["none", *games]
        assert imread(tmp_path / f"{name}.png")[..., :3].std() > 0.02
    exact = {name: float(row["tc"]) for name, row in read(tmp_path / "minmax_exact.csv").items()}
    for name in games:
        assert 0 < exact[name] < 0.5 * exact["none"]
    for row in read(tmp_path / "minmax_digits.csv").values():
        assert 0 < float(row["accuracy"]) < 100
        assert abs(float(row["tc_last"])) < 50
    assert (tmp_path / "minmax.md").read_text().count("| alternating |") == 2


@pytest.mark.parametrize("name", [*study.VARIANTS, *study.BY_STEP])
def test_a_row_differs_from_the_usual_game_where_it_says(name):
    usual, variant = study.at_last({}), (study.VARIANTS | study.BY_STEP)[name]
    (callback,) = penalties(study.at_last(variant), 0)
    assert isinstance(callback, MiMIc)
    known = {"game": "alternating", "n_critic": 1, "estimator": "smile", "critic_lr": 1e-3}
    assert all((known | usual).get(key) != value for key, value in variant.items())
    if "game" in variant:
        assert callback.options["game"] is GAMES[variant["game"]]
