"""Cost of MiMIc: a training step with and without it, and a shuffle beside a loop over channels.

    python tests/benchmarks/mimic_step.py [--repeats 30]

prints medians of the processor time of interleaved runs on one thread, and ratios to the first.
"""

import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from jsonargparse import auto_cli
from torch import Tensor, nn

from mimic import MiMIcRegularizer, shuffle_channels
from mimic.critic.critics import MLPCritic
from mimic.studies.games import SimultaneousGame
from mimic.supervised.networks import ResNet, SmallCNN

PENALTIES: dict[str, dict[str, Any] | None] = {
    "none": None,
    "covariance": {"penalty": "covariance"},
    "HSIC": {"penalty": "hsic"},
    "MiMIc": {},
    "MiMIc, perceptron": {"critic": MLPCritic},
    "MiMIc, simultaneous": {"game": SimultaneousGame},
    "MiMIc, 3 critic steps": {"n_critic": 3},
}


def main(repeats: int = 30) -> None:
    """Prints the tables.

    Args:
        repeats: Number of timed runs of each row.
    """
    torch.set_num_threads(1)
    digits = SmallCNN(widths=(16, 32), hidden=64, kernel=7), (64, 1, 28, 28), "features.linear"
    images = ResNet(), (64, 3, 32, 32), "pool"
    for name, case in (("SmallCNN, 64 features", digits), ("ResNet-20, 64 features", images)):
        steps = {game: step(*case, options) for game, options in PENALTIES.items()}
        report(name, interleaved(steps, repeats))
    for n, c in ((256, 64), (256, 512), (4096, 256)):
        z = torch.randn(n, c)
        forms = {
            "a permutation a channel": lambda z=z: permuted(z),
            "cyclic offsets": lambda z=z: shuffle_channels(z),
        }
        report(f"shuffle of {n} x {c}", interleaved(forms, repeats))


def step(
    network: nn.Module, shape: tuple[int, ...], layer: str, options: dict[str, Any] | None
) -> Callable[[], object]:
    """Training step on noise, with the penalty on the layer's output."""
    caught: list[Tensor] = []
    network = copy.deepcopy(network)
    network.get_submodule(layer).register_forward_hook(lambda m, i, o: caught.append(o))
    images, labels = torch.rand(shape), torch.randint(10, shape[:1])
    regularizer = None if options is None else MiMIcRegularizer(**options)

    def run() -> None:
        caught.clear()
        loss = nn.functional.cross_entropy(network(images), labels)
        if regularizer is not None:
            loss = loss + 0.1 * regularizer(caught[-1])
        network.zero_grad()
        loss.backward()

    return run


def permuted(z: Tensor) -> Tensor:
    """Every channel by a permutation of its own."""
    return torch.stack([z[torch.randperm(len(z)), j] for j in range(z.shape[1])], 1)


def interleaved(forms: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each."""
    times: dict[str, list[float]] = {name: [] for name in forms}
    for turn in range(repeats + 3):
        for name, form in forms.items():
            begin = time.process_time()
            form()
            if turn >= 3:
                times[name].append(time.process_time() - begin)
    return {name: statistics.median(taken) for name, taken in times.items()}


def report(title: str, seconds: dict[str, float]) -> None:
    """Milliseconds, and the ratio to the first."""
    first = next(iter(seconds.values()))
    print(f"| {title} | ms | ratio |\n|---|---|---|")
    for name, value in seconds.items():
        print(f"| {name} | {1e3 * value:.2f} | {value / first:.2f} |")
    print()


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
