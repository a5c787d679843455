"""What users of other solvers and estimators asked for, served by our public interface.

Each test names the need and the issues where it was asked for.
"""

import math
import warnings

import pytest
import torch

from common.ode.sde import SDE, EulerMaruyama
from common.ode.solve import Solver
from mimic import measure_total_correlation
from tests.test_installation import EXTRAS, LEFT_OUT, PROJECT, brought


@pytest.mark.parametrize("solver", [Solver("dopri5"), Solver("rk4", step_size=0.1)])
def test_dense_output(solver):
    """torchdiffeq #266: states at any times in one solve, the same whichever others are asked for.

    Here two hundred of them, of a turning pointer.
    """
    times = torch.linspace(0, 5, 201, dtype=torch.float64)
    pointer = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    turning = lambda t, state: (torch.stack([-state[0][:, 1], state[0][:, 0]], 1),)
    (states,), _ = solver.path(turning, (pointer,), times)
    exact = torch.stack([times.cos(), times.sin()], 1)[None]
    torch.testing.assert_close(states, exact, atol=1e-4, rtol=0)
    (few,), _ = solver.path(turning, (pointer,), times[[0, 99, 200]])
    torch.testing.assert_close(few, states[:, [0, 99, 200]], atol=1e-6, rtol=0)


def test_a_simple_solver_of_sdes():
    """diffrax #517: two functions and a step; a step costs one evaluation of the drift.

    The mean and the variance of an Ornstein-Uhlenbeck process are those of its closed form.
    """
    torch.manual_seed(0)
    sde = SDE(drift=lambda t, z: -z, diffusion=lambda t, z: torch.full_like(z, 0.5))
    start = torch.full((4000, 1), 2.0)
    path = EulerMaruyama(step_size=0.01).path(sde, start, torch.tensor([0.0, 1.0]))
    end = path.states[:, -1]
    assert path.evaluations.forward == 100
    assert float(end.mean()) == pytest.approx(2 * math.exp(-1), abs=0.02)
    assert float(end.var()) == pytest.approx(0.125 * (1 - math.exp(-2)), rel=0.08)


@pytest.mark.parametrize("correlation", [0.0, 1.0])
def test_estimates_of_mutual_information_are_numbers(correlation):
    """mine-pytorch #3, CLUB #25 and #27: never -inf or NaN, and not below zero unless it is said.

    The truth is that of the noisy channels; at correlation 1 it is large, not infinite.
    """
    torch.manual_seed(0)
    x, y = torch.randn(2, 400)
    pair = torch.stack([x, correlation * x + math.sqrt(1 - correlation**2) * y], 1)
    with warnings.catch_warnings(record=True):
        found = measure_total_correlation(pair, steps=60)
    noisy = correlation / 1.01
    truth = -0.5 * math.log(1 - noisy**2)
    assert math.isfinite(found.error)
    assert found.value >= 0
    assert found.value == pytest.approx(truth, abs=0.1 + 0.3 * truth)


def test_installing_does_not_replace_torch():
    """torchdyn #210: no installed package asks for one release of PyTorch, or for an old one."""
    lines = [*PROJECT["dependencies"], *(x for name in LEFT_OUT for x in EXTRAS[name])]
    wanted = [package.specifier for package in brought(lines) if package.name == "torch"]
    assert len(wanted) > 3
    assert all(specifier.contains("2.11.0") for specifier in wanted)
    assert all(specifier.contains("3.0") for specifier in wanted)
