"""The study of disentanglement runs through, and what it shows is what was measured."""

import math
from functools import partial

import pytest
import torch
from sklearn.ensemble import GradientBoostingClassifier

from common.errors import InputError
from mimic.studies.disentanglement import FACTORS, LAYER, SCORES, disentanglement, scores
from mimic.supervised.data.factors import factors_of
from mimic.supervised.data.sprites import RenderedSprites

SIZES = RenderedSprites.factor_sizes


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    """So few that they take no time."""
    few = partial(GradientBoostingClassifier, n_estimators=5)
    monkeypatch.setattr("sklearn.ensemble.GradientBoostingClassifier", few)


def test_command_writes_tables_and_figures(tmp_path, capsys, monkeypatch):
    rows = {"none": None, "MiMIc": {"layers": [LAYER], "weight": 0.1}}
    monkeypatch.setattr("mimic.studies.disentanglement.ROWS", rows)
    monkeypatch.setattr("mimic.studies.disentanglement.MORE_CODES", ("none",))
    tiny = {"epochs": 1, "n_train": 256, "n_test": 400, "n_trees": 100, "audit_steps": 20}
    disentanglement(1, tmp_path, more_codes=6, **tiny)
    text = (tmp_path / "disentanglement.md").read_text()
    assert text.count("| MiMIc |") == 2
    assert text.count("| none |") == 4
    assert "nan" not in text
    assert "–" not in text
    for codes in (5, 6):
        for kind in ("matrix", "scores"):
            assert (tmp_path / f"disentanglement_{kind}_{codes}.png").stat().st_size > 5000
    before = capsys.readouterr().out
    disentanglement(1, tmp_path, more_codes=6, **tiny)
    assert "seed 0:" in before
    assert "seed 0:" not in capsys.readouterr().out  # what is done isn't done again
    assert (tmp_path / "disentanglement.md").read_text() == text


def test_factors_themselves_score_best_and_their_mixture_low():
    factors = factors_of(torch.randperm(math.prod(SIZES))[:4000], SIZES)
    codes = (factors - factors.double().mean(0)) / factors.double().std(0)
    pure = scores(codes.float(), factors, n_trees=300)
    mixed = scores((codes @ torch.linalg.qr(torch.randn(5, 5).double()).Q).float(), factors, 300)
    for key, _ in SCORES.values():
        assert 0 <= pure[key] <= 1
    for key in ("mig", "modularity", "dci_disentanglement"):
        assert pure[key] > 0.9
        assert mixed[key] < pure[key]
    assert mixed["mig"] < 0.3
    told = torch.tensor([[pure[f"told_{i}_{k}"] for k in range(5)] for i in range(5)])
    torch.testing.assert_close(told, torch.eye(len(FACTORS)), atol=0.03, rtol=0)


def test_more_codes_are_more_than_factors(tmp_path):
    with pytest.raises(InputError, match="more_codes 5"):
        disentanglement(1, tmp_path, more_codes=5)
