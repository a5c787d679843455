"""Do independent features carry over to another domain? Predoc III, chapter 7, question 4.

    python -m mimic.study.domains [--seeds 3] [--out lightning_logs/mimic_study]

The question of Cityscapes and BDD100K in small: trains `SmallSegmenter` on rendered streets by
day, with each penalty on its bottleneck, tests it by day and by night, and writes `domains.md` and
a figure. A run that is done isn't done again.
"""

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from common.errors import check_counts
from common.training.cli import run_command
from mimic.audit import TotalCorrelationAudit
from mimic.data.scenes import DomainName, RenderedScenes
from mimic.module import SupervisedModule
from mimic.plugin import MiMIc
from mimic.results import show
from mimic.segmenter import SmallSegmenter
from mimic.study.grid import Numbers, Results, run_grid, table
from mimic.study.report import against, write_csv
from mimic.study.training import quiet_trainer, seeded, tested, trained
from mimic.tasks import Segmentation

LAYER = "network.decoder.aspp"
DOMAINS: tuple[DomainName, ...] = ("day", "night")
# The critic learns for an epoch before its estimate counts.
BEGIN = {"warmup_steps": 31, "ramp_steps": 31}
ROWS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "covariance": {"penalty": "covariance", "weight": 0.01, "reduce": "per_location", **BEGIN},
    "VCReg": {"penalty": "vcreg", "weight": 0.01, "reduce": "per_location", **BEGIN},
    "MiMIc": {"weight": 0.01, "reduce": "per_location", **BEGIN},
}
COLUMNS = {
    "mIoU by day": ("day/miou", ".4f"),
    "mIoU by night": ("night/miou", ".4f"),
    "pixel accuracy by night": ("night/accuracy", ".4f"),
    "TC by day, nats": ("day/tc", ".2f"),
    "TC by night, nats": ("night/tc", ".2f"),
    "seconds of training": ("training", ".0f"),
}
SHOWN = ("none", "MiMIc")
N_SHOWN = 4
COLOURS = ("#6b4e71", "#d9a5c7", "#8c8c8c", "#4f9d4b", "#9fd0f0", "#e4312b", "#2b50c8")


def domains(
    seeds: int = 3,
    out: Path = Path("lightning_logs/mimic_study"),
    epochs: int = 8,
    n_train: int = 1000,
    n_test: int = 300,
    width: int = 8,
    audit_steps: int = 2000,
) -> None:
    """Runs what isn't done yet and writes `domains.md`.

    Args:
        seeds: Runs of each row.
        out: Folder of the results.
        epochs: Of training.
        n_train: Scenes for training, by day.
        n_test: Scenes for testing, the same by day and by night.
        width: Of the network.
        audit_steps: Of the critic that measures the total correlation.
    """
    size = {
        "epochs": epochs,
        "n_train": n_train,
        "n_test": n_test,
        "width": width,
        "audit_steps": audit_steps,
    }
    check_counts(1, **size)
    folder = out / "domains"
    rows = {name: {"name": name, "penalty": penalty, **size} for name, penalty in ROWS.items()}
    results = run_grid(folder, rows, seeds, partial(run, folder))
    pictures(folder, n_test, [name for name in SHOWN if name in results]).savefig(
        out / "domains.png", dpi=120
    )
    write_csv(out / "domains.csv", results)
    show(out / "domains.md", report(results, seeds, size))


def run(folder: Path, settings: Mapping[str, Any], seed: int) -> Numbers:
    """Trains one network by day and judges it in all domains; keeps some answers in a file."""
    data = {
        name: RenderedScenes(
            "day",
            name,
            n_train=settings["n_train"],
            n_val=32,
            n_test=settings["n_test"],
            flip=True,
        )
        for name in DOMAINS
    }
    seeded(seed)
    network = SmallSegmenter(data["day"].shape, data["day"].n_classes, settings["width"])
    penalty = settings["penalty"]
    callbacks = [] if penalty is None else [MiMIc([LAYER], seed=seed, **penalty)]
    begin = time.perf_counter()
    task = Segmentation(network.n_out)
    module, _ = trained(network, task, data["day"], callbacks, settings["epochs"], lr=3e-3)
    numbers = {"training": time.perf_counter() - begin}
    for name in DOMAINS:
        audit = TotalCorrelationAudit(
            LAYER, "per_location", positions=16, steps=settings["audit_steps"]
        )
        found = tested(module, quiet_trainer([audit]), data[name])
        numbers |= {f"{name}/{key.split('/', 1)[1]}": float(x) for key, x in found.items()}
        numbers[f"{name}/tc"] = audit.measured[LAYER].value
    np.save(_answers_file(folder, settings["name"], seed), answers(module, data["night"]))
    return numbers


def answers(module: SupervisedModule, data: RenderedScenes) -> np.ndarray:
    """The classes that a network gives to the first test scenes, `uint8 [n h w]`."""
    module.eval()
    images = data.dataset("test").__getitems__(list(range(N_SHOWN))).images
    with torch.no_grad():
        return module.task.answer(module(images)).byte().numpy()


def _answers_file(folder: Path, name: str, seed: int) -> Path:
    return folder / f"{name}_{seed}_answers.npy"


def report(results: Results, seeds: int, size: Mapping[str, int]) -> str:
    """The table and the differences, in Markdown."""
    lines = [
        "# Domains: rendered streets, trained by day",
        f"{seeds} seeds; mean ± standard deviation. {size['epochs']} epochs on {size['n_train']} "
        f"scenes by day, penalties at `{LAYER}`; tested on {size['n_test']} other scenes by day "
        "and on the same scenes by night. TC of the bottleneck is measured by a critic made anew.",
        table(results, COLUMNS, "penalty at the bottleneck"),
        *(
            f"mIoU by {name} less that of none: {against(results, 'none', f'{name}/miou', '.4f')}."
            for name in DOMAINS
        ),
        "![answers by night](domains.png)",
    ]
    return "\n\n".join(lines)


def pictures(folder: Path, n_test: int, names: list[str]) -> Figure:
    """The first test scenes by night, the truth, and what the first run of some rows answers."""
    scenes = RenderedScenes("day", "night", n_test=n_test)
    shown = scenes.dataset("test").__getitems__(list(range(N_SHOWN)))
    found = [np.load(_answers_file(folder, name, 0)) for name in names]
    figure = Figure((2.6 * (2 + len(names)), 1.95 * N_SHOWN + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(N_SHOWN, 2 + len(names))
    for i, row in enumerate(panels):
        row[0].imshow(shown.images[i].permute(1, 2, 0), interpolation="nearest")
        for panel, classes in zip(row[1:], [shown.labels.numpy(), *found], strict=True):
            _classes(panel, classes[i])
        for panel in row:
            panel.set_axis_off()
    headings = ("night", "truth", *(f"penalty: {name}" for name in names))
    for panel, heading in zip(panels[0], headings, strict=True):
        panel.set_title(heading, fontsize=11)
    legend = [Patch(color=c, label=n) for c, n in zip(COLOURS, scenes.class_names, strict=True)]
    figure.legend(
        handles=legend, loc="outside lower center", ncols=len(legend), frameon=False, fontsize=9
    )
    return figure


def _classes(panel: Axes, classes: np.ndarray) -> None:
    norm = BoundaryNorm(range(len(COLOURS) + 1), len(COLOURS))
    panel.imshow(classes, cmap=ListedColormap(COLOURS), norm=norm, interpolation="nearest")


if __name__ == "__main__":
    run_command([domains])
