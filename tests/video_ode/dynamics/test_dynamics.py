from functools import partial

import pytest
import torch
from torch import nn

from common.errors import InputError
from common.nn.mlp import MLPField
from common.ode.sde import EulerMaruyama
from common.ode.solve import Solver
from video_ode.dynamics.base import PiecewiseContext
from video_ode.dynamics.ode import NeuralODE
from video_ode.dynamics.recurrent import GRU, MLPDynamics
from video_ode.dynamics.residual import ResidualEuler
from video_ode.dynamics.sde import NeuralSDE

pytestmark = pytest.mark.usefixtures("double")
MATRIX = torch.tensor([[-0.1, 0.6, 0.0], [-0.5, -0.1, 0.2], [0.1, 0.0, -0.3]], dtype=torch.float64)


class Linear(nn.Module):
    """`f(z) = z Aᵀ + context`."""

    def __init__(self, size, context_size=0):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, t, z, context=None):
        dz = self.scale * z @ MATRIX.T[: z.shape[1], : z.shape[1]]
        return dz if context is None else dz + context[:, : z.shape[1]]


class Spring(nn.Module):
    """Velocity, and an acceleration of `-s`."""

    def __init__(self, size, context_size=0):
        super().__init__()

    def forward(self, t, z, context=None):
        position, velocity = z.chunk(2, -1)
        return torch.cat([torch.full_like(velocity, torch.nan), -position], -1)


def ode(**settings):
    return NeuralODE(3, 0, Linear, Solver("rk4", step_size=0.05), **settings)


# Neural ODE ---------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [[0.0, 0.3, 2.0, 5.0], [1.0, 0.4, -2.0]])
def test_ode_is_the_matrix_exponential_in_both_directions(times):
    z0, times = torch.randn(4, 3), torch.tensor(times)
    states = ode()(z0, times).states
    for i, t in enumerate(times - times[0]):
        torch.testing.assert_close(
            states[:, i], z0 @ torch.matrix_exp(MATRIX * t).T, atol=1e-6, rtol=0
        )


def test_second_order_is_an_oscillator():
    z0, times = torch.randn(5, 4), torch.linspace(0, 6, 7)
    dynamics = NeuralODE(4, 0, Spring, Solver("rk4", step_size=0.01), order=2)
    states = dynamics(z0, times).states
    s0, v0 = z0[:, None].chunk(2, -1)
    t = times[None, :, None]
    expected = torch.cat([s0 * t.cos() + v0 * t.sin(), v0 * t.cos() - s0 * t.sin()], -1)
    torch.testing.assert_close(states, expected, atol=1e-6, rtol=0)


def test_constant_part_stays_and_steers():
    dynamics = NeuralODE(5, 0, Linear, Solver("rk4", step_size=0.05), static_size=3)
    z0 = torch.randn(2, 5)
    states = dynamics(z0, torch.tensor([0.0, 1.0, 2.0])).states
    assert (states[:, :, 2:] == z0[:, None, 2:]).all()
    other = torch.cat([z0[:, :2], z0[:, 2:] + 1], 1)
    assert (dynamics(other, torch.tensor([0.0, 1.0])).states[:, 1, :2] != states[:, 1, :2]).all()


@pytest.mark.parametrize("gradient", ["direct", "checkpoint", "adjoint"])
def test_gradients_reach_state_weights_and_context(gradient):
    dynamics = NeuralODE(3, 3, Linear, Solver("rk4", step_size=0.1, gradient=gradient))
    z0, context = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    dynamics(z0, torch.tensor([0.0, 1.0, 2.0]), context).states.sum().backward()
    for tensor in (z0, context, dynamics.field.scale):
        assert tensor.grad.abs().max() > 0.1


def test_state_that_does_not_divide_is_refused():
    with pytest.raises(InputError, match="order 2"):
        NeuralODE(5, 0, Linear, Solver(), order=2)


# Residual Euler -----------------------------------------------------------------------------


@pytest.mark.parametrize("steps", range(1, 11))
def test_residual_steps_return_the_very_frames_that_were_asked_for(steps):
    dynamics = ResidualEuler(3, 0, Linear, steps)
    z0, times = torch.randn(2, 3), torch.arange(16.0)
    states = dynamics(z0, times).states
    step = torch.eye(3) + MATRIX / steps
    assert states.shape == (2, 16, 3)
    for i in range(16):
        torch.testing.assert_close(states[:, i], z0 @ torch.matrix_power(step, i * steps).T)


@pytest.mark.parametrize("steps", [1, 3, 7])
def test_random_variable_of_a_frame_is_held_until_the_next(steps):
    dynamics = ResidualEuler(3, 3, Linear, steps)
    y, z = torch.randn(2, 3), torch.randn(2, 24, 3)
    states = dynamics(y, torch.arange(25.0), PiecewiseContext(z)).states
    for frame in range(24):
        for _ in range(steps):
            y = y + (y @ MATRIX.T + z[:, frame]) / steps
        torch.testing.assert_close(states[:, frame + 1], y)


def test_between_two_steps_the_path_is_straight():
    dynamics = ResidualEuler(3, 0, Linear, 2)
    z0 = torch.randn(2, 3)
    knots = dynamics(z0, torch.tensor([0.0, 0.5, 1.0, 1.5])).states
    states = dynamics(z0, torch.tensor([0.0, 0.1, 0.75, 1.0, 1.45])).states
    torch.testing.assert_close(states[:, 1], 0.8 * knots[:, 0] + 0.2 * knots[:, 1])
    torch.testing.assert_close(states[:, 2], 0.5 * knots[:, 1] + 0.5 * knots[:, 2])
    torch.testing.assert_close(states[:, 3], knots[:, 2])
    torch.testing.assert_close(states[:, 4], 0.1 * knots[:, 2] + 0.9 * knots[:, 3])


def test_residual_steps_are_of_first_order_and_run_backward():
    z0, times = torch.randn(2, 3), torch.tensor([0.0, -2.0])
    true = z0 @ torch.matrix_exp(-2 * MATRIX).T
    ends = [ResidualEuler(3, 0, Linear, k)(z0, times).states[:, 1] for k in (64, 256)]
    errors = [(end.detach() - true).norm() for end in ends]
    assert float(torch.log2(errors[0] / errors[1])) / 2 == pytest.approx(1.0, abs=0.1)


def test_residual_steps_are_the_ode_by_eulers_method_for_held_contexts_too():
    y, z, times = torch.randn(2, 3), torch.randn(2, 4, 3), torch.tensor([0.0, 0.5, 1, 2.75, 4])
    euler = NeuralODE(3, 3, Linear, Solver("euler", step_size=0.25))
    z = PiecewiseContext(z)
    torch.testing.assert_close(
        ResidualEuler(3, 3, Linear, 4)(y, times, z).states, euler(y, times, z).states
    )


def test_a_field_may_start_almost_at_rest():
    still = MLPField(3, 2, last_gain=0.0)
    still.net[-1].bias.data.zero_()
    assert (still(torch.zeros(()), torch.randn(4, 3), torch.randn(4, 2)) == 0).all()


# Frame by frame -----------------------------------------------------------------------------


def test_gru_is_pytorchs_cell_in_a_loop():
    dynamics = GRU(3, 2)
    y, z = torch.randn(4, 3), torch.randn(4, 5, 2)
    states = dynamics(y, torch.tensor([0.0, 2.0, 3.0, 5.0]), PiecewiseContext(z)).states
    expected = [y]
    for i in range(5):
        expected.append(dynamics.cell(z[:, i], expected[-1]))
    torch.testing.assert_close(states, torch.stack([expected[i] for i in (0, 2, 3, 5)], 1))


def test_mlp_dynamics_are_not_residual():
    dynamics = MLPDynamics(3, 3, Linear)
    y, z = torch.randn(4, 3), torch.randn(4, 1, 3)
    states = dynamics(y, torch.tensor([0.0, 1.0]), PiecewiseContext(z)).states
    torch.testing.assert_close(states[:, 1], y @ MATRIX.T + z[:, 0])


# SDE ----------------------------------------------------------------------------------------


def sde(scale, **settings):
    field = partial(MLPField, width=8)
    return NeuralSDE(3, 2, field, field, EulerMaruyama(0.25), scale=scale, **settings)


def test_sde_without_diffusion_is_the_ode():
    dynamics, z0, context = sde(0.0), torch.randn(4, 3), torch.randn(4, 2)
    ode = NeuralODE(3, 2, lambda *_: dynamics.drift, Solver("euler", step_size=0.25))
    times = torch.tensor([0.0, 0.5, 2.0])
    torch.testing.assert_close(dynamics(z0, times, context).states, ode(z0, times, context).states)


def test_sde_of_its_prior_costs_nothing_and_of_another_something():
    dynamics = sde(0.5, prior_drift=partial(MLPField, width=8))
    z0, context, times = torch.randn(4, 3), torch.randn(4, 2), torch.tensor([0.0, 1.0])
    assert (dynamics(z0, times, context).kl > 0).all()
    dynamics.prior_drift = dynamics.drift
    assert (dynamics(z0, times, context).kl == 0).all()


def test_a_diffusion_of_any_sign_is_taken_as_it_is():
    class Constant(nn.Module):
        def __init__(self, *sizes, value):
            super().__init__()
            self.value = value

        def forward(self, t, z, context=None):
            return torch.full_like(z, self.value)

    def end(value):
        torch.manual_seed(2)
        drift, diffusion = (partial(Constant, value=number) for number in (0.0, value))
        dynamics = NeuralSDE(2, 0, drift, diffusion, EulerMaruyama(0.5), positive=False)
        return dynamics(torch.zeros(400, 2), torch.tensor([0.0, 4.0])).states[:, 1]

    assert torch.equal(end(-3.0), -end(3.0))
    assert end(-3.0).std() == pytest.approx(6.0, rel=0.1)


@pytest.mark.parametrize("settings", [dict(scale=0.0), dict(scale=1.0, positive=False)])
def test_a_divergence_needs_a_positive_diffusion(settings):
    with pytest.raises(InputError, match="never 0"):
        sde(prior_drift=MLPField, **settings)


def test_sde_does_not_run_backward():
    with pytest.raises(InputError, match="forward in time only"):
        sde(1.0)(torch.randn(2, 3), torch.tensor([0.0, -1.0]), torch.randn(2, 2))


@pytest.mark.parametrize("kind", ["ode", "residual", "sde"])
def test_held_contexts_do_not_reach_before_the_first_frame(kind):
    dynamics = {"ode": NeuralODE(3, 3, Linear, Solver()), "residual": ResidualEuler(3, 3, Linear)}
    dynamics["sde"] = NeuralSDE(3, 3, Linear, Linear, EulerMaruyama(0.5))
    context = PiecewiseContext(torch.randn(2, 4, 3))
    with pytest.raises(InputError, match="before the first frame"):
        dynamics[kind](torch.randn(2, 3), torch.tensor([0.0, -1.0]), context)
