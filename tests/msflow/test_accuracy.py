"""The solver's error: measured, said, and no way to a better number."""

import math

import pytest
import torch
from torch import nn

from common.errors import InputError
from common.ode.divergence import Hutchinson
from common.ode.evaluations import SolveError
from common.ode.solve import Solver
from msflow.accuracy import LIMIT, MOST_REFINEMENTS, TrainingSolver
from msflow.module import MultiScaleFlowModule
from msflow.objectives import FlowMatching, Likelihood
from tests.msflow import flows

PIXELS = torch.randint(0, 256, (4, 1, 4, 4), dtype=torch.uint8)
pytestmark = pytest.mark.filterwarnings("ignore:You are trying to `self.log")


class Hidden(nn.Module):
    """A field `rate z` between the grid points of rk4 with step 1/4, and 0 at all of them."""

    def __init__(self, rate):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(rate))

    def forward(self, t, z, context=None):
        return self.rate * (1 - torch.cos(16 * math.pi * t)) * z


def hidden(rate, objective=None):
    field, trace = lambda c, k: Hidden(rate), Hutchinson()  # exact for a multiple of z
    flow = flows.make_flow("single", field=field, steps=4, divergence=trace)
    module = MultiScaleFlowModule(flow, objective or FlowMatching(), n_draws=1)
    module.numbers = {}
    module.log = lambda name, value, **_: module.numbers.__setitem__(name, float(value))
    module.log_dict = lambda values: [module.log(name, value) for name, value in values.items()]
    return module


def test_the_error_is_what_half_the_step_changes(double):
    flow = hidden(2.0).flow
    torch.manual_seed(5)
    error, after = flow.solver_error(PIXELS), torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), after)  # the random state is as it was
    bits = []
    for step in (1 / 4, 1 / 8):
        torch.manual_seed(5)
        bits.append(-flow.log_prob(PIXELS, Solver("rk4", step_size=step)) / (16 * math.log(2)))
    torch.testing.assert_close(error, (bits[0] - bits[1]).abs())
    assert error.min() > 0.05


@pytest.mark.parametrize(("rate", "name"), [(0.0, "bpd"), (2.0, "bpd_inexact")])
def test_only_a_number_with_a_small_error_is_called_bpd(rate, name):
    module = hidden(rate)
    for stage, step in (("val", module.validation_step), ("test", module.test_step)):
        step(PIXELS, 0)
        numbers = module.numbers
        assert math.isfinite(numbers[f"{stage}/{name}"])
        assert (numbers[f"{stage}/solver_error"] > LIMIT) == (name == "bpd_inexact")
        assert math.isfinite(numbers[f"{stage}/bpd"]) == (name == "bpd")
        assert module.bits_name == name
    assert f"test/{name}_midpoint" in module.numbers
    module.predict_step(PIXELS, 0)
    assert module.bits_name == name


@pytest.mark.parametrize("gradient", ["direct", "adjoint"])
def test_training_goes_on_with_a_solver_that_sees_the_field(gradient):
    module = hidden(2.0, Likelihood(jitter=0.0))
    for block in module.flow.scales[0].blocks:
        block.solver = Solver("rk4", step_size=0.25, gradient=gradient)
    module.train_solver = TrainingSolver(module.flow.scales[0].blocks[0].solver)
    with pytest.warns(UserWarning, match=r"error of the solver is .* rk4, step 0\.125"):
        module.training_step(PIXELS, 0)
    assert module.train_solver.refinements >= 1
    assert module.train_solver.solver.gradient == gradient
    assert module.numbers["train/solver_error"] < LIMIT
    module.eval_solver = Solver("rk4", step_size=1 / 64)
    true = float(torch.stack([module(PIXELS) for _ in range(10)]).mean())
    assert module.numbers["train/bpd"] == pytest.approx(true, rel=0.05)
    module.eval_solver = Solver("rk4", step_size=1 / 4)
    assert float(module(PIXELS).mean()) != pytest.approx(true, rel=0.2)


def test_between_two_measurements_nothing_is_measured():
    module = hidden(0.0, Likelihood())
    module.training_step(PIXELS, 1)
    assert math.isnan(module.numbers["train/solver_error"])
    module.training_step(PIXELS, 20)
    assert module.numbers["train/solver_error"] < LIMIT
    assert not any("solver_error" in name for name in trained_by_flow_matching())


def trained_by_flow_matching():
    module = hidden(0.0)
    module.training_step(PIXELS, 0)
    return module.numbers


def test_a_solver_becomes_finer_and_coarser_again_and_no_finer_than_allowed():
    watch = TrainingSolver(Solver(rtol=1e-2, atol=1e-2))
    with pytest.warns(UserWarning, match="goes on with dopri5, rtol 0.001"):
        watch.adjust(lambda solver: 3 * solver.rtol)
    assert watch.error == pytest.approx(0.003)
    assert watch.refinements == 1
    watch.adjust(lambda solver: 1e-6)
    assert watch.refinements == 0
    for bad in (1.0, math.nan):
        with (
            pytest.warns(match="error of the solver"),
            pytest.raises(SolveError, match="too stiff"),
        ):
            watch.adjust(lambda solver, bad=bad: bad)
        assert watch.refinements == MOST_REFINEMENTS
        watch.refinements = 0


def test_refinements_come_back_with_a_checkpoint():
    module = hidden(0.0)
    record = {"state_dict": module.state_dict()}
    module.train_solver.refinements = 3
    module.on_save_checkpoint(record)
    other = hidden(0.0)
    other.on_load_checkpoint(record)
    assert other.train_solver.solver.step_size == 1 / 32
    with pytest.raises(InputError, match="solver_refinements"):
        other.on_load_checkpoint({**record, "solver_refinements": 10**9})
