"""Laws of every invertible map; the oracle is the Jacobian that autograd writes out."""

import math

import pytest
import torch
from torch import nn

from common.errors import InputError
from common.flows.base import normal_log_prob
from common.flows.cnf import CNF
from common.flows.pixel import Logit, bits_per_dim, dequantize, to_bytes
from common.nn.fields import ResidualField
from common.ode.divergence import Exact, Hutchinson
from common.ode.regularize import KineticEnergy
from common.ode.solve import Solver
from tests.common.flows.bijections import (
    SHAPE,
    cnf,
    random_field,
    solver,
)
from tests.laws import BIJECTIONS

pytestmark = pytest.mark.usefixtures("double")


@pytest.fixture(params=BIJECTIONS)
def case(request):
    make, draw, channels = BIJECTIONS[request.param]
    context = torch.randn(3, channels, 2, 2) if channels else None
    return make(), draw(3, *SHAPE), context


def test_inverse_undoes_forward(case):
    bijection, x, context = case
    z, ladj = bijection(x, context)
    back, ladj_back = bijection.inverse(z, context)
    torch.testing.assert_close(back, x, atol=1e-6, rtol=0)
    torch.testing.assert_close(ladj, -ladj_back, atol=1e-5, rtol=0)


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_ladj_is_the_log_determinant_of_the_jacobian(case, direction):
    bijection, x, context = case
    if direction == "inverse":
        x = bijection(x, context)[0].detach()
    g = bijection if direction == "forward" else bijection.inverse
    x, context = x[:1], None if context is None else context[:1]
    jacobian = torch.autograd.functional.jacobian(lambda v: g(v, context)[0], x)
    true = jacobian.reshape(8, 8).slogdet().logabsdet
    torch.testing.assert_close(g(x, context)[1][0], true, atol=1e-6, rtol=0)


def test_samples_do_not_see_their_batch_mates(case):
    bijection, x, context = case
    z, ladj = bijection(x, context)
    alone = bijection(x[1:2], None if context is None else context[1:2])
    torch.testing.assert_close((z[1:2], ladj[1:2]), alone, atol=1e-10, rtol=0)


class Linear(nn.Module):
    def __init__(self, a):
        super().__init__()
        self.a = nn.Parameter(a)

    def forward(self, t, z, context=None):
        return z @ self.a.T


def test_linear_cnf_is_the_matrix_exponential_and_its_trace():
    a = torch.randn(4, 4) * 0.7
    flow, x = CNF(Linear(a), Solver(rtol=1e-9, atol=1e-9), Exact()), torch.randn(5, 4)
    z, ladj = flow(x)
    torch.testing.assert_close(z, x @ torch.matrix_exp(a).T, atol=1e-6, rtol=0)
    torch.testing.assert_close(ladj, a.trace().expand(5), atol=1e-6, rtol=0)


def test_linear_cnf_makes_the_gaussian_it_should():
    a = torch.randn(3, 3) * 0.5
    flow, x = CNF(Linear(a), Solver(rtol=1e-9, atol=1e-9), Exact()), torch.randn(5, 3)
    z, ladj = flow(x)
    inverse = torch.matrix_exp(-a)
    true = torch.distributions.MultivariateNormal(torch.zeros(3), inverse @ inverse.T)
    torch.testing.assert_close(normal_log_prob(z) + ladj, true.log_prob(x))


@pytest.mark.parametrize("divergence", [Exact(), Hutchinson(), Hutchinson(mode="reverse")])
@pytest.mark.parametrize("gradient", ["checkpoint", "adjoint"])
def test_gradients_reach_parameters_and_context_however_computed(divergence, gradient):
    field, x = random_field(3), torch.randn(3, *SHAPE)
    context = torch.randn(3, 3, 2, 2, requires_grad=True)
    wanted = [*field.parameters(), context]

    def gradients(mode):
        torch.manual_seed(1)
        flow = CNF(field, solver(gradient=mode), divergence)
        z, ladj = flow(x, context)
        return torch.autograd.grad((normal_log_prob(z) + ladj).sum(), wanted)

    for ours, direct in zip(gradients(gradient), gradients("direct"), strict=True):
        assert direct.norm() > 0
        torch.testing.assert_close(ours, direct, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("gradient", ["direct", "adjoint"])
@pytest.mark.parametrize("settings", [dict(rtol=1e-6, atol=1e-6), dict(method="bosh3")], ids=str)
def test_adaptive_solvers_run_any_field_both_ways(settings, gradient):
    """They step past the end of the interval and interpolate."""
    field = ResidualField(2, 3, width=8, blocks=1)
    nn.init.normal_(field.head.weight, std=0.1)
    flow = CNF(field, Solver(**settings, gradient=gradient), Exact())
    x, context = torch.randn(3, *SHAPE), torch.randn(3, 3, 2, 2, requires_grad=True)
    z, ladj = flow(x, context)
    (z.square().sum() - ladj.sum()).backward()
    assert torch.isfinite(context.grad).all()
    torch.testing.assert_close(flow.inverse(z, context)[0], x, atol=1e-2, rtol=0)


def test_one_draw_of_noise_serves_the_whole_solve():
    draws = []

    class Counting(Hutchinson):
        def draw(self, z):
            draws.append(1)
            return super().draw(z)

    CNF(random_field(), solver(), Counting())(torch.randn(3, *SHAPE))
    assert len(draws) == 1


def test_flow_is_transport_without_the_trace():
    bijection, x = cnf(), torch.randn(3, *SHAPE)
    torch.testing.assert_close(bijection.flow(x, None, 0.0, 1.0), bijection(x)[0])


def test_kinetic_energy_of_a_constant_field_is_known():
    class Constant(nn.Module):
        def forward(self, t, z, context=None):
            return torch.full_like(z, 2.0)

    flow = CNF(Constant(), solver(), Hutchinson(mode="forward"))
    regularizer = KineticEnergy(per_dimension=False)
    _, _, (energy,) = flow.transport(
        torch.randn(3, *SHAPE), None, 0.0, 1.5, regularizers=[regularizer]
    )
    torch.testing.assert_close(energy, torch.full((3,), 4.0 * 8 * 1.5))


def test_all_uses_of_a_field_are_compiled(monkeypatch):
    running = []

    def recorded(function):
        def call(*args):
            running.append(True)
            result = function(*args)
            running.pop()
            return result

        return call

    class Recording(nn.Module):
        compiled: list[bool] = []  # noqa: RUF012

        def forward(self, t, z, context=None):
            self.compiled.append(bool(running))
            return -z

    monkeypatch.setattr(torch, "compile", recorded)
    flow = CNF(field := Recording(), Solver("rk4", step_size=0.5), compile=True)
    z = torch.randn(2, 1, 2, 2)
    flow(z)
    flow.flow(z, None, 1.0, 0.0)
    flow.velocity(torch.rand(2), z, None)
    assert len(field.compiled) == 17
    assert all(field.compiled)


def test_dequantize_is_undone_by_to_bytes():
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    u, ladj = dequantize(pixels, torch.rand(1, 1, 16, 16))
    assert u.min() >= 0
    assert u.max() < 1
    assert torch.equal(to_bytes(u), pixels)
    torch.testing.assert_close(ladj, torch.tensor([-256 * math.log(256)]))


def test_uniform_density_takes_eight_bits():
    _, ladj = dequantize(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.rand(2, 1, 4, 4))
    torch.testing.assert_close(bits_per_dim(ladj, 16), torch.full((2,), 8.0))


def test_logit_conversion_is_equation_6_15():
    alpha, x = 0.05, torch.randn(1, 1, 4, 4)
    flow = Logit(alpha)
    # p(x) is normal in logit space; z is the image in [0, 256].
    z = 256 * flow.inverse(x)[0]

    def log_prob_z(z):
        logits, ladj = flow(z / 256)
        return normal_log_prob(logits) + ladj - 16 * math.log(256)

    sigma = torch.sigmoid(x)
    report = (
        bits_per_dim(normal_log_prob(x), 16)
        - math.log2(1 - 2 * alpha)
        + 8
        + (sigma.log2() + (1 - sigma).log2()).mean()
    )
    torch.testing.assert_close(bits_per_dim(log_prob_z(z), 16), report)


def test_logit_margin_must_make_sense():
    with pytest.raises(ValueError, match=r"0, 0\.5"):
        Logit(0.5)


class TwoArguments(nn.Module):
    """Field as in torchdiffeq: the time and the state."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(3, 3)

    def forward(self, t, y):
        return torch.tanh(self.net(y)) * t


@pytest.mark.parametrize(
    "module",
    [nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 3)), TwoArguments()],
    ids=["sequential", "time and state"],
)
@pytest.mark.parametrize("mode", ["exact", "hutchinson"])
def test_any_module_is_a_field_with_its_own_divergence(module, mode):
    module = module.double()
    flow = CNF(module, Solver("dopri5", 1e-9, 1e-9), Exact() if mode == "exact" else None)
    x, t = torch.randn(4, 3), torch.tensor(0.5)
    value = module(t, x) if isinstance(module, TwoArguments) else module(x)
    torch.testing.assert_close(flow.field(t, x), value)
    z, ladj = flow(x)
    assert set(dict(flow.field.named_parameters())) == {
        f"module.{name}" for name, _ in module.named_parameters()
    }
    if mode == "exact":
        jacobian = torch.autograd.functional.jacobian(lambda v: flow(v)[0].sum(0), x)
        true = jacobian.transpose(0, 1).slogdet().logabsdet
        torch.testing.assert_close(ladj, true, atol=1e-6, rtol=0)
    torch.testing.assert_close(flow.inverse(z)[0], x, atol=1e-6, rtol=0)
    with pytest.raises(InputError, match="which takes none"):
        flow(x, x)


def test_a_linear_module_gives_the_matrix_exponential_and_its_trace():
    linear = nn.Linear(3, 3, bias=False).double()
    z, ladj = CNF(linear, Solver("dopri5", 1e-10, 1e-10), Exact())(x := torch.randn(2, 3))
    torch.testing.assert_close(z, x @ torch.matrix_exp(linear.weight).T, atol=1e-7, rtol=0)
    torch.testing.assert_close(ladj, linear.weight.trace().expand(2), atol=1e-9, rtol=0)
