import logging

import pytest
import torch

torch.set_num_threads(1)  # faster for tiny models


def _settings():
    level = logging.getLogger("pytorch_lightning").level
    return torch.get_num_threads(), torch.get_default_dtype(), level


@pytest.fixture(autouse=True)
def seeded():
    """Equal random numbers for every test, and no settings of libraries that outlive it."""
    torch.manual_seed(0)
    before = _settings()
    yield
    assert _settings() == before


@pytest.fixture
def double(seeded):
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
