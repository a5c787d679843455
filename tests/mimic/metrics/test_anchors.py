"""What every metric must say of codes whose relation to the factors is known."""

import math

import pytest
import torch

from mimic import metrics

SMALL = {"n_train": 1000, "n_test": 500}


def grid(*sizes, copies=4):
    """All combinations of factors of these sizes, several times."""
    values = torch.cartesian_prod(*map(torch.arange, sizes))
    return values.repeat(copies, 1)


def score(name, codes, factors, **settings):
    sizes = {} if name in ("MIG", "MIGSup", "Modularity", "IRS") else SMALL
    metric = getattr(metrics, name)(**sizes, **settings)
    metric.update(codes, factors)
    found = metric.compute()
    return found if isinstance(found, dict) else float(found)


def dci(codes, factors):
    return {k.removeprefix("dci_"): float(v) for k, v in score("DCI", codes, factors).items()}


@pytest.mark.parametrize(
    "name",
    ["MIG", "MIGSup", "Modularity", "Explicitness", "FactorVAEScore", "BetaVAEScore", "IRS"],
)
def test_factors_themselves_score_one(name):
    factors = grid(3, 4, 5)
    assert score(name, factors.double(), factors) == pytest.approx(1, abs=1e-6)


def test_factors_themselves_have_dci_one():
    factors = grid(2, 3, 3, copies=12)
    found = dci(factors.double(), factors)
    assert found == {name: pytest.approx(1, abs=1e-6) for name in found}


def test_factors_themselves_have_high_sap():
    continuous, binary = torch.rand(600, 3), grid(2, 2, 2, copies=100)
    assert score("SAP", continuous, continuous) > 0.97
    # The second best code of a balanced binary factor guesses.
    assert score("SAP", binary.double(), binary) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("name", "low"),
    [
        ("MIG", 0),
        ("MIGSup", 0),
        ("Modularity", 0),
        ("SAP", 0),
        ("FactorVAEScore", 1 / 2),
        ("BetaVAEScore", 1 / 2),
        # On a line of the diamond, half of its half-diagonal is the most that a code can deviate.
        ("IRS", 1 / 2),
    ],
)
def test_factors_rotated_by_45_degrees_score_low(name, low):
    factors = grid(6, 6, copies=10)
    a, b = factors.double().T
    codes = torch.stack([a + b, a - b], 1)
    assert score(name, codes, factors) == pytest.approx(low, abs=0.05)


def test_factors_rotated_by_45_degrees_have_low_dci():
    factors = grid(4, 4, copies=40)
    a, b = factors.double().T
    found = dci(torch.stack([a + b, a - b], 1), factors)
    assert max(found["disentanglement"], found["completeness"]) < 0.1
    assert found["informativeness"] == 1


@pytest.mark.parametrize(
    ("name", "chance"),
    [
        ("MIG", 0),
        ("MIGSup", 0),
        ("SAP", 0),
        ("Explicitness", 1 / 2),
        ("FactorVAEScore", 1 / 4),
        ("BetaVAEScore", 1 / 4),
        ("IRS", 0),
    ],
)
def test_random_codes_score_at_chance(name, chance):
    factors = torch.stack([torch.randint(size, (6000,)) for size in (2, 3, 4, 5)], 1)
    assert score(name, torch.rand(6000, 6), factors) == pytest.approx(chance, abs=0.06)


def test_random_codes_have_dci_at_chance():
    factors = torch.randint(3, (900, 2))
    found = dci(torch.rand(900, 8), factors)
    assert max(found["disentanglement"], found["completeness"]) < 0.1
    assert found["informativeness"] == pytest.approx(1 / 3, abs=0.08)


def test_duplicates_leave_no_gap_but_are_modular():
    factors = grid(3, 4, 5)
    codes = factors.double().repeat(1, 2)
    assert score("MIG", codes, factors) == pytest.approx(0, abs=1e-9)
    assert score("SAP", codes, factors) == 0
    assert score("MIGSup", codes, factors) == pytest.approx(1)
    assert score("Modularity", codes, factors) == pytest.approx(1)


def test_one_code_of_two_factors_is_seen_by_mig_sup_alone():
    factors = grid(4, 5)
    both = factors[:, 0] + 4.0 * factors[:, 1]
    codes = torch.stack([both, torch.zeros(len(both))], 1)
    assert score("MIG", codes, factors) == pytest.approx(1)
    # The other code is constant and counts 0.
    expected = (math.log(5) - math.log(4)) / math.log(20) / 2
    assert score("MIGSup", codes, factors) == pytest.approx(expected)
    squares = math.log(4) ** 2 / math.log(5) ** 2
    assert score("Modularity", codes, factors) == pytest.approx((1 - squares) / 2)


@pytest.mark.parametrize("name", ["MIG", "FactorVAEScore", "IRS"])
def test_constant_codes_change_nothing(name):
    factors = grid(3, 4, 5)
    codes = factors.double() @ torch.randn(3, 4, dtype=torch.float64)
    more = torch.cat([codes, torch.full((len(codes), 2), 7.0)], 1)
    assert score(name, more, factors) == pytest.approx(score(name, codes, factors), abs=1e-6)


@pytest.mark.parametrize("name", ["FactorVAEScore", "IRS"])
def test_constant_codes_alone_score_zero(name):
    settings = {"min_std": 0.0} if name == "FactorVAEScore" else {}
    assert score(name, torch.ones(60, 3), grid(3, 4, 5, copies=1), **settings) == 0


def test_codes_below_the_least_deviation_have_no_vote():
    factors = grid(3, 4, 5)
    codes = 1e-3 * factors.double()
    assert score("FactorVAEScore", codes, factors) == 0
    assert score("FactorVAEScore", codes, factors, min_std=1e-4) == 1


@pytest.mark.parametrize("name", ["MIG", "MIGSup", "Modularity", "Explicitness", "FactorVAEScore"])
def test_units_of_a_code_do_not_matter(name):
    factors = grid(3, 4, 5)
    codes = factors.double() @ torch.randn(3, 4, dtype=torch.float64)
    scaled = 8 * codes - 16
    assert score(name, scaled, factors) == pytest.approx(score(name, codes, factors), abs=0.01)


def test_continuous_factors_score_high_too():
    factors = torch.rand(3000, 3)
    for name, least in {"MIG": 0.9, "MIGSup": 0.9, "Modularity": 0.99, "IRS": 0.9}.items():
        assert score(name, 2 * factors - 1, factors, bins=10) > least
    for name in ("FactorVAEScore", "BetaVAEScore"):
        assert score(name, 2 * factors - 1, factors, bins=10) == pytest.approx(1)


def test_floating_point_factors_of_few_values_are_classes():
    factors = grid(3, 4, 5)
    # Values that bins of equal width would merge.
    uneven = factors.double().exp().exp()
    codes = torch.rand(len(factors), 4)
    for name in ("MIG", "SAP", "Explicitness", "FactorVAEScore", "IRS"):
        assert score(name, codes, uneven) == score(name, codes, factors)
