"""Laws of the solver; the oracle is the matrix exponential."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from common.errors import InputError
from common.ode.evaluations import SolveError
from common.ode.solve import ADAPTIVE, FIXED, Solver
from tests.laws import SOLVERS

pytestmark = pytest.mark.usefixtures("double")


def linear(a):
    return lambda t, y: (y[0] @ a.T,)


def test_every_method_inherits_the_laws():
    assert set(SOLVERS) == {*FIXED, *ADAPTIVE}


@pytest.mark.parametrize("method", FIXED)
def test_fixed_grid_methods_have_their_order(method):
    a, y0 = torch.randn(4, 4) * 0.5, torch.randn(1, 4)
    true = y0 @ torch.matrix_exp(a).T
    steps = [2.0**-k for k in range(2, 6)]
    errors = [
        (Solver(method, step_size=h).end(linear(a), (y0,), 0.0, 1.0).state[0] - true).norm()
        for h in steps
    ]
    slope = np.polyfit(np.log2(steps), torch.stack(errors).log2().numpy(), 1)[0]
    assert slope == pytest.approx(SOLVERS[method], abs=0.2)


@pytest.mark.parametrize("method", ADAPTIVE)
def test_adaptive_methods_keep_their_tolerance(method):
    a, y0 = torch.randn(4, 4), torch.randn(3, 4)
    solution = Solver(method, rtol=1e-7, atol=1e-7).end(linear(a), (y0,), 0.0, 1.0)
    torch.testing.assert_close(solution.state[0], y0 @ torch.matrix_exp(a).T, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", ["rk4", "dopri5"])
def test_path_is_batch_first_and_right_at_uneven_times_in_both_directions(method):
    a, y0 = torch.randn(3, 3) * 0.5, torch.randn(2, 3)
    solver = Solver("rk4", step_size=0.05) if method == "rk4" else Solver(rtol=1e-9, atol=1e-9)
    for times in (torch.tensor([0.0, 0.13, 0.4, 1.0]), torch.tensor([1.0, 0.77, 0.2])):
        (path,) = solver.path(linear(a), (y0,), times).state
        true = torch.stack([y0 @ torch.matrix_exp(a * (t - times[0])).T for t in times], dim=1)
        assert path.shape == (2, len(times), 3)
        torch.testing.assert_close(path, true, atol=1e-6, rtol=0)


def settings(method):
    """Arguments of a solver with ten steps in a unit of time, or with a loose tolerance."""
    return dict(step_size=0.1) if method in FIXED else dict(rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("gradient", ["direct", "adjoint"])
@pytest.mark.parametrize("times", [[0.3, 0.95], [0.95, 0.4, 0.3]], ids=["forward", "backward"])
@pytest.mark.parametrize("method", [*FIXED, *ADAPTIVE])
def test_no_derivative_is_asked_for_a_time_outside_the_interval(method, times, gradient):
    asked, weight = [], torch.tensor(1e-3, requires_grad=True)

    def f(t, y):
        asked.append(t.item())
        return (weight * torch.cos(5 * t) * y[0],)  # so slow that a first trial step is huge

    solver = Solver(method, **settings(method), gradient=gradient)
    (path,), _ = solver.path(f, (torch.ones(2, 1),), torch.tensor(times), [weight])
    path[:, 1:].sum().backward()
    assert min(asked) >= min(times)
    assert max(asked) <= max(times)


@pytest.mark.parametrize("method", ADAPTIVE)
def test_adaptive_methods_end_with_a_step_and_not_with_an_interpolation(method):
    # A method of order p integrates t^(p-1) exactly; dopri5 interpolates by a polynomial of
    # degree 4.
    power = min(SOLVERS[method], 4)
    times = torch.tensor([0.0, 0.31, 0.32, 0.7, 1.0])
    for asked in (times, times.flip(0)):
        (path,), _ = Solver(method, **settings(method)).path(
            lambda t, y: (power * t ** (power - 1) + 0 * y[0],), (asked[:1, None] ** power,), asked
        )
        torch.testing.assert_close(path[0, :, 0], asked**power, atol=1e-12, rtol=0)


@pytest.mark.parametrize("method", FIXED)
@pytest.mark.parametrize("step", [0.5, 0.1, 1 / 3])
def test_states_on_a_grid_do_not_depend_on_the_other_times(method, step):
    a, y0 = torch.randn(3, 3), torch.randn(2, 3)
    solver = Solver(method, step_size=step)
    for sign in (1, -1):
        whole = sign * torch.arange(4.0)
        asked = sign * torch.tensor([0, 0.2, 0.25, 1, 1.7, 2, 3, 3.1])
        (few,), _ = solver.path(linear(a), (y0,), whole)
        (more,), _ = solver.path(linear(a), (y0,), asked)
        assert torch.equal(more[:, torch.isin(asked, whole)], few)
        (single,), _ = solver.end(linear(a), (y0,), 0.0, 1.7 * sign)
        assert torch.equal(single, more[:, asked == 1.7 * sign][:, 0])


@pytest.mark.parametrize(
    "times", [[0.0, 1.0, 1.0], [0.0, 2.0, 1.0], [0.0, math.nan], [0, math.inf]]
)
def test_times_without_an_order_are_refused(times):
    for solver in (Solver("rk4", step_size=0.1), Solver()):
        with pytest.raises(InputError, match=r"got times .*ascending or descending"):
            solver.path(linear(torch.eye(2)), (torch.ones(1, 2),), torch.tensor(times))


def test_a_solve_of_no_time_gives_its_start():
    y0 = torch.randn(2, 3)
    (y1,), evaluations = Solver().end(linear(torch.eye(3)), (y0,), 0.7, 0.7)
    assert torch.equal(y1, y0)
    assert evaluations.forward == 0


def field_with_context():
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    context = torch.randn(3, 2, requires_grad=True)
    y0 = torch.randn(3, 2, requires_grad=True)

    def f(t, y):
        return (net(torch.cat([y[0], context * torch.cos(t)], 1)),)

    return f, y0, [*net.parameters(), context]


@pytest.mark.parametrize("method", ["rk4", "dopri5"])
@pytest.mark.parametrize("gradient", ["checkpoint", "adjoint"])
def test_all_gradients_agree_and_reach_the_context(method, gradient):
    f, y0, params = field_with_context()
    settings = (
        dict(method="rk4", step_size=0.02)
        if method == "rk4"
        else dict(method="dopri5", rtol=1e-9, atol=1e-9)
    )

    def gradients(mode):
        solver = Solver(**settings, gradient=mode)
        (y1,) = solver.end(f, (y0,), 0.0, 1.0, params).state
        (path,) = solver.path(f, (y0,), torch.tensor([0.0, 0.311, 0.32, 1.005]), params).state
        return torch.autograd.grad(y1.square().sum() + path.sum(), [y0, *params])

    for ours, direct in zip(gradients(gradient), gradients("direct"), strict=True):
        assert direct.norm() > 0
        torch.testing.assert_close(ours, direct, atol=1e-6, rtol=1e-5)


def test_gradient_of_a_linear_solve_is_the_transposed_exponential():
    a, y0, g = torch.randn(3, 3), torch.randn(1, 3, requires_grad=True), torch.randn(1, 3)
    (y1,) = Solver(rtol=1e-9, atol=1e-9, gradient="adjoint").end(linear(a), (y0,), 0.0, 1.0).state
    (grad,) = torch.autograd.grad(y1, y0, g)
    torch.testing.assert_close(grad, g @ torch.matrix_exp(a), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("gradient", "backward"), [("direct", 0), ("checkpoint", 16), ("adjoint", 16)]
)
def test_evaluations_are_counted_forward_and_backward(gradient, backward):
    f, y0, params = field_with_context()
    solver = Solver("rk4", step_size=0.25, gradient=gradient)
    (y1,), evaluations = solver.end(f, (y0,), 0.0, 1.0, params)
    assert (evaluations.forward, evaluations.backward) == (16, 0)
    y1.sum().backward()
    assert evaluations.forward == 16
    # The adjoint evaluates once more, to ask for the derivative at the end point.
    assert evaluations.backward in (backward, backward + (gradient == "adjoint"))


def test_seminorm_saves_backward_evaluations():
    # The weight's sensitivity oscillates, the state and its adjoint don't.
    weight, y0, counts = torch.zeros((), requires_grad=True), torch.ones(1, 1), {}
    for seminorm in (True, False):
        solver = Solver(rtol=1e-6, atol=1e-6, gradient="adjoint", seminorm=seminorm)
        (y1,), counts[seminorm] = solver.end(
            lambda t, y: (weight * torch.cos(60 * t) - y[0],), (y0,), 0.0, 1.0, [weight]
        )
        y1.sum().backward()
    assert counts[True].backward < 0.6 * counts[False].backward


def test_checkpointing_stores_less():
    net = nn.Sequential(nn.Linear(8, 512), nn.Tanh(), nn.Linear(512, 8))
    y0 = torch.randn(64, 8)

    def stored(gradient):
        sizes = []
        hooks = torch.autograd.graph.saved_tensors_hooks
        with hooks(lambda x: (sizes.append(x.numel()), x)[1], lambda x: x):
            solver = Solver("rk4", step_size=0.1, gradient=gradient)
            solver.end(lambda t, y: (net(y[0]),), (y0,), 0.0, 1.0)
        return sum(sizes)

    assert stored("checkpoint") < 0.2 * stored("direct")


def test_uncontrolled_tensors_do_not_drive_the_steps():
    def f(t, y):
        return (-y[0], torch.sin(200 * t) * torch.ones_like(y[1]))

    y0 = (torch.ones(2, 1), torch.zeros(2))
    solver = Solver(rtol=1e-6, atol=1e-6)
    alone = solver.end(lambda t, y: (-y[0],), y0[:1], 0.0, 1.0).evaluations.forward
    assert solver.end(f, y0, 0.0, 1.0, uncontrolled=1).evaluations.forward == alone
    assert solver.end(f, y0, 0.0, 1.0).evaluations.forward > 2 * alone


def test_solve_stays_in_float32_under_autocast():
    net = nn.Linear(4, 4, dtype=torch.float32)
    y0 = torch.randn(2, 4, dtype=torch.float32)
    solver = Solver(rtol=1e-5, atol=1e-5)
    plain = solver.end(lambda t, y: (net(y[0]),), (y0,), 0.0, 1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = solver.end(lambda t, y: (net(y[0]),), (y0,), 0.0, 1.0)
        halved = solver.end(lambda t, y: (net(y[0]),), (y0.bfloat16(),), 0.0, 1.0)
    assert torch.equal(plain.state[0], inside.state[0])
    assert halved.state[0].dtype == torch.float32
    assert inside.evaluations.forward == plain.evaluations.forward


@pytest.mark.parametrize("solver", [Solver("rk4", step_size=0.1), Solver()], ids=str)
def test_nan_is_reported_with_its_time_and_remedy(solver):
    def f(t, y):
        return (y[0] * (math.nan if t > 0.5 else 1.0),)

    with pytest.raises(SolveError, match=r"t=0\.\d+ after \d+ evaluations.*NaN.*learning rate"):
        solver.end(f, (torch.ones(1, 2),), 0.0, 1.0)


def test_step_underflow_is_told_from_nan():
    with pytest.raises(SolveError, match=r"t=.*state.*underflowed.*raise rtol"):
        # y' = y² blows up at t = 1.
        Solver(rtol=1e-9, atol=1e-9).end(lambda t, y: (y[0] ** 2,), (torch.ones(1, 1),), 0.0, 2.0)


def test_too_many_evaluations_are_broken_off():
    solver = Solver(rtol=1e-9, atol=1e-9, max_evaluations=50)
    with pytest.raises(SolveError, match=r"more than 50 evaluations.*max_evaluations"):
        solver.end(
            lambda t, y: (torch.cos(300 * t) * torch.ones_like(y[0]),),
            (torch.ones(1, 1),),
            0.0,
            1.0,
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(method="rk5"), "unknown; choose one of .*dopri5"),
        (dict(method="rk4"), "step_size > 0"),
        (dict(method="dopri5", step_size=0.1), "rtol and atol, not step_size"),
    ],
)
def test_settings_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Solver(**arguments)
