import pytest
import torch


@pytest.fixture(autouse=True)
def seeded():
    """Equal random numbers for every test, and no settings of torch that outlive it."""
    torch.manual_seed(0)
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    yield
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, dtype)


@pytest.fixture
def double(seeded):
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
