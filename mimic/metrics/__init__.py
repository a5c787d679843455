"""Disentanglement metrics of codes and known factors, as torchmetrics and as functions."""

from mimic.metrics.base import Rows
from mimic.metrics.collection import disentanglement_metrics
from mimic.metrics.information import (
    MIG,
    MIGSup,
    Modularity,
    mig,
    mig_sup,
    modularity,
    mutual_information_matrix,
)
from mimic.metrics.interventional import IRS, BetaVAEScore, FactorVAEScore, irs
from mimic.metrics.predictive import (
    DCI,
    SAP,
    Explicitness,
    completeness,
    disentanglement,
    explicitness,
    importance_matrix,
    predictability_matrix,
    sap,
)

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
    "Rows",
    "completeness",
    "disentanglement",
    "disentanglement_metrics",
    "explicitness",
    "importance_matrix",
    "irs",
    "mig",
    "mig_sup",
    "modularity",
    "mutual_information_matrix",
    "predictability_matrix",
    "sap",
]
