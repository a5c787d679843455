from itertools import pairwise

import pytest
import torch

from common.errors import InputError
from common.ode.brownian import BrownianPath

pytestmark = pytest.mark.usefixtures("double")
N = 20_000


def values(path, times, like):
    """`W(t) - W(t₀)` at each of the times."""
    return torch.stack([path.increment(float(times[0]), float(t), like) for t in times], 1)


def test_the_covariance_is_that_of_brownian_motion():
    times = torch.tensor([-0.3, 0.0, 0.2, 0.25, 1.0, 1.9])
    w = values(BrownianPath(0.5), times, torch.zeros(N))
    elapsed = times - times[0]
    expected = torch.minimum(elapsed[:, None], elapsed)
    torch.testing.assert_close(torch.cov(w.T), expected, atol=0.08, rtol=0)
    assert (w.mean(0).abs() < 0.06).all()


def test_increments_add_up():
    path, like = BrownianPath(1.0, start=0.5), torch.zeros(5, 2)
    times = [0.5, 0.625, 1.2, 1.5, 4.75]
    parts = [path.increment(*ends, like) for ends in pairwise(times)]
    torch.testing.assert_close(sum(parts), path.increment(0.5, 4.75, like))


def test_a_path_does_not_depend_on_what_was_asked_before():
    def value(*before):
        torch.manual_seed(3)
        path = BrownianPath(1.0)
        for t in before:
            path.increment(0.0, t, torch.zeros(4))
        return path.increment(0.0, 1.3, torch.zeros(4))

    assert torch.equal(value(), value(0.25, 0.7, 1.0))


def test_each_path_is_a_new_one():
    like = torch.zeros(N)
    pair = torch.stack([BrownianPath(1.0).increment(0.0, 1.0, like) for _ in range(2)])
    assert abs(torch.corrcoef(pair)[0, 1]) < 0.03


def test_a_cell_without_length_is_refused():
    with pytest.raises(InputError, match="cell 0"):
        BrownianPath(0.0)
