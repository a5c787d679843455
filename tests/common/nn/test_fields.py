"""Fields: the tangent they carry is the derivative, and the time may differ between samples."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional

from common.nn import dual
from common.nn.fields import ConcatField, ResidualField

pytestmark = pytest.mark.usefixtures("double")

FIELDS = {
    "concat": lambda context: ConcatField(2, context, width=8, depth=4),
    "residual": lambda context: ResidualField(2, context, width=8, blocks=2, waves=3),
}


@pytest.fixture(params=[(name, context) for name in FIELDS for context in (0, 3)], ids=str)
def case(request):
    name, channels = request.param
    field = FIELDS[name](channels)
    for p in field.parameters():
        nn.init.normal_(p, std=0.2)
    context = torch.randn(4, channels, 6, 5) if channels else None
    return field, torch.randn(4, 2, 6, 5), context


def test_linearize_is_value_and_directional_derivative(case):
    field, z, context = case
    t, v = torch.tensor(0.3), torch.randn_like(z)
    value, tangent = field.linearize(t, z, v, context)
    true = torch.func.jvp(lambda x: field(t, x, context), (z,), (v,))
    torch.testing.assert_close((value, tangent), true)


def test_linearize_has_the_gradients_of_its_definition(case):
    field, z, context = case
    t, v = torch.tensor(0.3), torch.randn_like(z)
    wanted = [p for p in field.parameters()]
    z.requires_grad_()
    weights = torch.randn(2, *z.shape)

    def gradients(value, tangent):
        loss = (weights[0] * value).sum() + (weights[1] * tangent).sum()
        return torch.autograd.grad(loss, [z, *wanted])

    ours = gradients(*field.linearize(t, z, v, context))
    true = gradients(*torch.func.jvp(lambda x: field(t, x, context), (z,), (v,)))
    torch.testing.assert_close(ours, true)


def test_a_time_for_each_sample_is_that_sample_at_its_time(case):
    field, z, context = case
    times = torch.rand(4)
    together = field(times, z, context)
    for i in range(4):
        alone = field(times[i], z[i : i + 1], None if context is None else context[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone)


def test_fields_start_as_known_maps():
    z, t = torch.randn(2, 2, 4, 4), torch.tensor(0.25)
    assert torch.equal(ConcatField(2)(t, z), torch.zeros_like(z))
    # E[ε - x | z] of standard normal data on the straight path.
    torch.testing.assert_close(ResidualField(2)(t, z), (2 * t - 1) / (t**2 + (1 - t) ** 2) * z)


def test_concat_field_is_rnodes_network():
    """Time as one more constant channel of every convolution, with the same weights."""
    field = ConcatField(2, 0, width=8, depth=3)
    for p in field.parameters():
        nn.init.normal_(p, std=0.2)
    z, t = torch.randn(3, 2, 5, 5), torch.tensor(0.7)
    h = z
    for i, (conv, time) in enumerate(zip(field.convs, field.times, strict=True)):
        weight = torch.cat([time.weight, conv.weight], 1)
        plane = torch.ones_like(h[:, :1]) * t
        h = functional.conv2d(torch.cat([plane, h], 1), weight, time.bias, padding=1)
        h = functional.softplus(h) if i < 2 else h
    torch.testing.assert_close(field(t, z), h)


@pytest.mark.parametrize(
    ("activation", "plain"), [(dual.silu, functional.silu), (dual.softplus, functional.softplus)]
)
@pytest.mark.parametrize("shape", [(3, 4), (1, 4), (1, 1)])
def test_dual_activations_pass_gradcheck(activation, plain, shape):
    h, dh = (torch.randn(3, 4, requires_grad=True) for _ in range(2))
    offset = torch.randn(shape, requires_grad=True)
    torch.testing.assert_close(activation(h, dh, offset)[:3], plain(h + offset))
    assert torch.autograd.gradcheck(activation, (h, dh, offset))


@pytest.mark.slow
def test_a_compiled_flow_is_the_same_flow_and_never_calls_its_field_uncompiled():
    # In a process of its own: the run-time checks of shapes are nothing for the compiler.
    script = """
import torch
from common.flows.cnf import CNF
from common.nn.fields import ResidualField
from common.ode.solve import Solver

class Watched(ResidualField):
    eager = 0
    def forward(self, t, z, context=None):
        if not torch.compiler.is_compiling():
            Watched.eager += 1
        return super().forward(t, z, context)
    def linearize(self, t, z, v, context=None):
        if not torch.compiler.is_compiling():
            Watched.eager += 1
        return super().linearize(t, z, v, context)

torch.manual_seed(0)
fields = [Watched(2, width=8, blocks=1) for _ in range(10)]
z, results = torch.randn(2, 2, 4, 4), []
for k, field in enumerate(fields):
    torch.nn.init.normal_(field.head.weight)
    field.cover(k, len(fields))
for compile in (False, True):
    torch.manual_seed(1)
    for field in fields:
        Watched.eager = 0
        flow = CNF(field, Solver("rk4", step_size=0.5), compile=compile)
        results += [*flow(z), flow.flow(z, None, 1.0, 0.0), flow.velocity(torch.rand(2), z, None)]
        assert (Watched.eager == 0) == compile
torch.testing.assert_close(results[:40], results[40:])
"""
    subprocess.run([sys.executable, "-c", script], check=True)
