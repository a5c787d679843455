"""Study of the penalty's place: at which layer, at how many layers, and which penalty.

    python -m mimic.studies.placement [--seeds 3] [--out lightning_logs/studies]

trains a small network on digits for every row, audits three of its layers on images that it
never saw, and draws the filters of the first layer (Predoc III, chapter 7, feature 1).
"""

from functools import partial
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from common.errors import check_counts, check_output
from common.experiments import Scores, compared_table, run_grid, write_report, write_results
from common.training.cli import run_command
from mimic.studies import OUT
from mimic.studies.digits import (
    AT_LAST,
    BEGIN,
    FIRST,
    LAST,
    LAYERS,
    MIDDLE,
    HalvedDigits,
    at,
    evaluated,
    fitted,
)
from mimic.studies.fitting import Settings
from mimic.supervised.pictures import filter_grid

BY_POSITION: Settings = {"reduce": "per_location", "weight": 0.1, **BEGIN}
PLACES: dict[str, Settings | None] = {
    "none": None,
    "first": {"layers": FIRST, **BY_POSITION},
    "middle": {"layers": MIDDLE, **BY_POSITION},
    "last": AT_LAST["MiMIc"],
    "last, weight 0.03": {**AT_LAST["MiMIc"], "weight": 0.03},
    "all three": {"layers": [FIRST, MIDDLE, LAST], **BY_POSITION},
    "last, within classes": AT_LAST["MiMIc within classes"],
    "last, covariance": AT_LAST["covariance"],
    "last, VCReg": AT_LAST["VCReg"],
    "last, distance correlation": at(LAST, 2.0, "distance_correlation"),
    "first, orthogonality": at("network.conv1.conv", 0.1, "orthogonality"),
}
DRAWN = {"none": "none", "first": "MiMIc", "first, orthogonality": "orthogonality"}
COLUMNS = {
    "accuracy, %": ("accuracy", ".1f"),
    "ECE, %": ("ece", ".1f"),
    "test − train, nats": ("gap", ".3f"),
    "TC first": ("tc_first", ".2f"),
    "TC middle": ("tc_middle", ".2f"),
    "TC last": ("tc_last", ".2f"),
    "TC last, within classes": ("tc_within", ".2f"),
    "dead channels": ("dead", ".1f"),
    "ms a step": ("ms", ".0f"),
}
CHANGES = {"Accuracy": ("accuracy", ".1f"), "ECE": ("ece", ".1f"), "Gap": ("gap", ".3f")}
PANELS = {
    "test accuracy, %": "accuracy",
    "TC of the first layer, nats": "tc_first",
    "TC of the middle layer, nats": "tc_middle",
    "TC of the last layer, nats": "tc_last",
}


def placement(
    seeds: int = 3, out: Path = OUT, epochs: int = 8, n_train: int = 2000, audit_steps: int = 2000
) -> None:
    """Runs what is not done yet; writes `placement` (.md, .csv, .png), `placement_filters.png`.

    Args:
        seeds: Number of runs of each row.
        out: Folder of the results.
        epochs: Number of epochs of training.
        n_train: Number of digits to train on.
        audit_steps: Number of steps of each critic of the audit.
    """
    size = {"epochs": epochs, "n_train": n_train, "audit_steps": audit_steps}
    check_counts(1, seeds=seeds, **size)
    check_output(out)
    folder = out / "placement"
    rows = {name: {"name": name, "penalty": penalty, **size} for name, penalty in PLACES.items()}
    results = run_grid(folder, rows, seeds, partial(_run, folder))
    write_results(folder, results, PANELS, "none")
    _filters(folder, seeds).savefig(out / "placement_filters.png", dpi=120)
    weights = "; ".join(f"{name}: {p['weight']:g}" for name, p in PLACES.items() if p)
    text = (
        f"{n_train} digits to train on, {epochs} epochs, {seeds} seeds. Cross-entropy of test "
        "less training images; total correlations (TC) in nats, audited on 2500 test images. "
        f"Weights: {weights}.\n\n"
        f"{compared_table(results, COLUMNS, 'MiMIc at layer', 'none', CHANGES)}"
    )
    write_report(out / "placement.md", text)


def _run(folder: Path, settings: Settings, seed: int) -> Scores:
    fit = fitted(HalvedDigits(settings["n_train"]), settings, seed)
    if settings["name"] in DRAWN:
        filters = fit.network.get_parameter("conv1.conv.weight").detach()
        torch.save(filters.clone(), _saved(folder, settings["name"], seed))
    return evaluated(fit, list(LAYERS), settings["audit_steps"])


def _saved(folder: Path, name: str, seed: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"filters_{'_'.join(name.split())}_{seed}.pt"


def _filters(folder: Path, seeds: int) -> Figure:
    """Filters of the first layer, a row of panels for each penalty and a column for each seed."""
    figure = Figure((1 + 2.6 * seeds, 0.4 + 1.6 * len(DRAWN)), layout="constrained")
    axes = figure.subplots(len(DRAWN), seeds, squeeze=False)
    for i, (name, title) in enumerate(DRAWN.items()):
        for seed, panel in enumerate(axes[i]):
            filters: Tensor = torch.load(_saved(folder, name, seed), weights_only=True)
            panel.imshow(filter_grid(filters, columns=4)[0].numpy(), cmap="gray", vmin=0, vmax=255)
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set_visible(False)
            if seed == 0:
                panel.set_ylabel(title)
            if i == 0:
                panel.set_title(f"seed {seed}", fontsize=10)
    return figure


if __name__ == "__main__":
    run_command([placement])
