"""Differences between rows, and the files of a study."""

import csv

import numpy as np
import pytest
from mimic.studies.report import against, dots, write_csv


def runs(*values):
    return [{"x": float(v)} for v in values]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((3.0, 4.0, 5.0), "a +2.0 ± 0.0"),
        ((3.0, 1.0, 3.0), "a +0.3 ± 1.5 (no difference)"),
        ((0.0, 1.5, 1.5), "a -1.0 ± 0.5"),
    ],
)
def test_differences_are_between_runs_of_one_seed(values, said):
    results = {"base": runs(1.0, 2.0, 3.0), "a": runs(*values), "other": [{"y": 1.0}] * 3}
    assert against(results, "base", "x", ".1f") == said


def test_mean_and_deviation_are_those_of_the_differences():
    a, b = np.random.default_rng(0).normal(size=(2, 6))
    said = against({"a": runs(*a), "b": runs(*b)}, "a", "x", ".6f")
    assert said.startswith(f"b {np.mean(b - a):+.6f} ± {np.std(b - a, ddof=1):.6f}")


def test_one_seed_shows_no_spread():
    assert against({"a": runs(1.0), "b": runs(3.0)}, "a", "x", ".1f") == "b +2.0 (one seed)"


def test_a_csv_has_a_line_for_every_run(tmp_path):
    results = {"a": [{"x": 1.0, "y": 2.0}, {"x": 3.0, "y": 4.0}], "b": [{"x": 5.0}]}
    write_csv(tmp_path / "numbers.csv", results)
    with (tmp_path / "numbers.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["row"], line["seed"], line["x"], line["y"]) for line in lines] == [
        ("a", "0", "1.0", "2.0"),
        ("a", "1", "3.0", "4.0"),
        ("b", "0", "5.0", ""),
    ]


def test_every_run_is_a_dot_in_the_row_of_its_name():
    results = {"base": runs(1.0, 2.0), "a": runs(0.5, 4.0)}
    (panel,) = dots(results, {"x of it": "x"}, "base", log=["x of it"]).axes
    drawn = {tuple(line.get_xdata()): set(line.get_ydata()) for line in panel.lines}
    assert drawn[1.0, 2.0] == {0}
    assert drawn[0.5, 4.0] == {1}
    assert panel.get_xscale() == "log"
    assert [label.get_text() for label in panel.get_yticklabels()] == ["base", "a"]
