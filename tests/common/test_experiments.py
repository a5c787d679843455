"""Grids of runs go on where they were stopped, and tables say what statistics say."""

import csv
import math

import numpy as np
import pytest
import torch

from common.experiments import (
    compared_table,
    differences,
    dot_plot,
    mean_std,
    results_table,
    run_grid,
    write_csv,
    write_report,
    write_results,
)

ROWS = {"plain": None, "with / slash": {"weight": 0.1, "layers": ["a", "b"]}}


class Runs:
    """Notes what it is asked for; stops at the n-th run if told to."""

    def __init__(self, stop_at=None):
        self.asked, self.stop_at = [], stop_at

    def __call__(self, settings, seed):
        if len(self.asked) == self.stop_at:
            raise KeyboardInterrupt
        self.asked.append((settings, seed))
        return {"number": float(seed)}


def test_every_row_runs_once_with_every_seed(tmp_path):
    runs = Runs()
    results = run_grid(tmp_path, ROWS, 3, runs)
    assert sorted(map(str, runs.asked)) == sorted(
        str((settings, seed)) for settings in ROWS.values() for seed in range(3)
    )
    assert list(results) == list(ROWS)
    for of_row in results.values():
        assert [run["number"] for run in of_row] == [0.0, 1.0, 2.0]
        assert all(run["seconds"] >= 0 for run in of_row)


def test_a_run_has_one_thread_and_leaves_the_others_as_they_were(tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        results = run_grid(
            tmp_path, {"a": None}, 1, lambda *_: {"threads": float(torch.get_num_threads())}
        )
        assert results["a"][0]["threads"] == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("stop_at", [0, 1, 3, 5])
def test_a_grid_that_is_stopped_goes_on_without_repeating(tmp_path, stop_at):
    first, second = Runs(stop_at), Runs()
    with pytest.raises(KeyboardInterrupt):
        run_grid(tmp_path, ROWS, 3, first)
    run_grid(tmp_path, ROWS, 3, second)
    whole = Runs()
    run_grid(tmp_path / "elsewhere", ROWS, 3, whole)
    assert first.asked + second.asked == whole.asked


def test_what_is_done_comes_back_as_it_was(tmp_path):
    before = run_grid(tmp_path, ROWS, 2, Runs())
    again = Runs()
    assert run_grid(tmp_path, ROWS, 2, again) == before
    assert again.asked == []


def test_changed_settings_run_again_and_others_do_not(tmp_path):
    run_grid(tmp_path, ROWS, 2, Runs())
    changed, again = {"weight": 0.2, "layers": ["a", "b"]}, Runs()
    run_grid(tmp_path, ROWS | {"with / slash": changed}, 2, again)
    assert again.asked == [(changed, 0), (changed, 1)]


def test_settings_that_json_writes_otherwise_are_the_same_run(tmp_path):
    rows = {"pair": {"rates": (0.5, 0.9)}}
    run_grid(tmp_path, rows, 1, Runs())
    again = Runs()
    run_grid(tmp_path, rows, 1, again)
    assert again.asked == []


def test_a_run_that_fails_leaves_nothing(tmp_path):
    def fail(settings, seed):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        run_grid(tmp_path, ROWS, 1, fail)
    assert list(tmp_path.iterdir()) == []


def test_a_table_holds_mean_and_deviation_over_seeds():
    values = np.random.default_rng(0).normal(3, 2, 5)
    results = {"a": [{"x": float(v)} for v in values], "b": [{"y": 1.0}] * 5}
    lines = results_table(results, {"X": ("x", ".3f"), "Y": ("y", ".0f")}, "row").splitlines()
    assert lines[:2] == ["| row | X | Y |", "| --- | --- | --- |"]
    assert lines[2] == f"| a | {values.mean():.3f} ± {values.std(ddof=1):.3f} | – |"
    assert lines[3] == "| b | – | 1 ± 0 |"


def test_one_seed_has_no_deviation_and_what_is_missing_once_has_no_mean():
    assert mean_std([2.5], ".2f") == "2.50"
    assert mean_std([1.0, math.nan], ".2f") == "–"


def test_a_text_is_written_and_shown(tmp_path, capsys):
    write_report(tmp_path / "one.md", "| a |")
    assert (tmp_path / "one.md").read_text() == "| a |\n"
    assert str(tmp_path / "one.md") in capsys.readouterr().out


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
    assert differences(results, "base", "x", ".1f") == said


def test_mean_and_deviation_are_those_of_the_differences():
    a, b = np.random.default_rng(0).normal(size=(2, 6))
    said = differences({"a": runs(*a), "b": runs(*b)}, "a", "x", ".6f")
    assert said.startswith(f"b {np.mean(b - a):+.6f} ± {np.std(b - a, ddof=1):.6f}")


def test_one_seed_shows_no_spread():
    assert differences({"a": runs(1.0), "b": runs(3.0)}, "a", "x", ".1f") == "b +2.0 (one seed)"


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
    (panel,) = dot_plot(results, {"x of it": "x"}, "base", log=["x of it"]).axes
    drawn = {tuple(line.get_xdata()): set(line.get_ydata()) for line in panel.lines}
    assert drawn[1.0, 2.0] == {0}
    assert drawn[0.5, 4.0] == {1}
    assert panel.get_xscale() == "log"
    assert [label.get_text() for label in panel.get_yticklabels()] == ["base", "a"]


def test_a_comparison_is_a_table_with_a_line_for_each_score():
    results = {"base": runs(1.0, 2.0), "a": runs(3.0, 4.0)}
    text = compared_table(results, {"X": ("x", ".1f")}, "row", "base", {"X": ("x", ".1f")})
    table, line = text.split("\n\n")
    assert table == results_table(results, {"X": ("x", ".1f")}, "row")
    assert line == "X less that of base: a +2.0 ± 0.0."


def test_results_are_written_as_numbers_and_as_a_picture(tmp_path):
    write_results(tmp_path / "some.name", {"a": runs(1.0, 2.0)}, {"x": "x"}, "a")
    with (tmp_path / "some.name.csv").open(newline="") as file:
        assert [line["x"] for line in csv.DictReader(file)] == ["1.0", "2.0"]
    assert (tmp_path / "some.name.png").stat().st_size > 1000
