"""All disentanglement metrics at once."""

from torchmetrics import Metric, MetricCollection

from mimic.metrics.information import MIG, MIGSup, Modularity
from mimic.metrics.interventional import IRS, BetaVAEScore, FactorVAEScore
from mimic.metrics.predictive import DCI, SAP, Explicitness


def disentanglement_metrics(
    fast: bool = False,
    bins: int = 20,
    n_train: int = 10000,
    n_test: int = 5000,
    batch_size: int = 64,
    seed: int = 0,
    prefix: str | None = None,
) -> MetricCollection:
    """Every metric of codes and factors, keeping the collected rows once for all.

    At the end of an epoch log what `compute` returns, then `reset`: Lightning refuses to log the
    collection itself, since DCI is three numbers.

    Args:
        fast: Leave out what fits a model to each factor: SAP and explicitness, which take seconds,
            and DCI, which takes minutes. `add_metrics({"dci": DCI(n_train=1000)})` brings that
            one back on fewer rows.
        bins: Bins of a code or a continuous factor.
        n_train: Rows, or draws of rows, to fit on.
        n_test: Rows, or draws of rows, to judge by.
        batch_size: Rows in a draw of the FactorVAE and β-VAE scores.
        seed: Seed of all of them.
        prefix: Before every name, such as `"val/"`.
    """
    draws = {"n_train": n_train, "n_test": n_test, "batch_size": batch_size}
    metrics: dict[str, Metric] = {
        "mig": MIG(bins, n_train, seed),
        "mig_sup": MIGSup(bins, n_train, seed),
        "modularity": Modularity(bins, n_train, seed),
        "irs": IRS(bins, n_train, seed=seed),
        "factor_vae": FactorVAEScore(bins, seed=seed, **draws),
        "beta_vae": BetaVAEScore(bins, seed=seed, **draws),
    }
    if not fast:
        metrics["sap"] = SAP(bins, n_train, n_test, seed)
        metrics["explicitness"] = Explicitness(bins, n_train, n_test, seed)
        metrics["dci"] = DCI(bins, n_train, n_test, seed)
    return MetricCollection(metrics, prefix=prefix)  # type: ignore[arg-type]
