"""Disentanglement metrics of codes and known factors, as torchmetrics.

The same scores as functions are in `information`, `interventional` and `predictive`.
"""

from torchmetrics import Metric, MetricCollection

from mimic.metrics.information import MIG, MIGSup, Modularity
from mimic.metrics.interventional import IRS, BetaVAEScore, FactorVAEScore
from mimic.metrics.predictive import DCI, SAP, Explicitness

__all__ = [
    "DCI",
    "IRS",
    "MIG",
    "SAP",
    "BetaVAEScore",
    "Explicitness",
    "FactorVAEScore",
    "MIGSup",
    "Modularity",
    "disentanglement_metrics",
]


def disentanglement_metrics(
    fast: bool = False,
    bins: int = 20,
    n_train: int = 10000,
    n_test: int = 5000,
    batch_size: int = 64,
    seed: int = 0,
    prefix: str | None = None,
) -> MetricCollection:
    """All metrics of codes and factors, which keep the collected rows once.

    At the end of an epoch log the result of `compute`, then `reset`: Lightning refuses to log the
    collection itself, since DCI is three numbers.

    Args:
        fast: Leave out metrics that fit a model to each factor: SAP and explicitness, which take
            seconds, and DCI, which takes minutes. `add_metrics({"dci": DCI(n_train=1000)})` adds
            DCI on fewer rows.
        bins: Number of bins of a code or a continuous factor.
        n_train: Number of rows, or draws of rows, to fit on.
        n_test: Number of rows, or draws of rows, to evaluate on.
        batch_size: Number of rows in a draw of the FactorVAE and β-VAE scores.
        seed: Seed of all metrics.
        prefix: Prefix of every name, such as `"val/"`. None: no prefix.
    """
    own = {"bins": bins, "n_train": n_train, "seed": seed}
    tests = {**own, "n_test": n_test}
    metrics: dict[str, Metric] = {
        "mig": MIG(**own),
        "mig_sup": MIGSup(**own),
        "modularity": Modularity(**own),
        "irs": IRS(**own),
        "factor_vae": FactorVAEScore(batch_size=batch_size, **tests),
        "beta_vae": BetaVAEScore(batch_size=batch_size, **tests),
    }
    if not fast:
        metrics |= {
            "sap": SAP(**tests),
            "explicitness": Explicitness(**tests),
            "dci": DCI(**tests),
        }
    return MetricCollection(metrics, prefix=prefix)  # type: ignore[arg-type]
