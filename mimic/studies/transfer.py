"""Study of transfer: features learned on one set of digits, used on another with few labels.

    python -m mimic.studies.transfer [--seeds 3] [--out lightning_logs/studies]

trains a network on MNIST digits with or without a penalty on its last layer, then transfers it
to digits of another collection, and the other way round (Predoc III, chapter 7, feature 4, at the
size of a CPU).
"""

import copy
from pathlib import Path

import torch
from pytorch_lightning import seed_everything
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import check_counts, check_output, extra
from common.experiments import Scores, compared_table, run_grid, write_report, write_results
from common.training.cli import run_command
from common.typing import Pixels
from mimic.studies import OUT
from mimic.studies.digits import AT_LAST, HalvedDigits, digit_network, fitted, on_images
from mimic.studies.fitting import Settings
from mimic.supervised.data.labelled import ClassData, SmallDigits
from mimic.supervised.networks import SmallCNN

SHOTS = (10, 50)  # number of labelled images of each class
COMPARED: dict[str, Settings | None] = {"none": None, **AT_LAST}
UNTRAINED = "untrained"
DIRECTIONS = {"mnist": "MNIST to 8x8 digits", "small": "8x8 digits to MNIST"}
COLUMNS = {
    "as it is": ("as_it_is", ".1f"),
    **{f"probe, {n} a class": (f"probe_{n}", ".1f") for n in SHOTS},
    **{f"fine-tuned, {n} a class": (f"tuned_{n}", ".1f") for n in SHOTS},
}
OWN = {"on its own set": ("own", ".1f")}


def transfer(
    seeds: int = 3, out: Path = OUT, epochs: int = 8, n_train: int = 2000, steps: int = 100
) -> None:
    """Runs what is not done yet; writes `transfer.md`, and a `.csv` and a `.png` each direction.

    Args:
        seeds: Number of runs of each row.
        out: Folder of the results.
        epochs: Number of epochs on the MNIST digits; as many steps on the 1000 small digits.
        n_train: Number of MNIST digits to train on.
        steps: Number of steps of fine-tuning.
    """
    size = {"epochs": epochs, "n_train": n_train, "steps": steps}
    check_counts(1, seeds=seeds, **size)
    check_output(out)
    panels = {f"{heading}, %": key for heading, (key, _) in COLUMNS.items()}
    weights = "; ".join(f"{name}: {p['weight']:g}" for name, p in COMPARED.items() if p)
    parts = []
    for source, title in DIRECTIONS.items():
        settings = {"source": source, **size}
        rows = {name: {"penalty": penalty, **settings} for name, penalty in COMPARED.items()}
        rows[UNTRAINED] = {"penalty": None, **settings, "epochs": 0}
        results = run_grid(out / f"transfer_{source}", rows, seeds, run)
        write_results(out / f"transfer_{source}", results, panels, "none")
        parts += [
            f"{title}: accuracy in percent, {seeds} seeds. `probe` is a logistic regression on "
            f"the last feature. Weights: {weights}.",
            compared_table(results, COLUMNS | OWN, "penalty at the source", "none", COLUMNS),
        ]
    write_report(out / "transfer.md", "\n\n".join(parts))


def run(settings: Settings, seed: int) -> Scores:
    """Trains one network on its source and evaluates it on the target; accuracies in percent."""
    mnist, small = HalvedDigits(settings["n_train"]), SmallDigits()
    source, target = (mnist, small) if settings["source"] == "mnist" else (small, mnist)
    if settings["epochs"] == 0:
        seed_everything(seed, verbose=False)
        network, scores = digit_network(), {}
    else:
        shorter = len(mnist.images("train")) / len(source.images("train"))
        epochs = max(1, round(settings["epochs"] * shorter))
        network = fitted(source, {**settings, "epochs": epochs}, seed).network
        scores = {"own": accuracy(network, source), "as_it_is": accuracy(network, target)}
    for shots in SHOTS:
        images, labels = few(target, shots, seed)
        scores[f"probe_{shots}"] = probe(network, images, labels, target)
        tuned = fine_tuned(network, images, labels, settings["steps"], seed)
        scores[f"tuned_{shots}"] = accuracy(tuned, target)
    return scores


def accuracy(network: SmallCNN, data: ClassData) -> float:
    """Accuracy on all test images, in percent."""
    answers = on_images(network, data.images("test")).argmax(1)
    return 100 * float((answers == data.labels("test")).float().mean())


def few(data: ClassData, shots: int, seed: int) -> tuple[Pixels, Tensor]:
    """A few training images of each class, and their labels."""
    labels = data.labels("train")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    chosen = torch.cat([order[labels[order] == c][:shots] for c in range(data.n_classes)])
    return data.images("train")[chosen], labels[chosen]


def probe(network: nn.Sequential, images: Pixels, labels: Tensor, data: ClassData) -> float:
    """Accuracy in percent of a logistic regression on the standardised last feature."""
    with extra("embedded"):
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    body = nn.Sequential(*list(network)[:-1])  # of any kind of nn.Sequential
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(on_images(body, images).numpy(), labels.numpy())
    test = on_images(body, data.images("test")).numpy()
    return 100 * float(model.score(test, data.labels("test").numpy()))


def fine_tuned(
    network: SmallCNN, images: Pixels, labels: Tensor, steps: int, seed: int, lr: float = 2e-3
) -> SmallCNN:
    """A copy of the network, all of it trained further by Adam with a cosine schedule."""
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
