"""Timing of steps that are to be compared: interleaved, so that a busy machine slows all alike."""

import time
from collections.abc import Callable, Mapping

import torch


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
