"""Timing of steps that are to be compared: interleaved, so that a busy machine slows all alike."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn


def interleaved(
    steps: Mapping[str, Callable[[], object]], repeats: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of every run of each step, in turns.

    Args:
        steps: Steps by name; each is called once before it is timed on a GPU.
        repeats: Number of timed runs of each step.
        device: Device that the steps run on; a GPU is waited for.
    """
    cuda = device.type == "cuda"
    if cuda:
        for step in steps.values():
            step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            if cuda:
                torch.cuda.synchronize(device)
            start = time.perf_counter()
            step()
            if cuda:
                torch.cuda.synchronize(device)
            times[name].append(time.perf_counter() - start)
    return times


def training_step(model: nn.Module, compute: Callable[[], Tensor]) -> Callable[[], float]:
    """Training step that returns its loss; the weights stay as they are.

    Args:
        model: The model.
        compute: Function that computes its loss.
    """
    optimizer = torch.optim.Adam(model.parameters(), 0.0)

    def step() -> float:
        torch.manual_seed(0)
        optimizer.zero_grad()
        loss = compute()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def compare(
    steps: Mapping[str, Callable[[], float]], repeats: int, device: torch.device, base: str
) -> None:
    """Prints the median seconds of each step, their ratio to a base, and differences of losses."""
    losses = {name: step() for name, step in steps.items()}
    times = interleaved(steps, repeats, device)
    print(f"{'':22s} {'median s':>9s} {'ratio':>6s}  relative difference of the loss")
    for name, values in times.items():
        ratio = statistics.median(b / t for b, t in zip(times[base], values, strict=True))
        difference = abs(losses[name] - losses[base]) / abs(losses[base])
        print(f"{name:22s} {statistics.median(values):9.3f} {ratio:6.2f}  {difference:.1e}")
