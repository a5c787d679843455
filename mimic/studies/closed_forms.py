"""Three experiments whose answer is known in closed form.

    python -m mimic.studies.closed_forms gaussian     # a linear encoder of Gaussian data
    python -m mimic.studies.closed_forms ica          # independent sources behind a mixing
    python -m mimic.studies.closed_forms blindness    # sensitivity of each penalty

print a table each, with baselines beside MiMIc, and write it under `--out`. Seconds are processor
time on one thread.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from common.errors import check_counts, check_output
from common.experiments import Scores, markdown, results_table, run_grid, write_report
from common.training.cli import run_command
from mimic.penalties import PenaltyName
from mimic.regularizer import MiMIcRegularizer
from mimic.studies import OUT
from mimic.studies import distributions as known
from mimic.studies.distributions import Distribution
from mimic.studies.fitting import Settings, regularizer

Mixing = Literal["hadamard", "rotation"]
REPORTED: Settings = {"estimator": "dv", "critic": "perceptron"}  # the report's own choice
ENCODERS: dict[str, Settings | None] = {
    "none": None,
    "covariance": {"weight": 1.0, "penalty": "covariance"},
    "MiMIc": {"weight": 0.3},
    "MiMIc, DV and perceptron": {"weight": 0.3, **REPORTED},
}
ENCODED = {
    "exact TC, nats": ("tc", ".3g"),
    "mse": ("mse", ".3g"),
    "deviation of a code": ("deviation", ".3g"),
    "seconds": ("cpu_seconds", ".3g"),
}
ENCODER_NOTE = """\
Gaussian codes are independent as soon as they are uncorrelated: here the covariance penalty is all
that is needed, at a fraction of the cost."""
UNMIXERS: dict[str, Settings] = {
    "covariance": {"weight": 1.0, "penalty": "covariance"},
    "VCReg": {"weight": 1.0, "penalty": "vcreg"},
    "Barlow": {"weight": 1.0, "penalty": "barlow"},
    "HSIC": {"weight": 1000.0, "penalty": "hsic"},
    "distance correlation": {"weight": 1000.0, "penalty": "distance_correlation"},
    "MiMIc": {"weight": 1.0},
    "MiMIc, DV and perceptron": {"weight": 1.0, **REPORTED},
}
COMPARED: dict[PenaltyName, str] = {
    "covariance": "covariance",
    "barlow": "Barlow",
    "hsic": "HSIC",
    "distance_correlation": "distance correlation",
    "mimic": "MiMIc",
}


def gaussian(steps: int = 1500, seeds: int = 3, out: Path = OUT) -> None:
    """Codes of a linear encoder, 16 -> 8, from which 4 targets are regressed.

    The data are Gaussian, so the total correlation of the codes is exact: `-½ log det R` with
    their correlation R under the encoder and the data's covariance.

    Args:
        steps: Number of training steps.
        seeds: Number of runs of each row.
        out: Folder of the results.
    """
    check_counts(1, steps=steps, seeds=seeds)
    check_output(out)
    rows = {name: {"steps": steps, "penalty": penalty} for name, penalty in ENCODERS.items()}
    work = lambda settings, seed: encode(settings["steps"], seed, settings["penalty"])
    results = run_grid(out / "gaussian", rows, seeds, work)
    text = results_table(results, ENCODED, "penalty")
    write_report(out / "gaussian.md", f"{text}\n\n{ENCODER_NOTE}")


def encode(steps: int, seed: int, penalty: Settings | None) -> Scores:
    """Trains one linear encoder of Gaussian data.

    Returns:
        `tc`: exact total correlation of the codes, in nats; `mse`: exact error of targets of
        variance 1; `deviation`: mean deviation of a code, which shows a collapse; `cpu_seconds`:
        processor time of training.
    """
    torch.manual_seed(seed)
    mixing = torch.randn(16, 16) / 4
    wanted = torch.randn(4, 16)
    wanted = wanted / (wanted @ mixing).norm(dim=1, keepdim=True)  # targets of variance 1
    encoder, head = nn.Linear(16, 8, bias=False), nn.Linear(8, 4)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=1e-3)

    def step() -> tuple[Tensor, Tensor]:
        x = torch.randn(256, 16) @ mixing.T
        codes = encoder(x)
        return codes, (head(codes) - x @ wanted.T).square().mean()

    seconds = _descend(step, steps, optimizer, penalty, seed)
    codes_of = encoder.weight.detach() @ mixing  # codes of white data
    errors_of = head.weight.detach() @ codes_of - wanted @ mixing
    mse = errors_of.square().sum(1).mean() + head.bias.detach().square().mean()
    deviation = float(codes_of.norm(dim=1).mean())
    tc = total_correlation_of(codes_of)
    return {"tc": tc, "mse": float(mse), "deviation": deviation, "cpu_seconds": seconds}


def _descend(
    step: Callable[[], tuple[Tensor, Tensor]],
    steps: int,
    optimizer: torch.optim.Optimizer,
    penalty: Settings | None,
    seed: int,
    rate: torch.optim.lr_scheduler.LRScheduler | None = None,
) -> float:
    """Trains on codes and task losses with a penalty on the codes; returns processor seconds."""
    added = None if penalty is None else regularizer(penalty, seed)
    begin = time.process_time()
    for _ in range(steps):
        codes, loss = step()
        if penalty is not None and added is not None:
            loss = loss + penalty["weight"] * added(codes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if rate is not None:
            rate.step()
    return time.process_time() - begin


def total_correlation_of(weight: Tensor) -> float:
    """Total correlation of the codes `W x` of white Gaussian x, in nats.

    `-½ log det R` with `W Wᵀ` scaled to a correlation R.
    """
    w = weight.double()
    w = w / w.norm(dim=1, keepdim=True)
    return float(-0.5 * torch.logdet(w @ w.T))


def ica(steps: int = 2000, seeds: int = 3, mixing: Mixing = "hadamard", out: Path = OUT) -> None:
    """Four independent uniform sources behind an orthogonal mixing, and a linear autoencoder.

    The codes are uncorrelated from the start. They are independent only if the encoder finds the
    sources, up to order and sign: an Amari index of 0. Behind the Hadamard matrix the sources are
    mixed as much as possible: an index of 1.

    Args:
        steps: Number of training steps.
        seeds: Number of runs of each row.
        mixing: The Hadamard matrix, or a random rotation for each seed.
        out: Folder of the results.
    """
    check_counts(1, steps=steps, seeds=seeds)
    check_output(out)
    rows = {name: {"steps": steps, "penalty": penalty} for name, penalty in UNMIXERS.items()}
    work = lambda settings, seed: unmix(settings["steps"], seed, settings["penalty"], mixing)
    results = run_grid(out / f"ica_{mixing}", rows, seeds, work)
    first = next(iter(results.values()))
    lines = [["*before training*", *(f"{run['before']:.3f}" for run in first), ""]]
    for name, runs in results.items():
        seconds = statistics.mean(run["cpu_seconds"] for run in runs)
        lines.append([name, *(f"{run['after']:.4f}" for run in runs), f"{seconds:.3g}"])
    header = ["penalty", *(f"Amari index, seed {seed}" for seed in range(seeds)), "seconds"]
    write_report(out / f"ica_{mixing}.md", markdown(header, lines))


def unmix(steps: int, seed: int, penalty: Settings, mixing: Mixing = "hadamard") -> Scores:
    """Trains one linear autoencoder, which starts at the identity plus a little noise.

    Returns:
        Amari index `before` and `after` training, and `cpu_seconds` of training.
    """
    torch.manual_seed(seed)
    two = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    hadamard = torch.kron(two, two) / 2
    mixed = hadamard if mixing == "hadamard" else torch.linalg.qr(torch.randn(4, 4)).Q
    encoder, decoder = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    with torch.no_grad():
        encoder.weight.copy_(torch.eye(4) + 0.01 * torch.randn(4, 4))
        decoder.weight.copy_(torch.eye(4))
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=5e-3)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    before = amari_index(encoder.weight @ mixed)

    def step() -> tuple[Tensor, Tensor]:
        x = (2 * torch.rand(256, 4) - 1) * 3**0.5 @ mixed.T
        codes = encoder(x)
        return codes, (decoder(codes) - x).square().mean()

    seconds = _descend(step, steps, optimizer, penalty, seed, rate)
    after = amari_index(encoder.weight @ mixed)
    return {"before": before, "after": after, "cpu_seconds": seconds}


def amari_index(matrix: Tensor) -> float:
    """Amari index: distance of a square matrix from a scaled permutation, 0 to 1.

    `1 / (2c(c - 1)) Σ_i [(Σ_j |p_ij| / max_j |p_ij| - 1) + (Σ_j |p_ji| / max_j |p_ji| - 1)]`
    (Amari et al. 1996).
    """
    p = matrix.detach().double().abs()
    c = len(p)
    by_row = (p.sum(1) / p.amax(1) - 1).sum()
    by_column = (p.sum(0) / p.amax(0) - 1).sum()
    return float((by_row + by_column) / (2 * c * (c - 1)))


def blindness(
    batch_size: int = 512, draws: int = 50, critic_steps: int = 1000, out: Path = OUT
) -> None:
    """Values of each penalty on channels that depend on one another, before any training.

    The table shows how much its values on batches exceed those on batches of independent channels
    with the same marginals: the sensitivity index d′, see `sensitivity`. Near 0 the penalty is
    blind to the dependence.

    Args:
        batch_size: Number of samples of a batch.
        draws: Number of batches.
        critic_steps: Number of steps of MiMIc's critic on other batches before.
        out: Folder of the results.
    """
    check_counts(2, batch_size=batch_size, draws=draws)
    check_counts(1, critic_steps=critic_steps)
    check_output(out)
    dependent = (known.ExclusiveOr(), known.RotatedUniforms(), known.Equicorrelated(4, 0.3))
    every = {each.name: each for each in (*dependent, known.Independent(4))}
    size = {"n": batch_size, "draws": draws, "critic_steps": critic_steps}

    def run(settings: Settings, seed: int) -> Scores:
        of = every[settings["of"]]
        scores = {"truth": of.truth}
        for name in COMPARED:
            joint, apart = (penalty_values(name, each, **size) for each in (of, known.Apart(of)))
            scores |= {name: sensitivity(joint, apart), f"{name}, nats": statistics.mean(joint)}
        return scores

    rows = {name: {"of": name, **size} for name in every}
    results = run_grid(out / "blindness", rows, 1, run)
    columns = {"truth, nats": ("truth", ".3f")}
    columns |= {f"d′ of {shown}": (name, ".1f") for name, shown in COMPARED.items()}
    columns["MiMIc, nats"] = ("mimic, nats", ".3f")
    seconds = sum(scores["seconds"] for (scores,) in results.values())
    text = results_table(results, columns, "channels")
    write_report(out / "blindness.md", f"{text}\n\n{seconds:.0f} seconds in all.")


def penalty_values(
    name: PenaltyName, distribution: Distribution, n: int, draws: int, critic_steps: int
) -> list[float]:
    """Values of a penalty on batches of n samples, after its critic trained on other batches."""
    penalty = MiMIcRegularizer(name)
    generator = torch.Generator().manual_seed(0)
    for _ in range(critic_steps if penalty.trains_critic else 0):
        penalty.critic_step(distribution.draw(n, generator))
    return [float(penalty(distribution.draw(n, generator))) for _ in range(draws)]


def sensitivity(signal: list[float], noise: list[float]) -> float:
    """Index `d′ = (mean of the signal - mean of the noise) / √(mean of their variances)`."""
    spread = (statistics.variance(signal) + statistics.variance(noise)) / 2
    return (statistics.mean(signal) - statistics.mean(noise)) / spread**0.5


def main(args: list[str] | None = None) -> None:
    """One of the three experiments."""
    run_command([gaussian, ica, blindness], args)


if __name__ == "__main__":
    main()
