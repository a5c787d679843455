"""The study of layers: where the penalty is put, at how many layers, and which penalty it is.

    python -m mimic.study.layers [--seeds 3] [--out lightning_logs/mimic_study]

trains a small network on digits for every row, audits three of its layers on images that it
never saw, and draws the filters of the first one (Predoc III, chapter 7, feature 1). A run that
is done isn't done again.
"""

from functools import partial
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from common.errors import check_counts
from common.training.cli import run_command
from mimic.pictures import filter_grid
from mimic.results import show
from mimic.study.digits import (
    BEGIN,
    FIRST,
    LAST,
    LAYERS,
    MIDDLE,
    HalvedDigits,
    Settings,
    fitted,
    judged,
)
from mimic.study.grid import Numbers, run_grid, table
from mimic.study.report import against, dots, write_csv

WITHIN: Settings = {"n_classes": 10, "labels": "labels"}
PENALTIES: dict[str, Settings | None] = {
    "none": None,
    "first": {"layers": FIRST, "reduce": "per_location", "weight": 0.1, **BEGIN},
    "middle": {"layers": MIDDLE, "reduce": "per_location", "weight": 0.1, **BEGIN},
    "last": {"layers": LAST, "weight": 0.1, **BEGIN},
    "last, weight 0.03": {"layers": LAST, "weight": 0.03, **BEGIN},
    "all three": {
        "layers": [FIRST, MIDDLE, LAST],
        "reduce": "per_location",
        "weight": 0.1,
        **BEGIN,
    },
    "last, within classes": {"layers": LAST, "weight": 0.1, **WITHIN, **BEGIN},
    "last, covariance": {"layers": LAST, "weight": 0.003, "penalty": "covariance"},
    "last, VCReg": {"layers": LAST, "weight": 0.003, "penalty": "vcreg"},
    "last, distance correlation": {
        "layers": LAST,
        "weight": 2.0,
        "penalty": "distance_correlation",
    },
    "first, orthogonality": {
        "layers": "network.conv1.conv",
        "weight": 0.1,
        "penalty": "orthogonality",
    },
}
DRAWN = {
    "none": "none",
    "first": "MiMIc",
    "first, orthogonality": "orthogonality",
}
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
PANELS = {
    "test accuracy, %": "accuracy",
    "TC of the first layer, nats": "tc_first",
    "TC of the middle layer, nats": "tc_middle",
    "TC of the last layer, nats": "tc_last",
}


def layers(
    seeds: int = 3,
    out: Path = Path("lightning_logs/mimic_study"),
    epochs: int = 8,
    n_train: int = 2000,
    audit_steps: int = 2000,
) -> None:
    """Runs what isn't done yet; writes `layers.md`, `.csv` and `.png`, and `layers_filters.png`.

    Args:
        seeds: Runs of each row.
        out: Folder of the results.
        epochs: Of training.
        n_train: Digits to train on.
        audit_steps: Of each critic of the audit.
    """
    common = {"epochs": epochs, "n_train": n_train, "audit_steps": audit_steps}
    check_counts(1, **common)
    rows = {
        name: {"name": name, "penalty": penalty, **common} for name, penalty in PENALTIES.items()
    }
    results = run_grid(out / "layers", rows, seeds, partial(_run, out / "layers"))
    write_csv(out / "layers.csv", results)
    dots(results, PANELS, "none").savefig(out / "layers.png", dpi=120)
    _filters(out / "layers", seeds).savefig(out / "layers_filters.png", dpi=120)
    weights = "; ".join(f"{name}: {p['weight']:g}" for name, p in PENALTIES.items() if p)
    text = (
        f"{n_train} digits to train on, {epochs} epochs, {seeds} seeds. Cross-entropy of test "
        "less training images; total correlations (TC) in nats, audited on 2500 test images. "
        f"Weights: {weights}.\n\n"
        f"{table(results, COLUMNS, 'MiMIc at layer')}\n\n"
        f"Accuracy less that of none: {against(results, 'none', 'accuracy', '.1f')}.\n\n"
        f"ECE less that of none: {against(results, 'none', 'ece', '.1f')}.\n\n"
        f"Gap less that of none: {against(results, 'none', 'gap', '.3f')}."
    )
    show(out / "layers.md", text)


def _run(folder: Path, settings: Settings, seed: int) -> Numbers:
    fit = fitted(HalvedDigits(settings["n_train"]), settings, seed)
    if settings["name"] in DRAWN:
        filters = fit.network.get_parameter("conv1.conv.weight").detach()
        torch.save(filters.clone(), _saved(folder, settings["name"], seed))
    return judged(fit, list(LAYERS), settings["audit_steps"])


def _saved(folder: Path, name: str, seed: int) -> Path:
    return folder / f"filters_{'_'.join(name.split())}_{seed}.pt"


def _filters(folder: Path, seeds: int) -> Figure:
    """First filters, a line for each penalty and a block for each seed."""
    figure = Figure((1 + 2.6 * seeds, 0.4 + 1.6 * len(DRAWN)), layout="constrained")
    FigureCanvasAgg(figure)
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
    run_command([layers])
