"""What users of other libraries of flows asked for, served by our public interface.

Each test names the need and the issues where it was asked for.
"""

import math

import pytest
import torch
from torch import nn

from common.flows.base import normal_log_prob
from common.flows.cnf import CNF
from common.flows.pixel import Logit, bits_per_dim, dequantize
from common.flows.pyramid import UnimodularPyramid
from common.nn.fields import ResidualField
from common.ode.divergence import Exact
from common.ode.evaluations import SolveError
from common.ode.solve import Solver
from msflow.coupling import matched_noise
from msflow.flow import MultiScaleFlow
from msflow.objectives import FlowMatching


class Linear(nn.Module):
    """Field `dz/dt = a z`, whose flow is `exp(a)`."""

    def __init__(self, a):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a))

    def forward(self, t, z, context=None):
        return self.a * z


def image_flow():
    torch.manual_seed(0)
    field = lambda c, context: ResidualField(c, context, width=4, blocks=1)
    flow = MultiScaleFlow(
        (1, 8, 8), Logit(0.05), UnimodularPyramid(2), field, Solver("rk4", step_size=0.5)
    )
    flow.fit_statistics(images(64))
    return flow


def images(n):
    return torch.randint(256, (n, 1, 8, 8), dtype=torch.uint8)


def test_log_prob_of_a_flow_trained_by_flow_matching():
    """torchcfm #157, torchebm #169 and #295."""
    flow, data = image_flow(), images(32) // 4
    optimizer = torch.optim.Adam(flow.parameters(), lr=0.01)
    for _ in range(30):
        loss = FlowMatching()(flow, data, range(len(flow.scales))).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        seen, others = flow.log_prob(data), flow.log_prob(255 - data)
    assert seen.shape == (32,)
    assert seen.min() > others.max()


def test_gradients_through_log_prob_to_inputs_and_weights():
    """flow_matching #59; the closed form is `log N(e^a x) + d a`."""
    flow = CNF(Linear(0.3), Solver(rtol=1e-7, atol=1e-7), divergence=Exact())
    x = torch.randn(5, 3, requires_grad=True)
    z, ladj = flow(x)
    (normal_log_prob(z) + ladj).sum().backward()
    torch.testing.assert_close(x.grad, -math.exp(0.6) * x.detach(), atol=1e-4, rtol=1e-4)
    slope = (3 - math.exp(0.6) * x.detach().square().sum(1)).sum()
    torch.testing.assert_close(flow.field.a.grad, slope, atol=1e-3, rtol=1e-4)


def test_gradients_through_samples():
    """flow_matching #59: the samples are differentiable in the noise and in the weights."""
    flow = CNF(Linear(0.3), Solver(rtol=1e-7, atol=1e-7))
    noise = torch.randn(5, 3)
    flow.flow(noise, None, 1.0, 0.0).sum().backward()
    torch.testing.assert_close(
        flow.field.a.grad, -math.exp(-0.3) * noise.sum(), atol=1e-4, rtol=1e-4
    )


def test_sampling_in_one_step():
    """flow_matching #65: one evaluation of the field, by a solver that the call names."""
    calls = []
    flow = image_flow()
    for scale in flow.scales:
        scale.blocks[0].field.register_forward_hook(lambda *_: calls.append(1))
    drawn = flow.sample(3, solver=Solver("euler", step_size=1.0))
    assert drawn.shape == (3, 1, 8, 8)
    assert len(calls) == len(flow.scales)


def test_flows_of_images_with_several_scales():
    """zuko #28: density and samples; the density is of the image, not of a pyramid."""
    flow = image_flow()
    assert flow.exact
    assert [tuple(scale.shape.detail) for scale in flow.scales] == [(1, 4, 4), (3, 4, 4)]
    assert flow.log_prob(flow.sample(2)).shape == (2,)


def test_what_the_offset_of_bits_per_dimension_means():
    """score_sde_pytorch #51: bits are those of bytes, and the 8 bits of the scaling are in them.

    Of noise that no model can compress, a uniform density of the scaled pixels needs 8 bits.
    """
    x, ladj = dequantize(images(4), torch.rand(4, 1, 8, 8))
    log_prob_of_scaled = torch.zeros(4)  # uniform on [0, 1)
    assert x.min() >= 0
    assert x.max() < 1
    bits = bits_per_dim(log_prob_of_scaled + ladj, 64)
    torch.testing.assert_close(bits, torch.full((4,), 8.0))


@pytest.mark.parametrize("method", [{"method": "dopri5"}, {"method": "rk4", "step_size": 0.1}])
def test_nan_is_explained(method):
    """normflows #73, MeanFlow #17: where it happened, how large the state was, what to do."""
    field = lambda t, z, context=None: z / (t < 0.5)
    flow = CNF(Wrapped(field), Solver(**method))
    with pytest.raises(SolveError, match=r"t=0\.[5-9].* evaluations.*NaN.*lower the lear"):
        flow(torch.ones(2, 3))


class Wrapped(nn.Module):
    """Function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, t, z, context=None):
        return self.function(t, z, context)


def test_optimal_transport_with_conditions():
    """torchcfm #117 and #120: each class keeps its own noise, so that sampling meets no other.

    Within a class, data and noise are in the same order.
    """
    classes = torch.arange(2).repeat(20)
    x, noise = 5.0 * classes[:, None] + torch.randn(40, 1), torch.randn(40, 1)
    matched = matched_noise(x, noise, nn.functional.one_hot(classes), weight=1e6)
    for k in range(2):
        rows = classes == k
        order = x[rows].argsort(0)[:, 0]
        torch.testing.assert_close(matched[rows][order], noise[rows].sort(0).values)
