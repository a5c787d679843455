"""Estimates come near closed forms at a small budget; no critic is trained twice."""

import pytest

from common.errors import InputError
from mimic.measure import Measurement
from mimic.studies import estimates
from mimic.studies.distributions import (
    Equicorrelated,
    ExclusiveOr,
    GaussianVectors,
    Independent,
    RotatedUniforms,
)
from mimic.studies.estimates import METHODS, PUBLISHED, Budget, estimate, main

QUICK = Budget(600, 256, shuffles=3)
FEW = QUICK._replace(steps=400)
TINY = Budget(1, 8, held_out=20, shuffles=1)


def found(distribution, budget=QUICK, **options):
    return estimate(distribution, METHODS["mimic"], budget, 0, **options)["MiMIc"]


def test_gaussians():
    assert found(Equicorrelated(4, 2.0), FEW) == pytest.approx(2, rel=0.1)


def test_what_no_pair_shows():
    assert found(ExclusiveOr(), FEW) == pytest.approx(ExclusiveOr().truth, rel=0.1)


def test_what_no_covariance_shows():
    assert 0.2 < found(RotatedUniforms()) < 0.34


def test_independent_channels_share_nothing():
    assert found(Independent(4), FEW) == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("decomposition", ["line", "tree"])
def test_terms_of_vectors_add_up(decomposition):
    of = GaussianVectors(2.0, c=3, d=4)
    few = Budget(100, 256, shuffles=2)
    assert found(of, few, decomposition=decomposition) == pytest.approx(2, rel=0.1)


def test_batches_are_read_too():
    values = estimate(Equicorrelated(4, 1.0), METHODS["mimic"], Budget(100, 256, batches=50), 0)
    assert values["MiMIc, on batches"] == pytest.approx(1, rel=0.1)


def test_a_seed_decides():
    for method in METHODS.values():
        once, again = (estimate(Independent(3), method, TINY, 0) for _ in range(2))
        assert once.keys() == method.columns.keys()
        assert all(once[column] == again[column] for column in method.columns)


def test_table(tmp_path, monkeypatch, capsys):
    """Bold is what all seeds have within 10 %; shown is their mean with the worst error."""
    errors = {("MiMIc", 0): 0.0, ("MiMIc", 1): 0.08, ("DV", 0): 0.0, ("DV", 1): -0.3}

    def says(distribution, method, budget, seed):
        assert budget == Budget(7, 256, 0.1)
        return {c: distribution.truth * (1 + errors[c, seed]) for c in method.columns}

    monkeypatch.setattr(estimates, "estimate", says)
    of = [Equicorrelated(4, 2.0), ExclusiveOr()]
    monkeypatch.setattr(estimates, "table_distributions", lambda: of)
    options = ["--steps", "7", "--seeds", "2", "--methods", "[mimic, dv]", "--lr", "0.1"]
    main(["table", "--out", str(tmp_path), *options])
    assert (tmp_path / "table.md").read_text().splitlines()[:6] == [
        "| channels | truth, nats | MiMIc | DV |",
        "| --- | --- | --- | --- |",
        "| equicorrelated, 4 channels | 2.000 | **2.08 (+8.0 %)** | 1.7 (-30.0 %) |",
        "| exclusive or | 0.693 | **0.7209 (+8.0 %)** | 0.5892 (-30.0 %) |",
        "| *Gaussian rows within 10 %* |  | 1 of 1 | 0 of 1 |",
        "| *other rows within 10 %* |  | 1 of 1 | 0 of 1 |",
    ]
    assert str(tmp_path / "table.md") in capsys.readouterr().out


def test_critics_are_trained_once(tmp_path, monkeypatch):
    asked = []

    def says(distribution, method, budget, seed):
        asked.append((distribution.name, budget.steps, seed))
        return {"DV": 7.0}

    monkeypatch.setattr(estimates, "estimate", says)
    known = [Equicorrelated(4, 2.0), Equicorrelated(4, 6.0)]
    monkeypatch.setattr(estimates, "table_distributions", lambda: known)
    for steps, seeds in ((3, 1), (3, 1), (3, 2), (4, 1)):
        estimates.table(tmp_path, steps, seeds, ["dv"])
    found = [(steps, seed) for _, steps, seed in asked]
    assert found == [*[(3, 0)] * 2, *[(3, 1)] * 2, *[(4, 0)] * 2]


def test_table_of_what_diverged(tmp_path, monkeypatch):
    monkeypatch.setattr(estimates, "estimate", lambda *_: {"DV": -123456.0})
    monkeypatch.setattr(estimates, "table_distributions", lambda: [Equicorrelated(4, 2.0)])
    estimates.table(tmp_path, methods=["dv"])
    assert "| 2.000 | -1.235e+05 |" in (tmp_path / "table.md").read_text()


def test_published(tmp_path, monkeypatch):
    def says(distribution, method, budget, seed, way):
        assert (budget.steps, budget.batch_size) == (4000, 64)
        return {"MiMIc": distribution.truth + seed, "MiMIc, on batches": 1.0}

    monkeypatch.setattr(estimates, "estimate", says)
    main(["published", "--out", str(tmp_path)])
    lines = (tmp_path / "published.md").read_text().splitlines()
    assert lines[0] == "| truth, nats | 2 | 4 | 6 | 8 | 10 |"
    assert "| MiMIc, tree | 3.00 ± 1.00 | 5.00 ± 1.00 | 7.00 ± 1.00 |" in lines[4]
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 2 + 6 + len(PUBLISHED)
    assert len({row.count("|") for row in rows}) == 1


def test_samples(tmp_path, monkeypatch):
    measurements = []

    def measure(z, noise, seed):
        measurements.append((len(z), noise, seed))
        return Measurement(float(len(z) + seed), 0.0, float(len(z)), 0.0)

    monkeypatch.setattr(estimates, "measure_total_correlation", measure)
    monkeypatch.setattr(estimates, "sample_distributions", lambda: [Equicorrelated(4, 2.0)])
    command = ["samples", "--sizes", "[40, 1000]", "--out", str(tmp_path)]
    main(command)
    main(command)  # measures nothing again
    assert measurements == [(n, 0.0, seed) for seed in range(3) for n in (40, 1000)]
    assert (tmp_path / "samples.md").read_text().splitlines()[:3] == [
        "| channels | truth, nats | 40 samples | 1,000 samples |",
        "| --- | --- | --- | --- |",
        "| equicorrelated, 4 channels | 2.000 | 41.00 ± 1.00 / 40.00 ± 0.00 | "
        "1001.00 ± 1.00 / 1000.00 ± 0.00 |",
    ]


def test_a_count_must_be_at_least_one(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["table", "--steps", "0", "--out", str(tmp_path)])
    assert "got steps 0; give 1 or more" in capsys.readouterr().err
    with pytest.raises(InputError, match="seeds 0"):
        estimates.published(seeds=0)
