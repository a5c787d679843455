import logging
import os

import pytest
import torch

# One thread is faster for tiny models; also in the processes that tests start, so that results
# are equal to the bit.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

PROCESSES = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def _settings():
    level = logging.getLogger("pytorch_lightning").level
    processes = [os.environ.get(name) for name in PROCESSES]
    return torch.get_num_threads(), torch.get_default_dtype(), level, processes


@pytest.fixture(autouse=True)
def seeded():
    """Equal random numbers for every test, and no settings that outlive it."""
    torch.manual_seed(0)
    before = _settings()
    yield
    assert _settings() == before


@pytest.fixture
def double(seeded):
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
