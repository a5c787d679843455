"""Study of domains: whether independent features transfer to another domain.

    python -m mimic.studies.domains [--seeds 3] [--out lightning_logs/studies]

A small version of the question of Cityscapes and BDD100K (Predoc III, chapter 7, feature 4):
trains `SmallSegmenter` on rendered streets by day, with each penalty on its bottleneck, tests it
by day and by night, and writes `domains.md` and a figure.
"""

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from pytorch_lightning import seed_everything

from common.errors import check_counts, check_output
from common.experiments import Scores, compared_table, run_grid, write_csv, write_report
from common.training.cli import run_command
from mimic.audit import TotalCorrelationAudit
from mimic.studies import OUT
from mimic.studies.fitting import Settings, penalties, tested, trained
from mimic.supervised.data.scenes import DomainName, RenderedScenes
from mimic.supervised.module import SupervisedModule
from mimic.supervised.networks import SmallSegmenter
from mimic.supervised.tasks import Segmentation

LAYER = "network.decoder.aspp"
TESTED: tuple[DomainName, ...] = ("day", "night")
# The critic learns for an epoch before its estimate counts.
BEGIN = {"warmup_steps": 31, "ramp_steps": 31}
AT_BOTTLENECK: Settings = {"layers": [LAYER], "weight": 0.01, "reduce": "per_location", **BEGIN}
ROWS: dict[str, Settings | None] = {
    "none": None,
    "covariance": {"penalty": "covariance", **AT_BOTTLENECK},
    "VCReg": {"penalty": "vcreg", **AT_BOTTLENECK},
    "MiMIc": AT_BOTTLENECK,
}
COLUMNS = {
    "mIoU by day": ("day/miou", ".4f"),
    "mIoU by night": ("night/miou", ".4f"),
    "pixel accuracy by night": ("night/accuracy", ".4f"),
    "TC by day, nats": ("day/tc", ".2f"),
    "TC by night, nats": ("night/tc", ".2f"),
    "seconds of training": ("training", ".0f"),
}
CHANGES = {f"mIoU by {name}": (f"{name}/miou", ".4f") for name in TESTED}
SHOWN = ("none", "MiMIc")
N_SHOWN = 4
COLOURS = ("#6b4e71", "#d9a5c7", "#8c8c8c", "#4f9d4b", "#9fd0f0", "#e4312b", "#2b50c8")


def domains(
    seeds: int = 3,
    out: Path = OUT,
    epochs: int = 8,
    n_train: int = 1000,
    n_test: int = 300,
    width: int = 8,
    audit_steps: int = 2000,
) -> None:
    """Runs what is not done yet and writes `domains.md`.

    Args:
        seeds: Number of runs of each row.
        out: Folder of the results.
        epochs: Number of epochs of training.
        n_train: Number of scenes for training, by day.
        n_test: Number of scenes for testing, the same by day and by night.
        width: Number of channels of the network's first layer.
        audit_steps: Number of steps of the critic that measures the total correlation.
    """
    size = dict(epochs=epochs, n_train=n_train, n_test=n_test, width=width)
    size["audit_steps"] = audit_steps
    check_counts(1, seeds=seeds, **size)
    check_output(out)
    folder = out / "domains"
    rows = {name: {"name": name, "penalty": penalty, **size} for name, penalty in ROWS.items()}
    results = run_grid(folder, rows, seeds, partial(run, folder))
    pictures(folder, n_test).savefig(out / "domains.png", dpi=120)
    write_csv(out / "domains.csv", results)
    text = (
        "# Domains: rendered streets, trained by day\n\n"
        f"{seeds} seeds; mean ± standard deviation. {epochs} epochs on {n_train} scenes by day, "
        f"penalties at `{LAYER}`; tested on {n_test} other scenes by day and on the same scenes "
        "by night. TC of the bottleneck is measured by newly made densities "
        "and critics.\n\n"
        f"{compared_table(results, COLUMNS, 'penalty at the bottleneck', 'none', CHANGES)}\n\n"
        "![answers by night](domains.png)"
    )
    write_report(out / "domains.md", text)


def run(folder: Path, settings: Mapping[str, Any], seed: int) -> Scores:
    """Trains one network by day, evaluates it in all domains, and keeps some answers in a file."""
    counts = {"n_train": settings["n_train"], "n_test": settings["n_test"], "n_val": 32}
    data = {name: RenderedScenes("day", name, **counts, flip=True) for name in TESTED}
    seed_everything(seed, verbose=False)
    network = SmallSegmenter(data["day"].shape, data["day"].n_classes, settings["width"])
    callbacks = penalties(settings["penalty"], seed)
    begin = time.perf_counter()
    task = Segmentation(network.n_out)
    module, _ = trained(network, task, data["day"], callbacks, settings["epochs"], lr=3e-3)
    scores = {"training": time.perf_counter() - begin}
    for name in TESTED:
        options = {"positions": 16, "steps": settings["audit_steps"]}
        audit = TotalCorrelationAudit(LAYER, "per_location", **options)
        found = tested(module, data[name], [audit])
        scores |= {f"{name}/{key.split('/', 1)[1]}": x for key, x in found.items()}
        scores[f"{name}/tc"] = audit.measured[LAYER].value
    folder.mkdir(parents=True, exist_ok=True)
    np.save(_answers_file(folder, settings["name"], seed), answers(module, data["night"]))
    return scores


def answers(module: SupervisedModule, data: RenderedScenes) -> np.ndarray:
    """Classes that a network predicts for the first test scenes, `uint8 [n h w]`."""
    module.eval()
    images = data.dataset("test").__getitems__(list(range(N_SHOWN))).images
    with torch.no_grad():
        return module.task.answer(module(images)).byte().numpy()


def _answers_file(folder: Path, name: str, seed: int) -> Path:
    return folder / f"{name}_{seed}_answers.npy"


def pictures(folder: Path, n_test: int) -> Figure:
    """First test scenes by night, the truth, and the answers of the first run of some rows."""
    scenes = RenderedScenes("day", "night", n_test=n_test)
    shown = scenes.dataset("test").__getitems__(list(range(N_SHOWN)))
    found = [np.load(_answers_file(folder, name, 0)) for name in SHOWN]
    figure = Figure((2.6 * (2 + len(SHOWN)), 1.95 * N_SHOWN + 0.6), layout="constrained")
    panels = figure.subplots(N_SHOWN, 2 + len(SHOWN))
    norm = BoundaryNorm(range(len(COLOURS) + 1), len(COLOURS))
    for i, row in enumerate(panels):
        row[0].imshow(shown.images[i].permute(1, 2, 0), interpolation="nearest")
        for panel, classes in zip(row[1:], [shown.labels.numpy(), *found], strict=True):
            panel.imshow(classes[i], cmap=ListedColormap(COLOURS), norm=norm, interpolation="none")
        for panel in row:
            panel.set_axis_off()
    headings = ("night", "truth", *(f"penalty: {name}" for name in SHOWN))
    for panel, heading in zip(panels[0], headings, strict=True):
        panel.set_title(heading, fontsize=11)
    legend = [Patch(color=c, label=n) for c, n in zip(COLOURS, scenes.class_names, strict=True)]
    figure.legend(handles=legend, loc="outside lower center", ncols=len(legend), frameon=False)
    return figure


if __name__ == "__main__":
    run_command([domains])
