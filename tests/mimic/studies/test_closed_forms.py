"""Penalties do to a linear network what closed forms say they did."""

import pytest
import torch
from scipy.linalg import hadamard
from scipy.stats import multivariate_normal, norm

from mimic.studies.closed_forms import (
    amari_index,
    encode,
    main,
    penalty_values,
    sensitivity,
    total_correlation_of,
    unmix,
)
from mimic.studies.distributions import Apart, ExclusiveOr, RotatedUniforms


def baseline(name):
    return {"weight": 1.0, "penalty": name}


def test_amari_index_is_zero_for_a_permutation_with_scales():
    matrix = torch.tensor([[0.0, 3.0, 0.0], [0.0, 0.0, -0.1], [2.0, 0.0, 0.0]])
    assert amari_index(matrix) == 0


@pytest.mark.parametrize("c", [2, 4, 8])
def test_amari_index_is_one_where_all_is_mixed(c):
    assert amari_index(torch.from_numpy(hadamard(c))) == 1


def test_amari_index_by_hand():
    """Rows 1 + 1/2 and 1 + 1/4 over their maxima, columns 1 + 1/4 and 1 + 1/2."""
    assert amari_index(torch.tensor([[4.0, 2.0], [-1.0, 4.0]])) == pytest.approx(1.5 / 4)


def test_total_correlation_of_linear_codes():
    w = torch.randn(3, 5)
    covariance = (w @ w.T).double().numpy()
    entropies = sum(norm(scale=covariance[i, i] ** 0.5).entropy() for i in range(3))
    truth = entropies - multivariate_normal(cov=covariance).entropy()
    assert total_correlation_of(w) == pytest.approx(truth, rel=1e-5)


def test_sources_are_found_by_mimic():
    found = unmix(1500, 0, {"weight": 1.0})
    assert found["before"] > 0.9
    assert found["after"] < 0.05


@pytest.mark.parametrize("name", ["covariance", "vcreg", "barlow"])
def test_sources_are_not_found_by_covariances(name):
    assert unmix(400, 0, baseline(name))["after"] > 0.7


def test_a_rotation_is_mixed_too():
    first, second = (unmix(1, seed, baseline("covariance"), "rotation") for seed in range(2))
    assert first["before"] != second["before"]
    assert min(first["before"], second["before"]) > 0.1


def test_gaussian_codes_become_independent():
    """The exact total correlation falls by 90 %, and the task hardly suffers."""
    before = encode(500, 0, None)
    after = encode(500, 0, {"weight": 0.3})
    assert before["tc"] > 1
    assert after["tc"] < 0.1 * before["tc"]
    assert max(before["mse"], after["mse"]) < 0.05
    assert after["deviation"] > 0.5 * before["deviation"]


def test_sensitivity_by_hand():
    assert sensitivity([3.0, 5.0], [0.0, 4.0]) == pytest.approx(2 / 5**0.5)


def test_pairs_show_no_exclusive_or():
    for name in ("covariance", "barlow", "hsic", "distance_correlation"):
        values, apart = _values(name, ExclusiveOr(), 30)
        assert abs(sensitivity(values, apart)) < 1


def test_mimic_sees_an_exclusive_or():
    values, apart = _values("mimic", ExclusiveOr(), 10)
    assert sensitivity(values, apart) > 5


def test_kernels_see_what_covariances_dont():
    assert sensitivity(*_values("hsic", RotatedUniforms(), 10)) > 3
    assert sensitivity(*_values("covariance", RotatedUniforms(), 10)) < 1


def _values(name, distribution, draws):
    which = (distribution, Apart(distribution))
    return (penalty_values(name, of, 256, draws, 200) for of in which)


@pytest.mark.parametrize(
    ("command", "name", "n_lines"),
    [
        (["gaussian", "--steps", "2", "--seeds", "1"], "gaussian", 6),
        (["ica", "--steps", "2", "--seeds", "2"], "ica_hadamard", 10),
        (["ica", "--steps", "2", "--seeds", "1", "--mixing", "rotation"], "ica_rotation", 10),
        (
            ["blindness", "--batch_size", "8", "--draws", "2", "--critic_steps", "1"],
            "blindness",
            6,
        ),
    ],
)
def test_commands_write_tables(command, name, n_lines, tmp_path, capsys):
    main([*command, "--out", str(tmp_path)])
    text = (tmp_path / f"{name}.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == n_lines
    assert len({line.count("|") for line in lines}) == 1
    assert text in capsys.readouterr().out
