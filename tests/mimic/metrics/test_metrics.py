"""What every metric obeys, whatever it measures."""

import functools

import numpy as np
import pytest
import torch
from sklearn.ensemble import GradientBoostingClassifier

from common.errors import InputError
from mimic import metrics
from mimic.metrics.interventional import Interventions

BY_ROWS = [metrics.MIG, metrics.MIGSup, metrics.Modularity, metrics.IRS]
BY_DRAWS = [metrics.FactorVAEScore, metrics.BetaVAEScore]
BY_TESTS = [metrics.SAP, metrics.Explicitness, metrics.DCI, *BY_DRAWS]
ALL = BY_ROWS + BY_TESTS
every = pytest.mark.parametrize("kind", ALL)


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    """No law here depends on how well the trees predict."""
    forest = functools.partial(GradientBoostingClassifier, n_estimators=5)
    monkeypatch.setattr("sklearn.ensemble.GradientBoostingClassifier", forest)


def small(kind, **settings):
    sizes = {"n_train": 100}
    if kind in BY_TESTS:
        sizes["n_test"] = 50
    if kind in BY_DRAWS:
        sizes["batch_size"] = 2  # with more they would score 1 whatever is drawn
    return kind(**{**sizes, **settings})


def rows(count=150):
    factors = torch.stack([torch.randint(size, (count,)) for size in (2, 3, 4)], 1)
    return factors.float() @ torch.randn(3, 5) + 0.3 * torch.randn(count, 5), factors


def numbers(metric, *batches):
    for codes, factors in batches:
        metric.update(codes, factors)
    found = metric.compute()
    return [float(x) for x in (found.values() if isinstance(found, dict) else [found])]


def global_numpy_state():
    """What scikit-learn draws from where nobody gives it a seed."""
    _, key, position, *rest = np.random.get_state()  # noqa: NPY002
    return key.tobytes(), position, *rest


@every
def test_batches_count_as_one(kind):
    codes, factors = rows()
    batches = zip(codes.split(40), factors.split(40), strict=True)
    assert numbers(small(kind), *batches) == numbers(small(kind), (codes, factors))


@every
def test_devices_count_as_one(kind):
    codes, factors = rows()

    def gathered(x, group):
        return [x, codes[80:] if x.is_floating_point() else factors[80:]]

    metric = small(kind, dist_sync_fn=gathered, distributed_available_fn=lambda: True)
    first = numbers(metric, (codes[:80], factors[:80]))
    assert first == numbers(small(kind), (codes, factors))


@every
def test_reset_forgets(kind):
    metric, data = small(kind), rows()
    numbers(metric, rows())
    metric.reset()
    assert numbers(metric, data) == numbers(small(kind), data)


@every
def test_order_of_codes_does_not_matter(kind):
    codes, factors = rows()
    # In a batch of two, one row may come twice: then all codes are still, and the first one votes.
    settings = {"batch_size": 8} if kind in BY_DRAWS else {}
    found = numbers(small(kind, **settings), (codes[:, [3, 1, 4, 0, 2]], factors))
    expected = numbers(small(kind, **settings), (codes, factors))
    assert found == pytest.approx(expected, abs=0.02)


@every
def test_scores_are_single_numbers_between_0_and_1(kind):
    metric = small(kind)
    metric.update(*rows())
    found = metric.compute()
    for value in found.values() if isinstance(found, dict) else [found]:
        assert (value.dtype, value.shape) == (torch.float32, ())
        assert 0 <= value <= 1


@every
def test_own_seed_and_no_other_random_state(kind):
    data = rows(400)
    states = torch.get_rng_state(), global_numpy_state()
    first = numbers(small(kind), data)
    assert torch.get_rng_state().equal(states[0])
    assert global_numpy_state() == states[1]
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    assert numbers(small(kind), data) == first
    assert any(numbers(small(kind, seed=seed), data) != first for seed in (1, 2, 3))


@every
@pytest.mark.parametrize("count", [16, 40])
def test_few_rows_are_used_as_they_are(kind, count):
    factors = torch.arange(count)[:, None] // torch.tensor([1, 2]) % 2
    assert np.isfinite(numbers(kind(), (rows(count)[0], factors))).all()


@every
def test_a_value_that_comes_once_is_no_obstacle(kind):
    for seed in range(4):  # in training, in testing, or in neither
        codes, factors = rows()
        factors[7, 1] = 99
        assert np.isfinite(numbers(small(kind, seed=seed), (codes, factors))).all()


@pytest.mark.parametrize("kind", BY_TESTS[:3])
def test_sorted_rows_are_split_at_random(kind):
    codes, factors = rows()
    order = factors[:, 2].argsort()
    found = numbers(small(kind), (codes[order], factors[order]))
    assert found == pytest.approx(numbers(small(kind), (codes, factors)), abs=0.15)


@every
def test_codes_may_be_half_precision_and_carry_gradients(kind):
    codes, factors = rows()
    codes = codes.bfloat16()
    first = numbers(small(kind), (codes.requires_grad_(), factors.int()))
    assert first == numbers(small(kind), (codes.float(), factors))


@every
@pytest.mark.parametrize(
    ("codes", "factors", "message"),
    [
        (torch.rand(9, 3), torch.arange(8)[:, None], "same n"),
        (torch.rand(9), torch.arange(9)[:, None], "same n"),
        (torch.rand(9, 3), torch.arange(9), "same n"),
        (torch.ones(9, 3).long(), torch.arange(9)[:, None], "floating-point codes"),
        (torch.full((9, 3), torch.nan), torch.arange(9)[:, None], "codes that aren't all finite"),
        (torch.rand(9, 3), torch.full((9, 1), torch.inf), "factors that aren't all finite"),
    ],
)
def test_what_are_no_rows_is_refused_at_once(kind, codes, factors, message):
    with pytest.raises(InputError, match=message):
        kind().update(codes, factors)


@every
def test_rows_of_other_columns_are_refused(kind):
    metric, (codes, factors) = kind(), rows()
    metric.update(codes, factors)
    for batch in ((codes[:, :4], factors), (codes, factors[:, :2])):
        with pytest.raises(InputError, match="call reset"):
            metric.update(*batch)


@every
def test_rows_without_a_score_are_refused(kind):
    codes, factors = rows()
    with pytest.raises(InputError, match=r"got 1 row\(s\)"):
        numbers(kind(), (codes[:1], factors[:1]))
    constant = factors.index_fill(1, torch.tensor([1]), 5)
    with pytest.raises(InputError, match=r"one value only of factor\(s\) \[1\]"):
        numbers(small(kind), (codes, constant))


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
@every
def test_no_rows_are_refused(kind):
    with pytest.raises(InputError, match="call update"):
        kind().compute()


@pytest.mark.parametrize("kind", [metrics.MIG, metrics.SAP, metrics.DCI])
def test_gaps_between_codes_need_two(kind):
    codes, factors = rows()
    with pytest.raises(InputError, match=r"got 1 code\(s\)"):
        numbers(kind(), (codes[:, :1], factors))


@pytest.mark.parametrize(
    "kind",
    [
        metrics.MIGSup,
        metrics.Modularity,
        metrics.DCI,
        metrics.FactorVAEScore,
        metrics.BetaVAEScore,
    ],
)
def test_comparisons_of_factors_need_two(kind):
    codes, factors = rows()
    with pytest.raises(InputError, match=r"got 1 factor\(s\)"):
        numbers(kind(), (codes, factors[:, :1]))


@every
def test_impossible_settings_are_refused(kind):
    for setting in ("bins", "n_train"):
        with pytest.raises(InputError, match=f"got {setting} 0"):
            kind(**{setting: 0})


def test_factors_without_a_repeated_value_are_refused():
    codes, factors = rows(30)
    factors[:, 0] = torch.arange(30)
    with pytest.raises(InputError, match="comes twice"):
        numbers(metrics.FactorVAEScore(), (codes, factors))


def test_interventions_hold_one_factor_still():
    factors = torch.cat([rows()[1], torch.tensor([[9, 0, 0]])])
    interventions = Interventions(factors, batch_size=8)
    for k, batch in enumerate(interventions.batches(300)):
        values = factors[batch][..., k]
        assert batch.shape[1] == 8
        assert (values == values[:, :1]).all()
        assert 9 not in values  # comes once
    for k, (first, second) in enumerate(interventions.pairs(300)):
        assert (factors[first][..., k] == factors[second][..., k]).all()
        assert (first != second).all()


def test_interventions_draw_factors_alike_and_values_as_often_as_they_come():
    factors = (torch.arange(40)[:, None] < torch.tensor([10, 20])).long()
    interventions = Interventions(factors, batch_size=4)
    for draws in (interventions.batches(8000), [a for a, _ in interventions.pairs(8000)]):
        assert sum(map(len, draws)) == 8000
        for k, share in enumerate((10 / 40, 20 / 40)):
            assert len(draws[k]) / 8000 == pytest.approx(1 / 2, abs=0.03)
            found = factors[draws[k][:, 0], k].double().mean()
            assert float(found) == pytest.approx(share, abs=0.03)
            rows_used = torch.bincount(draws[k].flatten(), minlength=40)
            assert rows_used.min() > 0


@pytest.mark.parametrize("fast", [True, False])
def test_collection_holds_what_each_says_and_keeps_rows_once(fast):
    data = rows()
    together = metrics.disentanglement_metrics(
        fast, n_train=100, n_test=50, batch_size=2, prefix="val/"
    )
    for codes, factors in zip(*(x.split(50) for x in data), strict=True):
        together.update(codes, factors)
    found = together.compute()
    names = {
        "mig": metrics.MIG,
        "mig_sup": metrics.MIGSup,
        "modularity": metrics.Modularity,
        "irs": metrics.IRS,
        "factor_vae": metrics.FactorVAEScore,
        "beta_vae": metrics.BetaVAEScore,
    }
    slow = {"sap": metrics.SAP, "explicitness": metrics.Explicitness}
    names.update({} if fast else slow)
    expected = {f"val/{name}": numbers(small(kind), data)[0] for name, kind in names.items()}
    if not fast:
        parts = ("disentanglement", "completeness", "informativeness")
        values = numbers(small(metrics.DCI), data)
        expected |= {f"val/dci_{p}": v for p, v in zip(parts, values, strict=True)}
    assert {name: float(value) for name, value in found.items()} == expected
    assert len(together.compute_groups) == 1
    together.reset()
    assert not any(metric.codes or metric.factors for metric in together.values())
