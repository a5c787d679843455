"""The study of transfer: features learned on one set of digits, used on another with few labels.

    python -m mimic.study.transfer [--seeds 3] [--out lightning_logs/mimic_study]

trains a network on MNIST digits with or without a penalty on its last layer, then takes it over
to digits of another collection, and the other way round (Predoc III, chapter 7, feature 4, at the
size of a CPU). A run that is done isn't done again.
"""

import copy
from pathlib import Path

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import check_counts
from common.training.cli import run_command
from common.typing import Pixels
from mimic.data.labelled import ClassData, SmallDigits
from mimic.networks import SmallCNN
from mimic.results import show
from mimic.study.digits import (
    BEGIN,
    LAST,
    HalvedDigits,
    Settings,
    digit_network,
    fitted,
    on_images,
)
from mimic.study.grid import Numbers, Results, run_grid, table
from mimic.study.report import against, dots, write_csv
from mimic.study.training import seeded

SHOTS = (10, 50)  # labelled images of each class
PENALTIES: dict[str, Settings | None] = {
    "none": None,
    "MiMIc": {"layers": LAST, "weight": 0.1, **BEGIN},
    "MiMIc within classes": {
        "layers": LAST,
        "weight": 0.1,
        "n_classes": 10,
        "labels": "labels",
        **BEGIN,
    },
    "covariance": {"layers": LAST, "weight": 0.003, "penalty": "covariance"},
    "VCReg": {"layers": LAST, "weight": 0.003, "penalty": "vcreg"},
}
SCRATCH = "untrained"
DIRECTIONS = {"mnist": "MNIST to 8x8 digits", "small": "8x8 digits to MNIST"}
COLUMNS = {
    "as it is": ("as_it_is", ".1f"),
    **{f"probe, {n} a class": (f"probe_{n}", ".1f") for n in SHOTS},
    **{f"fine-tuned, {n} a class": (f"tuned_{n}", ".1f") for n in SHOTS},
    "on its own set": ("own", ".1f"),
}


def transfer(
    seeds: int = 3,
    out: Path = Path("lightning_logs/mimic_study"),
    epochs: int = 8,
    n_train: int = 2000,
    steps: int = 100,
) -> None:
    """Runs what isn't done yet; writes `transfer.md`, and a `.csv` and a `.png` each direction.

    Args:
        seeds: Runs of each row.
        out: Folder of the results.
        epochs: Of training on the MNIST digits; on the 1000 small ones, the same steps.
        n_train: MNIST digits to train on.
        steps: Of fine-tuning.
    """
    size = {"epochs": epochs, "n_train": n_train, "steps": steps}
    check_counts(1, **size)
    parts = []
    for source, title in DIRECTIONS.items():
        common = {"source": source, **size}
        rows = {name: {"penalty": penalty, **common} for name, penalty in PENALTIES.items()}
        rows[SCRATCH] = {"penalty": None, **common, "epochs": 0}
        results = run_grid(out / f"transfer_{source}", rows, seeds, _run)
        write_csv(out / f"transfer_{source}.csv", results)
        panels = {f"{heading}, %": key for heading, (key, _) in list(COLUMNS.items())[:-1]}
        dots(results, panels, "none").savefig(out / f"transfer_{source}.png", dpi=120)
        parts.append(_text(title, results, seeds))
    show(out / "transfer.md", "\n\n".join(parts))


def _text(title: str, results: Results, seeds: int) -> str:
    weights = "; ".join(f"{name}: {p['weight']:g}" for name, p in PENALTIES.items() if p)
    lines = [
        f"{heading}, less that of none: {against(results, 'none', key, '.1f')}."
        for heading, (key, _) in COLUMNS.items()
        if key.startswith(("as", "probe", "tuned"))
    ]
    return "\n\n".join(
        [
            f"{title}: accuracy in percent, {seeds} seeds. `probe` is a logistic regression on "
            f"the last feature. Weights: {weights}.",
            table(results, COLUMNS, "penalty at the source"),
            *lines,
        ]
    )


def _run(settings: Settings, seed: int) -> Numbers:
    mnist, small = HalvedDigits(settings["n_train"]), SmallDigits()
    source, target = (mnist, small) if settings["source"] == "mnist" else (small, mnist)
    if settings["epochs"] == 0:
        seeded(seed)
        network, numbers = digit_network(), {}
    else:
        shorter = len(mnist.images("train")) / len(source.images("train"))
        epochs = max(1, round(settings["epochs"] * shorter))
        network = fitted(source, {**settings, "epochs": epochs}, seed).network
        numbers = {"own": accuracy(network, source), "as_it_is": accuracy(network, target)}
    for shots in SHOTS:
        images, labels = few(target, shots, seed)
        numbers[f"probe_{shots}"] = probe(network, images, labels, target)
        tuned = fine_tuned(network, images, labels, settings["steps"], seed)
        numbers[f"tuned_{shots}"] = accuracy(tuned, target)
    return numbers


def accuracy(network: SmallCNN, data: ClassData) -> float:
    """In percent, on all test images."""
    answers = on_images(network, data.images("test")).argmax(1)
    return 100 * float((answers == data.labels("test")).float().mean())


def few(data: ClassData, shots: int, seed: int) -> tuple[Pixels, Tensor]:
    """So many training images of each class, and their labels."""
    labels = data.labels("train")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    chosen = torch.cat([order[labels[order] == c][:shots] for c in range(data.n_classes)])
    return data.images("train")[chosen], labels[chosen]


def probe(network: nn.Sequential, images: Pixels, labels: Tensor, data: ClassData) -> float:
    """Accuracy in percent of a logistic regression on the standardised last feature."""
    body = nn.Sequential(*list(network)[:-1])  # of any kind of nn.Sequential
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(on_images(body, images).numpy(), labels.numpy())
    test = on_images(body, data.images("test")).numpy()
    return 100 * float(model.score(test, data.labels("test").numpy()))


def fine_tuned(
    network: SmallCNN, images: Pixels, labels: Tensor, steps: int, seed: int, lr: float = 2e-3
) -> SmallCNN:
    """A copy, all of it trained on by Adam with a cosine."""
    tuned = copy.deepcopy(network).train()
    optimizer = torch.optim.Adam(tuned.parameters(), lr=lr)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        batch = torch.randperm(len(images), generator=generator)[:64]
        loss = F.cross_entropy(tuned(images[batch] / 255), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
    return tuned


if __name__ == "__main__":
    run_command([transfer])
