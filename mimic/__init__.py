"""MiMIc: minimization of mutual interaction among a network's channels (Predoc III, chapter 7)."""

from mimic.audit import TotalCorrelationAudit
from mimic.critic.estimators import gaussian_total_correlation, total_correlation
from mimic.features.shuffling import shuffle_channels
from mimic.measure import measure_total_correlation, mutual_information
from mimic.plugin import MiMIc
from mimic.regularizer import MiMIcRegularizer

__all__ = [
    "MiMIc",
    "MiMIcRegularizer",
    "TotalCorrelationAudit",
    "gaussian_total_correlation",
    "measure_total_correlation",
    "mutual_information",
    "shuffle_channels",
    "total_correlation",
]
