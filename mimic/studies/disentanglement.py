"""Study of disentanglement: whether independent codes line up with the factors of the data.

    python -m mimic.studies.disentanglement [--seeds 3] [--out lightning_logs/studies]

trains `Coder` to predict the factors of rendered sprites by a linear map of its codes, with each
penalty on the codes, and writes `disentanglement.md` and two figures (Predoc III, chapter 7,
feature 3). The task leaves the codes' axes open: a linear head undoes any invertible mixture of
the factors. The factors are independent and not Gaussian, so that only codes which are the factors
themselves have no total correlation (Comon 1994, theorem 11), while uncorrelated codes may still
be any rotation of them.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from pytorch_lightning import seed_everything
from torch import Tensor

from common.errors import InputError, check_counts, check_output
from common.experiments import (
    Results,
    Scores,
    compared_table,
    results_table,
    run_grid,
    write_report,
    write_results,
)
from common.training.cli import run_command
from mimic.critic.estimators import gaussian_total_correlation
from mimic.measure import measure_total_correlation
from mimic.metrics import DCI, disentanglement_metrics
from mimic.metrics.information import mutual_information_matrix
from mimic.studies import OUT
from mimic.studies.fitting import Settings, penalties, tested, trained
from mimic.supervised.data.labelled import Labelled
from mimic.supervised.data.sprites import RenderedSprites
from mimic.supervised.module import SupervisedModule
from mimic.supervised.networks import Coder
from mimic.supervised.tasks import FactorRegression

LAYER = "network.code"
FACTORS = RenderedSprites.factor_names
# The task comes first: a factor that is not learned yet would be given up for independence.
LATER: Settings = {"layers": [LAYER], "warmup_steps": 200, "ramp_steps": 200}
ROWS: dict[str, Settings | None] = {
    "none": None,
    "covariance": {"penalty": "covariance", "weight": 1.0, **LATER},
    "VCReg": {"penalty": "vcreg", "weight": 0.1, **LATER},
    "Barlow": {"penalty": "barlow", "weight": 0.1, **LATER},
    "HSIC": {"penalty": "hsic", "weight": 100.0, **LATER},
    "distance correlation": {"penalty": "distance_correlation", "weight": 10.0, **LATER},
    "MiMIc": {"weight": 0.3, "n_critic": 2, "critic_lr": 3e-3, **LATER},
}
SHOWN = MORE_CODES = ("none", "covariance", "MiMIc")
TASK = {
    "mse": ("test/mse", ".4f"),
    "R²": ("test/r2", ".3f"),
    "TC, nats": ("tc", ".3f"),
    "of it Gaussian": ("tc_gaussian", ".3f"),
    "explicitness": ("explicitness", ".3f"),
    "seconds of training": ("training", ".0f"),
}
CHANGES = {
    "MIG": ("mig", ".3f"),
    "DCI disentanglement": ("dci_disentanglement", ".3f"),
    "modularity": ("modularity", ".3f"),
}
SCORES = CHANGES | {
    "MIG-sup": ("mig_sup", ".3f"),
    "DCI completeness": ("dci_completeness", ".3f"),
    "SAP": ("sap", ".3f"),
    "IRS": ("irs", ".3f"),
    "FactorVAE": ("factor_vae", ".3f"),
    "β-VAE": ("beta_vae", ".3f"),
}
DOTS = {heading: key for heading, (key, _) in CHANGES.items()} | {"TC, nats": "tc"}


def disentanglement(
    seeds: int = 3,
    out: Path = OUT,
    epochs: int = 20,
    n_train: int = 10000,
    n_test: int = 8000,
    n_trees: int = 500,
    audit_steps: int = 1000,
    more_codes: int = 0,
) -> None:
    """Runs what is not done yet and writes `disentanglement.md`.

    Args:
        seeds: Number of runs of each row.
        out: Folder of the results.
        epochs: Number of epochs of training.
        n_train: Number of images for training.
        n_test: Number of images for all scores.
        n_trees: Number of images on which DCI, the slowest metric, trains; as many test it.
        audit_steps: Number of steps of the critic that measures the total correlation.
        more_codes: Number of codes, more than factors, of a second part. 0: no second part.
    """
    if more_codes < 0 or 0 < more_codes <= len(FACTORS):
        raise InputError(f"got more_codes {more_codes} for {len(FACTORS)} factors; give more or 0")
    size = dict(epochs=epochs, n_train=n_train, n_test=n_test, n_trees=n_trees)
    size["audit_steps"] = audit_steps
    check_counts(1, seeds=seeds, **size)
    check_output(out)
    parts: dict[int, Results] = {}
    wanted = {len(FACTORS): tuple(ROWS)} | ({more_codes: MORE_CODES} if more_codes else {})
    for codes, names in wanted.items():
        rows = {name: {"codes": codes, "penalty": ROWS[name], **size} for name in names}
        folder = out / "disentanglement" / f"{codes}_codes"
        parts[codes] = run_grid(folder, rows, seeds, run)
    for codes, results in parts.items():
        matrices(results, codes).savefig(out / f"disentanglement_matrix_{codes}.png", dpi=120)
        write_results(out / f"disentanglement_scores_{codes}", results, DOTS, "none")
    write_report(out / "disentanglement.md", report(parts, seeds, size))


def run(settings: Mapping[str, Any], seed: int) -> Scores:
    """Trains and evaluates one network."""
    counts = {"n_train": settings["n_train"], "n_test": settings["n_test"], "n_val": 100}
    data = RenderedSprites(**counts, batch_size=128)
    seed_everything(seed, verbose=False)
    network = Coder(data.shape, len(FACTORS), settings["codes"], (8, 16), 128)
    callbacks = penalties(settings["penalty"], seed)
    begin = time.perf_counter()
    task = FactorRegression(data.factor_sizes)
    module, _ = trained(network, task, data, callbacks, settings["epochs"], lr=5e-3)
    training = time.perf_counter() - begin
    codes, factors = encoded(module, data)
    return {
        **tested(module, data, []),
        **scores(codes, factors, settings["n_trees"]),
        "tc": measure_total_correlation(codes, steps=settings["audit_steps"]).value,
        "tc_gaussian": float(gaussian_total_correlation(codes)),
        "training": training,
    }


def encoded(module: SupervisedModule, data: RenderedSprites) -> tuple[Tensor, Tensor]:
    """Codes `[n d]` of the test images and their factors `[n k]`."""
    assert isinstance(module.network, Coder)
    module.eval()
    data.setup("test")
    batches: list[Labelled] = list(data.test_dataloader())
    with torch.no_grad():
        codes = [module.network.encode(batch.images / 255) for batch in batches]
    return torch.cat(codes), torch.cat([batch.labels for batch in batches])


def scores(codes: Tensor, factors: Tensor, n_trees: int) -> Scores:
    """Every metric, and the information of each code about each factor.

    `told_<i>_<k>` is the mutual information of code i and factor k, as a share of the factor's
    entropy.
    """
    half = len(codes) // 2
    metrics = disentanglement_metrics(fast=False, n_train=half, n_test=half)
    metrics["dci"] = DCI(n_train=n_trees, n_test=n_trees)
    metrics.update(codes, factors)
    numbers = {key: float(value) for key, value in metrics.compute().items()}
    entropies = torch.tensor(RenderedSprites.factor_sizes).log()
    told = mutual_information_matrix(codes, factors) / entropies
    cells = {f"told_{i}_{k}": float(x) for i, row in enumerate(told) for k, x in enumerate(row)}
    return {**numbers, **cells}


def report(parts: Mapping[int, Results], seeds: int, size: Mapping[str, int]) -> str:
    """Tables of all parts, in Markdown."""
    lines = [
        "# Disentanglement: codes of rendered sprites",
        f"{seeds} seeds; mean ± standard deviation. {size['epochs']} epochs on "
        f"{size['n_train']} images; all scores on {size['n_test']} other images. TC is "
        "measured by newly made densities and critics; its Gaussian part is the part that "
        "covariances show. All scores are from 0 to 1, and more is better.",
    ]
    for codes, results in parts.items():
        lines += [
            f"## {codes} codes for {len(FACTORS)} factors",
            results_table(results, TASK, "penalty on the codes"),
            compared_table(results, SCORES, "penalty on the codes", "none", CHANGES),
            f"![information of each code about each factor](disentanglement_matrix_{codes}.png)",
            f"![scores](disentanglement_scores_{codes}.png)",
        ]
    return "\n\n".join(lines)


def matrices(results: Results, codes: int) -> Figure:
    """Information of each code about each factor in the first run, a panel for each row."""
    rows = [name for name in SHOWN if name in results]
    figure = Figure((3.6 * len(rows) + 1, 1.6 + 0.34 * codes), layout="constrained")
    panels = figure.subplots(1, len(rows), squeeze=False)[0]
    for panel, name in zip(panels, rows, strict=True):
        numbers = results[name][0]
        told = [[numbers[f"told_{i}_{k}"] for k in range(len(FACTORS))] for i in range(codes)]
        # Codes have no order: they are sorted by their factor, so that a diagonal appears.
        told.sort(key=lambda row: (row.index(max(row)), -max(row)))
        image = panel.imshow(told, vmin=0, vmax=1, cmap="Blues", aspect="auto")
        for (i, k), x in np.ndenumerate(told):
            colour = "white" if x > 0.55 else "0.25"
            panel.text(k, i, f"{x:.2f}", ha="center", va="center", color=colour, fontsize=8)
        panel.set_xticks(range(len(FACTORS)), FACTORS, rotation=30, ha="right")
        panel.set_yticks([])
        panel.set_title(name)
    panels[0].set_ylabel("code")
    figure.colorbar(image, ax=list(panels), label="told, share of the factor's entropy")
    return figure


if __name__ == "__main__":
    run_command([disentanglement])
