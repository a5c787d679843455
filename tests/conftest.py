import logging
import os

import pytest
import torch

# One thread is faster for tiny models; also in the processes that tests start, so that results
# are equal to the bit.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)


def _settings():
    level = logging.getLogger("pytorch_lightning").level
    # Lightning keeps a seed in PL_GLOBAL_SEED.
    names = [name for name in os.environ if not name.startswith(("PYTEST", "PL_"))]
    environment = {name: os.environ[name] for name in names}
    return torch.get_num_threads(), torch.get_default_dtype(), level, environment


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
