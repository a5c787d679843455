"""What the devices of a distributed run agree on."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.distributed as dist
from torch import Tensor

_alone = ContextVar("alone", default=False)


@contextmanager
def alone() -> Iterator[None]:
    """Within, this device agrees with no other: they may not all get here."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def together() -> bool:
    """Whether there are other devices to agree with."""
    return not _alone.get() and dist.is_available() and dist.is_initialized()


def sum_over_devices(x: Tensor) -> Tensor:
    """The sum of all devices' tensors, on each."""
    if together():
        x = x.clone()
        dist.all_reduce(x)
    return x


def world_size() -> int:
    """How many devices agree."""
    return dist.get_world_size() if together() else 1


def rank() -> int:
    """The number of this device among them."""
    return dist.get_rank() if together() else 0


@contextmanager
def own_draws(seed: int) -> Iterator[None]:
    """Draws on the CPU come from this seed within; the user's random states go on as they were."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would seed the accelerators too.
        torch.default_generator.manual_seed(seed)
        yield
