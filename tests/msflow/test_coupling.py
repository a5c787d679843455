"""Matched noise is the optimal transport, and contexts keep all noise."""

import itertools

import pytest
import torch

from common.errors import InputError
from common.nn.fields import ConcatField
from msflow.coupling import matched_noise
from msflow.objectives import FlowMatching
from tests.msflow.flows import make_flow


def test_the_order_is_the_best_of_all():
    x, eps, c = torch.randn(3, 6, 2, 2)
    cost = lambda order: float(
        (x - eps[order]).square().sum() + 0.7 * (c - c[order]).square().sum()
    )
    best = min((list(order) for order in itertools.permutations(range(6))), key=cost)
    assert torch.equal(matched_noise(x, eps, c, 0.7), eps[best])


def test_numbers_are_matched_in_ascending_order():
    x, eps = torch.randn(2, 40, 1)
    matched = matched_noise(x, eps)
    assert torch.equal(matched[x.argsort(0)[:, 0]], eps.sort(0).values)


def test_a_large_weight_couples_within_classes_only():
    labels = torch.arange(3).repeat(20)
    one_hot = torch.nn.functional.one_hot(labels).float()
    x, eps = 3.0 * labels[:, None] + torch.randn(60, 1), torch.randn(60, 1)
    matched = matched_noise(x, eps, one_hot, 1e6)
    for label in range(3):
        own = labels == label
        assert torch.equal(matched[own].sort(0).values, eps[own].sort(0).values)
        assert torch.equal(matched[own][x[own].argsort(0)[:, 0]], eps[own].sort(0).values)
    # Without the context, the noise of a class would not have mean 0.
    assert matched_noise(x, eps)[labels == 0].mean() < -0.5


def test_different_contexts_and_a_large_weight_leave_the_noise_as_it_is():
    x, eps, c = torch.randn(3, 9, 2)
    assert torch.equal(matched_noise(x, eps, c, 1e6), eps)


def test_paths_of_flow_matching_become_shorter():
    flow = make_flow(field=lambda c, k: ConcatField(c, k, width=4, depth=2))  # 0 at first
    pixels = torch.randint(256, (8, *flow.shape), dtype=torch.uint8)
    lengths = []
    for coupling in (None, 1e6, 0.0):
        torch.manual_seed(0)
        lengths.append(float(FlowMatching(coupling=coupling)(flow, pixels, [0, 1]).loss.detach()))
    assert lengths[0] > lengths[1] > lengths[2]


@pytest.mark.parametrize("bad", [{"eps": (4, 3)}, {"context": (3, 1)}, {"weight": -1.0}])
def test_other_shapes_and_weights_are_refused(bad):
    given = {"eps": torch.randn(4, 2), "context": None, "weight": 1.0}
    given |= {k: torch.randn(v) if isinstance(v, tuple) else v for k, v in bad.items()}
    with pytest.raises(InputError, match="got"):
        matched_noise(torch.randn(4, 2), **given)
