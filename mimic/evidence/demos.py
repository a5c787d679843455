"""Three experiments whose answer is known in closed form.

    python -m mimic.evidence.demos gaussian     # a linear encoder of Gaussian data
    python -m mimic.evidence.demos ica          # independent sources behind a mixing
    python -m mimic.evidence.demos blindness    # what each penalty sees at all

print a table each, with rivals beside MiMIc, and write it under `--out`. Seconds are the
processor's, on one thread.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from common.errors import check_counts
from common.training.cli import run_command
from mimic.critics import MLPCritic
from mimic.evidence.blindness import blindness
from mimic.regularizer import MiMIcRegularizer
from mimic.results import OUT, markdown, one_thread, show

Mixing = Literal["hadamard", "rotation"]


class Penalty(NamedTuple):
    """A penalty and its weight in the loss.

    Attributes:
        weight: Of the penalty.
        make: Makes it; takes `seed`.
    """

    weight: float
    make: Callable[..., MiMIcRegularizer]


class Encoded(NamedTuple):
    """What is left of a linear encoder of Gaussian data.

    Attributes:
        tc: Exact total correlation of the codes, nats.
        mse: Of targets of variance 1, exact.
        deviation: Mean deviation of a code, which tells a collapse.
        seconds: Of training.
    """

    tc: float
    mse: float
    deviation: float
    seconds: float


class Unmixed(NamedTuple):
    """What is left of a mixing: Amari index before and after, and seconds of training."""

    before: float
    after: float
    seconds: float


def gaussian(steps: int = 1500, seeds: int = 3, out: str = OUT) -> None:
    """Codes of a linear encoder, 16 -> 8, from which 4 targets are regressed.

    The data are Gaussian, so the codes' total correlation is exact, `-½ log det R` of their
    correlation R under the encoder and the data's covariance.

    Args:
        steps: Of training.
        seeds: Runs of each row; their mean is shown.
        out: Folder of results.
    """
    check_counts(1, steps=steps, seeds=seeds)
    rows: dict[str, Penalty | None] = {
        "none": None,
        "covariance": Penalty(1.0, partial(MiMIcRegularizer, penalty="covariance")),
        "MiMIc": Penalty(0.3, MiMIcRegularizer),
        "MiMIc, DV and perceptron": Penalty(
            0.3, partial(MiMIcRegularizer, estimator="dv", critic=MLPCritic)
        ),
    }
    lines = []
    for name, penalty in rows.items():
        runs = [encode(steps, seed, penalty) for seed in range(seeds)]
        means = [statistics.mean(column) for column in zip(*runs, strict=True)]
        lines.append([name, *(f"{mean:.3g}" for mean in means)])
    header = ["penalty", "exact TC, nats", "mse", "deviation of a code", "seconds"]
    note = (
        "Gaussian codes are independent as soon as they are uncorrelated: here the covariance\n"
        "penalty is all that is needed, at a fraction of the cost."
    )
    show(Path(out) / "gaussian.md", f"{markdown(header, lines)}\n\n{note}")


def encode(steps: int, seed: int, penalty: Penalty | None) -> Encoded:
    """Trains one encoder."""
    torch.manual_seed(seed)
    mixing = torch.randn(16, 16) / 4
    wanted = torch.randn(4, 16)
    wanted = wanted / (wanted @ mixing).norm(dim=1, keepdim=True)  # targets of variance 1
    encoder, head = nn.Linear(16, 8, bias=False), nn.Linear(8, 4)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=1e-3)
    regularizer = None if penalty is None else penalty.make(seed=seed)
    begin = time.process_time()
    for _ in range(steps):
        x = torch.randn(256, 16) @ mixing.T
        codes = encoder(x)
        loss = (head(codes) - x @ wanted.T).square().mean()
        if penalty is not None and regularizer is not None:
            loss = loss + penalty.weight * regularizer(codes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    seconds = time.process_time() - begin
    codes_of = encoder.weight.detach() @ mixing  # of white data
    errors_of = head.weight.detach() @ codes_of - wanted @ mixing
    mse = errors_of.square().sum(1).mean() + head.bias.detach().square().mean()
    deviation = float(codes_of.norm(dim=1).mean())
    return Encoded(total_correlation_of(codes_of), float(mse), deviation, seconds)


def total_correlation_of(weight: Tensor) -> float:
    """Of the codes `W x` of white Gaussian x, `-½ log det R` of `W Wᵀ` as a correlation; nats."""
    w = weight.double()
    w = w / w.norm(dim=1, keepdim=True)
    return float(-0.5 * torch.logdet(w @ w.T))


def ica(steps: int = 2000, seeds: int = 3, mixing: Mixing = "hadamard", out: str = OUT) -> None:
    """Four independent uniform sources behind an orthogonal mixing, and a linear autoencoder.

    Codes of such data are uncorrelated from the start; independent they are only if the encoder
    finds the sources, up to order and sign: an Amari index of 0. Behind the Hadamard matrix the
    sources are as mixed as can be, an index of 1.

    Args:
        steps: Of training.
        seeds: Runs of each row.
        mixing: The Hadamard matrix, or a random rotation for each seed.
        out: Folder of results.
    """
    check_counts(1, steps=steps, seeds=seeds)
    rows = {
        "covariance": Penalty(1.0, partial(MiMIcRegularizer, penalty="covariance")),
        "VCReg": Penalty(1.0, partial(MiMIcRegularizer, penalty="vcreg")),
        "Barlow": Penalty(1.0, partial(MiMIcRegularizer, penalty="barlow")),
        "HSIC": Penalty(1000.0, partial(MiMIcRegularizer, penalty="hsic")),
        "distance correlation": Penalty(
            1000.0, partial(MiMIcRegularizer, penalty="distance_correlation")
        ),
        "MiMIc": Penalty(1.0, MiMIcRegularizer),
        "MiMIc, DV and perceptron": Penalty(
            1.0, partial(MiMIcRegularizer, estimator="dv", critic=MLPCritic)
        ),
    }
    lines: list[list[str]] = []
    for name, penalty in rows.items():
        runs = [unmix(steps, seed, penalty, mixing) for seed in range(seeds)]
        if not lines:
            lines.append(["*before training*", *(f"{run.before:.3f}" for run in runs), ""])
        seconds = statistics.mean(run.seconds for run in runs)
        lines.append([name, *(f"{run.after:.4f}" for run in runs), f"{seconds:.3g}"])
    header = ["penalty", *(f"Amari index, seed {seed}" for seed in range(seeds)), "seconds"]
    show(Path(out) / f"ica_{mixing}.md", markdown(header, lines))


def unmix(steps: int, seed: int, penalty: Penalty, mixing: Mixing = "hadamard") -> Unmixed:
    """Trains one autoencoder, which starts at the identity but for a little noise."""
    torch.manual_seed(seed)
    mixed = _hadamard() if mixing == "hadamard" else torch.linalg.qr(torch.randn(4, 4)).Q
    encoder, decoder = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    with torch.no_grad():
        encoder.weight.copy_(torch.eye(4) + 0.01 * torch.randn(4, 4))
        decoder.weight.copy_(torch.eye(4))
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=5e-3)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    regularizer = penalty.make(seed=seed)
    before = amari_index(encoder.weight @ mixed)
    begin = time.process_time()
    for _ in range(steps):
        x = (2 * torch.rand(256, 4) - 1) * 3**0.5 @ mixed.T
        codes = encoder(x)
        loss = (decoder(codes) - x).square().mean() + penalty.weight * regularizer(codes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
    seconds = time.process_time() - begin
    return Unmixed(before, amari_index(encoder.weight @ mixed), seconds)


def amari_index(matrix: Tensor) -> float:
    """How far a square matrix is from a permutation with scales, 0 to 1 (Amari et al. 1996).

    `1 / (2c(c - 1)) Σ_i [(Σ_j |p_ij| / max_j |p_ij| - 1) + (Σ_j |p_ji| / max_j |p_ji| - 1)]`.
    """
    p = matrix.detach().double().abs()
    c = len(p)
    by_row = (p.sum(1) / p.amax(1) - 1).sum()
    by_column = (p.sum(0) / p.amax(0) - 1).sum()
    return float((by_row + by_column) / (2 * c * (c - 1)))


def _hadamard() -> Tensor:
    two = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    return torch.kron(two, two) / 2


def main(args: list[str] | None = None) -> None:
    """One of the three experiments."""
    with one_thread():
        run_command([gaussian, ica, blindness], args)


if __name__ == "__main__":
    main()
