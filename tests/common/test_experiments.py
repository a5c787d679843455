"""Grids of runs go on where they were stopped, and tables say what statistics say."""

import math

import numpy as np
import pytest
import torch

from common.errors import InputError
from mimic.results import show, spread
from mimic.studies.disentanglement import disentanglement
from mimic.studies.domains import domains
from mimic.studies.grid import run_grid, table
from mimic.studies.placement import layers
from mimic.studies.minmax import minmax
from mimic.studies.transfer import transfer

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
    lines = table(results, {"X": ("x", ".3f"), "Y": ("y", ".0f")}, "row").splitlines()
    assert lines[:2] == ["| row | X | Y |", "| --- | --- | --- |"]
    assert lines[2] == f"| a | {values.mean():.3f} ± {values.std(ddof=1):.3f} | – |"
    assert lines[3] == "| b | – | 1 ± 0 |"


def test_one_seed_has_no_deviation_and_what_is_missing_once_has_no_mean():
    assert spread([2.5], ".2f") == "2.50"
    assert spread([1.0, math.nan], ".2f") == "–"


def test_a_text_is_written_and_shown(tmp_path, capsys):
    show(tmp_path / "one.md", "| a |")
    assert (tmp_path / "one.md").read_text() == "| a |\n"
    assert str(tmp_path / "one.md") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("study", "settings"),
    [
        (layers, {"seeds": 0}),
        (layers, {"audit_steps": 0}),
        (minmax, {"steps": 0}),
        (transfer, {"n_train": -3}),
        (domains, {"width": 0}),
        (disentanglement, {"n_trees": 0}),
    ],
)
def test_studies_refuse_what_cannot_be_run(study, settings, tmp_path):
    with pytest.raises(InputError, match=f"got {next(iter(settings))} .*; give 1 or more"):
        study(out=tmp_path, **settings)
    assert not list(tmp_path.iterdir())
