"""Communication among the devices of a distributed run, and seeded draws of one device."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.distributed as dist
from torch import Tensor

_alone = ContextVar("alone", default=False)


@contextmanager
def alone() -> Iterator[None]:
    """Context without communication, for code that not every device may reach."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def together() -> bool:
    """True if there are other devices to communicate with."""
    return not _alone.get() and dist.is_available() and dist.is_initialized()


def sum_over_devices(x: Tensor) -> Tensor:
    """Sum of the tensors of all devices, on each device."""
    if together():
        x = x.clone()
        dist.all_reduce(x)
    return x


def world_size() -> int:
    """Number of devices that communicate."""
    return dist.get_world_size() if together() else 1


def rank() -> int:
    """Rank of this device among them."""
    return dist.get_rank() if together() else 0


@contextmanager
def own_draws(seed: int) -> Iterator[None]:
    """Context with a seed of its own on the CPU; the user's random states stay as they were."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would seed the accelerators too.
        torch.default_generator.manual_seed(seed)
        yield
