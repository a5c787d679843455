import math
import sys
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from common.errors import InputError, RunError
from common.ode.brownian import BrownianPath
from common.ode.sde import SDE, EulerMaruyama, Heun
from common.ode.torch_sde import TorchSDE

pytestmark = pytest.mark.usefixtures("double")
RATE, SIGMA = 0.8, 0.5
OWN = [EulerMaruyama, Heun]
TORCHSDE = ["euler", "heun", "midpoint", "euler_heun", "reversible_heun"]
ANY = [*OWN, *(lambda step, method=method: TorchSDE(step, method) for method in TORCHSDE)]
IDS = ["euler-maruyama", "heun", *(f"torchsde {method}" for method in TORCHSDE)]


def constant(value):
    return lambda t, z: value * torch.ones_like(z)


def linear(a, b):
    """Geometric Brownian motion `dz = a z dt + b z dW`."""
    return SDE(lambda t, z: a * z, lambda t, z: b * z)


def ornstein_uhlenbeck(n, step, times):
    sde = SDE(lambda t, z: -RATE * z, constant(SIGMA))
    return EulerMaruyama(step).path(sde, torch.ones(n, 1), times).states


# Distributions ------------------------------------------------------------------------------


def test_ornstein_uhlenbeck_has_the_moments_of_its_transition():
    times = torch.tensor([0.0, 0.7, 1.5])
    states = ornstein_uhlenbeck(40_000, 0.01, times)[..., 0]
    for i, t in enumerate(times[1:].tolist(), 1):
        mean = math.exp(-RATE * t)
        variance = SIGMA**2 / (2 * RATE) * (1 - math.exp(-2 * RATE * t))
        assert (
            abs(states[:, i].mean() - mean) < 4 * (variance / 40_000) ** 0.5 + 0.01 * RATE * mean
        )
        assert states[:, i].var() == pytest.approx(variance, rel=0.05)


def test_covariance_in_time_decays_with_the_rate():
    states = ornstein_uhlenbeck(40_000, 0.01, torch.tensor([0.0, 5.0, 6.0]))[..., 0]
    correlation = torch.corrcoef(states[:, 1:].T)[0, 1]
    assert correlation == pytest.approx(math.exp(-RATE), abs=0.02)


def test_times_between_the_steps_have_the_covariance_of_brownian_motion():
    times, sde = torch.tensor([0.0, 0.2, 0.7, 1.0, 1.4, 1.9]), SDE(constant(0), constant(1))
    path = EulerMaruyama(1.0).path(sde, torch.zeros(40_000, 1), times)
    covariance = torch.cov(path.states[..., 0].T)
    expected = torch.minimum(times[:, None], times)
    torch.testing.assert_close(covariance, expected, atol=0.04, rtol=0)


# Order --------------------------------------------------------------------------------------


def strong_errors(kind, correction, steps, a=0.5, b=0.4, n=4000):
    """Mean error at time 1 against the exact solution on the same Brownian path."""
    z0, times, path = torch.ones(n, 1), torch.tensor([0.0, 1.0]), BrownianPath(1 / 256)
    exact = torch.exp((a - correction * b**2 / 2) + b * path.increment(0.0, 1.0, z0))
    solved = [kind(1 / k).path(linear(a, b), z0, times, brownian=path) for k in steps]
    return np.array([float((end.states[:, 1] - exact).abs().mean()) for end in solved])


@pytest.mark.parametrize(
    ("kind", "correction", "low", "high"),
    [(ANY[0], 1, 0.4, 0.65), (ANY[2], 1, 0.4, 0.65)]
    + [(kind, 0, 0.85, 1.2) for kind in [ANY[1], *ANY[3:]]],
    ids=[IDS[0], IDS[2], IDS[1], *IDS[3:]],
)
def test_strong_order_on_geometric_brownian_motion(kind, correction, low, high):
    steps = [8, 16, 32, 64]
    errors = strong_errors(kind, correction, steps)
    assert low < -np.polyfit(np.log(steps), np.log(errors), 1)[0] < high
    # The other sense of the equation has another solution: the error stays.
    (other,) = strong_errors(kind, 1 - correction, [64])
    assert other > 5 * errors[-1]
    assert other > 0.1


@pytest.mark.parametrize("kind", OWN)
def test_without_diffusion_it_is_the_method_for_odes(kind):
    a, z0 = torch.randn(3, 3), torch.randn(2, 3)
    sde = SDE(lambda t, z: z @ a, constant(0))
    path = kind(0.25).path(sde, z0, torch.tensor([0.0, 0.5, 1.0]))
    step = torch.eye(3) + 0.25 * a + (kind is Heun) * (0.25 * a) @ (0.25 * a) / 2
    torch.testing.assert_close(path.states[:, 2], z0 @ torch.matrix_power(step, 4))
    assert (path.kl == 0).all()


@pytest.mark.parametrize(("kind", "method"), zip(OWN, ["euler", "heun"], strict=True))
@pytest.mark.parametrize("shape", [(3,), (3, 2, 4)])
def test_torchsde_gives_the_same_states_on_the_same_path(kind, method, shape):
    z0, times, path = torch.randn(shape), torch.tensor([0.5, 1.0, 3.0]), BrownianPath(0.1, 0.5)
    sde = SDE(lambda t, z: (t * z).sin(), lambda t, z: z.roll(1, -1).cos())
    ours = kind(0.1).path(sde, z0, times, brownian=path).states
    theirs = TorchSDE(0.1, method).path(sde, z0, times, brownian=path).states
    torch.testing.assert_close(ours, theirs)


# Divergence ---------------------------------------------------------------------------------


def test_divergence_of_constant_drifts_is_in_closed_form():
    shift, sigma, end = torch.tensor([0.3, -0.7]), 0.4, 2.5
    path = EulerMaruyama(0.1).path(
        SDE(lambda t, z: z + shift, constant(sigma), prior_drift=lambda t, z: z),
        torch.randn(4, 2),
        torch.tensor([0.0, 1.0, end]),
    )
    expected = 0.5 * float(shift.square().sum()) / sigma**2 * end
    torch.testing.assert_close(path.kl[:, -1], torch.full((4,), expected))
    torch.testing.assert_close(path.kl[:, 1], torch.full((4,), expected / end))


@pytest.mark.parametrize("kind", ANY[1:], ids=IDS[1:])
def test_other_solvers_refuse_a_prior(kind):
    sde = SDE(constant(0), constant(1), prior_drift=constant(0))
    with pytest.raises(InputError, match="use EulerMaruyama"):
        kind(0.5).path(sde, torch.zeros(2, 1), torch.tensor([0.0, 1.0]))


# Times and noise ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ANY, ids=IDS)
def test_noise_has_no_way_back(kind):
    with pytest.raises(InputError, match="forward in time only"):
        kind(0.1).path(linear(1, 1), torch.ones(2, 1), torch.tensor([1.0, 0.0]))


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("step", [0.5, 0.3])
def test_states_do_not_depend_on_the_other_times(kind, step):
    def states(times):
        torch.manual_seed(1)
        return kind(step).path(linear(0.3, 0.5), torch.ones(5, 1), torch.tensor(times)).states

    few, more = states([0.0, 1.0, 1.6, 2.5]), states([0.0, 0.3, 1.0, 1.1, 1.6, 2.4, 2.5])
    assert torch.equal(few, more[:, [0, 2, 4, 6]])


@pytest.mark.parametrize("kind", ANY, ids=IDS)
def test_the_seed_of_torch_alone_reproduces_a_path_and_no_noise_is_used_twice(kind):
    def draw():
        sde, times = SDE(constant(0), constant(1)), torch.tensor([0.0, 1.0, 2.0])
        return kind(0.25).path(sde, torch.zeros(4000, 1), times).states

    def seeded(numpy_seed):
        np.random.seed(numpy_seed)  # noqa: NPY002, torchsde's own generator
        torch.manual_seed(4)
        return draw()

    first, second = seeded(1), seeded(2)
    assert torch.equal(first, second)
    both = torch.cat([first.diff(dim=1), draw().diff(dim=1)], 1)[..., 0]
    assert (torch.corrcoef(both.T) - torch.eye(4)).abs().max() < 0.07


@pytest.mark.parametrize("kind", OWN)
def test_coefficients_are_asked_at_times_inside_the_interval(kind):
    asked = []

    def drift(t, z):
        asked.append(float(t))
        return z

    times = torch.tensor([0.5, 1.7])
    path = kind(0.5).path(SDE(drift, constant(0)), torch.ones(1, 1), times)
    assert sorted(set(asked)) == pytest.approx([0.5, 1.0, 1.5, *([1.7] if kind is Heun else [])])
    assert path.evaluations.forward == len(asked)


# Gradients and memory -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ANY, ids=IDS)
def test_gradients_equal_finite_differences(kind):
    path = BrownianPath(0.25)

    def end(z0, a, b):
        sde = SDE(lambda t, z: torch.tanh(z @ a), lambda t, z: torch.tanh(z @ b))
        return kind(0.25).path(sde, z0, torch.tensor([0.0, 0.6, 1.0]), brownian=path).states

    inputs = [torch.randn(shape, requires_grad=True) for shape in [(2, 3), (3, 3), (3, 3)]]
    assert torch.autograd.gradcheck(end, inputs)


@pytest.mark.parametrize("method", TORCHSDE[1:])
def test_the_adjoint_gives_the_gradients_of_backpropagation(method):
    drift, diffusion, path = nn.Linear(6, 3), nn.Linear(3, 3), BrownianPath(1 / 128)
    z0, seed = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    params = [*drift.parameters(), *diffusion.parameters()]

    def gradients(adjoint):
        context = 2 * seed  # no leaf, as the contexts of models are
        sde = SDE(
            lambda t, z: drift(torch.cat([z, context], 1)).tanh(),
            lambda t, z: diffusion(z).tanh(),
        )
        solver, times = TorchSDE(1 / 128, method, adjoint), torch.tensor([0.0, 0.5, 1.0])
        states = solver.path(sde, z0, times, [*params, context], path).states
        return torch.autograd.grad(states.square().sum(), [z0, seed, *params])

    for right, adjoint in zip(gradients(False), gradients(True), strict=True):
        assert (right - adjoint).norm() < 0.01 * right.norm()


def test_wrong_adjoints_are_refused():
    with pytest.raises(InputError, match="wrong gradients"):
        TorchSDE(0.5, "euler", adjoint=True)
    with pytest.raises(InputError, match="divides the gaps"):
        TorchSDE(0.4, "heun", adjoint=True).path(
            linear(1, 1), torch.ones(2, 1), torch.tensor([0.0, 1.0])
        )


def test_without_torchsde_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchsde", None)
    with pytest.raises(RunError, match=r"pip install -e '\.\[sde\]'"):
        TorchSDE(0.5).path(linear(1, 1), torch.ones(2, 1), torch.tensor([0.0, 1.0]))


@pytest.mark.parametrize("kind", OWN)
def test_without_gradients_only_the_asked_states_are_kept(kind):
    alive, most = [], []

    def drift(t, z):
        alive.append(weakref.ref(z))
        most.append(sum(ref() is not None for ref in alive))
        return -z

    times = torch.tensor([0.0, 0.5, 1.0])
    with torch.no_grad():
        path = kind(0.01).path(SDE(drift, constant(1)), torch.ones(2, 3), times)
    assert len(alive) == 100 * kind.stages == path.evaluations.forward
    assert max(most) <= len(times) + kind.stages
    assert path.states.grad_fn is None
