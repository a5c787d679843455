import math

import pytest
import torch

from common.errors import InputError
from common.ode.sde import euler_maruyama

RATE, SIGMA = 0.8, 0.5


def ornstein_uhlenbeck(n, step, times):
    return euler_maruyama(
        lambda t, z: -RATE * z,
        lambda t, z: SIGMA * torch.ones_like(z),
        torch.ones(n, 1),
        times,
        step,
    ).states


def test_ornstein_uhlenbeck_has_the_moments_of_its_transition(double):
    times = torch.tensor([0.0, 0.7, 1.5])
    states = ornstein_uhlenbeck(40_000, 0.01, times)[..., 0]
    for i, t in enumerate(times[1:].tolist(), 1):
        mean = math.exp(-RATE * t)
        variance = SIGMA**2 / (2 * RATE) * (1 - math.exp(-2 * RATE * t))
        assert (
            abs(states[:, i].mean() - mean) < 4 * (variance / 40_000) ** 0.5 + 0.01 * RATE * mean
        )
        assert states[:, i].var() == pytest.approx(variance, rel=0.05)


def test_covariance_in_time_decays_with_the_rate(double):
    states = ornstein_uhlenbeck(40_000, 0.01, torch.tensor([0.0, 5.0, 6.0]))[..., 0]
    correlation = torch.corrcoef(states[:, 1:].T)[0, 1]
    assert correlation == pytest.approx(math.exp(-RATE), abs=0.02)


def test_without_diffusion_it_is_eulers_method(double):
    a = torch.randn(3, 3)
    path = euler_maruyama(
        lambda t, z: z @ a,
        lambda t, z: torch.zeros_like(z),
        z0 := torch.randn(2, 3),
        torch.tensor([0.0, 0.5, 1.0]),
        0.25,
    )
    step = torch.eye(3) + 0.25 * a
    torch.testing.assert_close(path.states[:, 2], z0 @ torch.matrix_power(step, 4))
    assert (path.kl == 0).all()


def test_divergence_of_constant_drifts_is_in_closed_form(double):
    shift, sigma, end = torch.tensor([0.3, -0.7]), 0.4, 2.5
    path = euler_maruyama(
        lambda t, z: z + shift,
        lambda t, z: sigma * torch.ones_like(z),
        torch.randn(4, 2),
        torch.tensor([0.0, 1.0, end]),
        0.1,
        prior_drift=lambda t, z: z,
    )
    expected = 0.5 * float(shift.square().sum()) / sigma**2 * end
    torch.testing.assert_close(path.kl[:, -1], torch.full((4,), expected))
    torch.testing.assert_close(path.kl[:, 1], torch.full((4,), expected / end))


def test_noise_has_no_way_back():
    with pytest.raises(InputError, match="forward in time only"):
        ornstein_uhlenbeck(2, 0.1, torch.tensor([1.0, 0.0]))


def test_times_between_the_steps_have_the_covariance_of_brownian_motion(double):
    times = torch.tensor([0.0, 0.2, 0.7, 1.0, 1.4, 1.9])
    path = euler_maruyama(
        lambda t, z: torch.zeros_like(z),
        lambda t, z: torch.ones_like(z),
        torch.zeros(40_000, 1),
        times,
        1.0,
    )
    covariance = torch.cov(path.states[..., 0].T)
    expected = torch.minimum(times[:, None], times)
    torch.testing.assert_close(covariance, expected, atol=0.04, rtol=0)


def test_states_on_the_grid_do_not_depend_on_the_other_times(double):
    def states(times):
        torch.manual_seed(1)
        return ornstein_uhlenbeck(5, 0.5, torch.tensor(times))

    few, more = states([0.0, 1.0, 2.5]), states([0.0, 0.3, 1.0, 1.1, 1.6, 2.5])
    assert torch.equal(few, more[:, [0, 2, 5]])


def test_coefficients_are_asked_at_times_inside_the_interval(double):
    asked = []

    def drift(t, z):
        asked.append(float(t))
        return z

    euler_maruyama(drift, lambda t, z: 0 * z, torch.ones(1, 1), torch.tensor([0.5, 1.7]), 0.5)
    assert asked == [0.5, 1.0, 1.5]
