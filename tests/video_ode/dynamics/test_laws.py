"""Laws of every latent dynamics: states of any shape, times, contexts that change, counts."""

import pytest
import torch
from torch import nn

from common.errors import InputError
from tests.laws import DYNAMICS
from video_ode.dynamics.base import PiecewiseContext, Stepwise
from video_ode.dynamics.deconvolution import Deconvolution1d
from video_ode.dynamics.higher_order import HigherOrderODE
from video_ode.dynamics.ode import NeuralODE
from video_ode.dynamics.pre_encoded import PreEncoded
from video_ode.dynamics.recurrent import GRU, ConvGRU, ConvLSTM
from video_ode.dynamics.residual import Residual
from video_ode.dynamics.sde import NeuralSDE
from video_ode.dynamics.time_scaled import TimeScaled

pytestmark = pytest.mark.usefixtures("double")


class Mixing(nn.Module):
    """`f(z, c)`: a linear map of the channels at each position, and a tanh; counts its calls."""

    def __init__(self, size, context_size=0):
        super().__init__()
        self.weight = nn.Parameter(0.3 * torch.randn(size, size + context_size))
        self.calls = 0

    def forward(self, t, z, context=None):
        self.calls += 1
        known = z if context is None else torch.cat([z, context], 1)
        return torch.einsum("oc,bc...->bo...", self.weight, known).tanh()


def make(name, size=3, context_size=0):
    """The dynamics, and their drift where it counts its calls."""
    fields = []

    def field(*sizes):
        fields.append(Mixing(*sizes))
        return fields[-1]

    dynamics = DYNAMICS[name](field)(size, context_size)
    return dynamics, fields[0] if fields else None


KINDS = {name: make(name) for name in DYNAMICS}
FRAMEWISE = (Stepwise, ConvLSTM, Deconvolution1d)


def names(kinds):
    return [name for name, (kind, _) in KINDS.items() if isinstance(kind, kinds)]


MAPS = [name for name in KINDS if name not in names((GRU, Deconvolution1d))]  # not vectors only
BETWEEN = [name for name in KINDS if name not in names(FRAMEWISE)]
FROM_Z0 = [name for name, (kind, _) in KINDS.items() if kind.starts_at_z0]
# Dynamics whose steps don't depend on the asked times, as those of an adaptive solver do.
GRIDS = (NeuralODE, HigherOrderODE, Residual, NeuralSDE, PreEncoded, TimeScaled)
ON_A_GRID = [name for name in names(GRIDS) if name != "adaptive ode"]
BACKWARD = [name for name in BETWEEN if name not in names(NeuralSDE)]
WITH_FIELD = [name for name, (_, field) in KINDS.items() if field is not None]
TOLERANCE = {"adaptive ode": dict(atol=1e-5, rtol=1e-5)}


def again(dynamics, *arguments):
    torch.manual_seed(5)
    return dynamics(*arguments)


@pytest.mark.parametrize("name", DYNAMICS)
def test_the_path_begins_with_the_first_state_and_has_a_state_for_each_time(name):
    dynamics, _ = make(name)
    z0 = torch.randn(4, 3)
    longest = again(dynamics, z0, torch.arange(5.0) + 2).states
    for n in (1, 2, 5):
        path = again(dynamics, z0, torch.arange(float(n)) + 2)
        assert path.states.shape == (4, n, 3)
        assert path.kl.shape == (4,)
        torch.testing.assert_close(path.states, longest[:, :n], **TOLERANCE.get(name, {}))
        assert (path.states[:, 0] == z0).all() == dynamics.starts_at_z0


@pytest.mark.parametrize("name", DYNAMICS)
def test_gradients_reach_the_first_state_every_weight_and_the_context(name):
    dynamics, _ = make(name, context_size=2)
    dynamics.eval()  # batch norm in training takes out the bias before it
    z0, context = torch.randn(4, 3, requires_grad=True), torch.randn(4, 2, requires_grad=True)
    path = dynamics(z0, torch.arange(4.0), context)
    (path.states.square().sum() + path.kl.sum()).backward()
    for tensor in (z0, context, *dynamics.parameters()):
        assert tensor.grad.abs().max() > 1e-9


@pytest.mark.parametrize("name", DYNAMICS)
def test_states_around_a_time_are_those_of_the_two_paths(name):
    dynamics, _ = make(name)
    z0, start = torch.randn(4, 3), torch.tensor([2.0])
    later = torch.tensor([2.0, 3.0, 4.0])
    torch.manual_seed(5)
    states = dynamics.states_around(z0, start, later)
    assert torch.equal(states, again(dynamics, z0, later).states)
    if name in BACKWARD:
        both = dynamics.states_around(z0, start, torch.cat([torch.tensor([0.5, 1.0]), later]))
        early = dynamics(z0, torch.tensor([2.0, 1.0, 0.5])).states
        torch.testing.assert_close(both, torch.cat([early.flip(1)[:, :2], states], 1))
        assert dynamics.states_around(z0, start, start).shape == (4, 1, 3)


@pytest.mark.parametrize("name", ON_A_GRID)
def test_twice_the_frame_rate_adds_frames_and_changes_none(name):
    dynamics, _ = make(name)
    z0 = torch.randn(4, 3)
    # Some frames are grid points, others are not, and times are rounded.
    once = again(dynamics, z0, torch.arange(6.0) / 10 + 1).states
    twice = again(dynamics, z0, torch.arange(11.0) / 20 + 1).states
    assert torch.equal(twice[:, ::2], once)


@pytest.mark.parametrize("name", MAPS)
def test_feature_maps_of_one_pixel_are_vectors(name):
    dynamics, _ = make(name, context_size=2)
    z0, context, times = torch.randn(4, 3), torch.randn(4, 2), torch.tensor([0.0, 1.0, 3.0])
    vectors = again(dynamics, z0, times, context)
    maps = again(dynamics, z0[..., None, None], times, context[..., None, None])
    torch.testing.assert_close(maps.states[..., 0, 0], vectors.states)
    torch.testing.assert_close(maps.kl, vectors.kl)


# An SDE draws one noise for all positions, and convolutions mix them.
@pytest.mark.parametrize(
    "name", [name for name in MAPS if name not in names((NeuralSDE, ConvLSTM, ConvGRU))]
)
def test_each_position_of_a_feature_map_moves_as_a_vector_would(name):
    dynamics, _ = make(name)
    z0, times = torch.randn(2, 3, 4, 5), torch.tensor([0.0, 1.0, 2.0])
    states = dynamics(z0, times).states
    assert states.shape == (2, 3, 3, 4, 5)
    flat = dynamics(z0.movedim(1, -1).reshape(-1, 3), times).states
    flat = flat.reshape(2, 4, 5, 3, 3).permute(0, 3, 4, 1, 2)
    torch.testing.assert_close(states, flat, **TOLERANCE.get(name, {}))


@pytest.mark.parametrize("name", FROM_Z0)
def test_a_piecewise_context_of_equal_values_is_a_constant_one(name):
    dynamics, _ = make(name, context_size=2)
    z0, context, times = torch.randn(4, 3), torch.randn(4, 2), torch.arange(4.0)
    whole = again(dynamics, z0, times, context)
    pieces = again(dynamics, z0, times, PiecewiseContext(context[:, None].repeat(1, 3, 1)))
    torch.testing.assert_close(pieces.states, whole.states, **TOLERANCE.get(name, {}))
    torch.testing.assert_close(pieces.kl, whole.kl)


@pytest.mark.parametrize("name", FROM_Z0)
def test_a_piecewise_context_holds_for_its_own_unit(name):
    dynamics, _ = make(name, context_size=2)
    z0, values, times = torch.randn(4, 3), torch.randn(4, 3, 2), torch.arange(4.0)
    other = values.clone()
    other[:, 1] += 1
    a, b = (again(dynamics, z0, times, PiecewiseContext(x)).states for x in (values, other))
    assert (a[:, :2] == b[:, :2]).all()
    assert ((a[:, 2:] - b[:, 2:]).abs().amax((0, 2)) > 1e-3).all()


@pytest.mark.parametrize("name", [name for name in BETWEEN if name in FROM_Z0])
def test_times_between_frames_change_nothing_under_a_piecewise_context(name):
    dynamics, _ = make(name, context_size=2)
    z0, context = torch.randn(4, 3), PiecewiseContext(torch.randn(4, 3, 2))
    frames = again(dynamics, z0, torch.arange(4.0), context).states
    times = torch.tensor([0.0, 0.25, 1.0, 1.5, 2.0, 3.0])
    more = again(dynamics, z0, times, context).states
    torch.testing.assert_close(more[:, [0, 2, 4, 5]], frames, **TOLERANCE.get(name, {}))


@pytest.mark.parametrize(
    ("name", "piecewise"),
    [(name, piecewise) for name in WITH_FIELD for piecewise in {False, name in FROM_Z0}],
)
def test_every_evaluation_is_counted(name, piecewise):
    dynamics, field = make(name, context_size=2)
    context = torch.randn(4, 3, 2)
    context = PiecewiseContext(context) if piecewise else context[:, 0]
    path = dynamics(torch.randn(4, 3), torch.arange(4.0), context)
    assert path.evaluations.forward == field.calls > 0
    assert dynamics.evaluations.forward == field.calls


@pytest.mark.parametrize(("name", "steps"), [("gru", 4), ("noisy gru", 5), ("conv lstm", 5)])
def test_steps_of_a_recurrent_cell_are_counted(name, steps):
    dynamics, _ = make(name)
    assert dynamics(torch.randn(2, 3), torch.arange(5.0)).evaluations.forward == steps


def test_evaluations_of_the_backward_pass_are_counted_over_all_pieces():
    dynamics, field = make("ode", context_size=2)
    object.__setattr__(dynamics.solver, "gradient", "checkpoint")
    path = dynamics(torch.randn(4, 3), torch.arange(4.0), PiecewiseContext(torch.randn(4, 3, 2)))
    forward = field.calls
    path.states.sum().backward()
    assert path.evaluations.forward == forward
    assert path.evaluations.backward == field.calls - forward > 0


@pytest.mark.parametrize("name", BETWEEN)
def test_each_video_may_have_times_of_its_own(name):
    dynamics, _ = make(name)
    z0 = torch.randn(3, 3)
    times = torch.tensor([[0.0, 1.0, 2.0], [0.0, 0.5, 3.0], [0.0, 1.0, 1.5]])
    path = again(dynamics, z0, times)
    every = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0])
    shared = again(dynamics, z0, every).states
    for i, places in enumerate([[0, 2, 4], [0, 1, 5], [0, 2, 3]]):
        torch.testing.assert_close(path.states[i], shared[i, places])


def test_the_divergence_ends_with_each_videos_last_time():
    dynamics, _ = make("sde")
    z0 = torch.randn(2, 3)
    kl = again(dynamics, z0, torch.tensor([[0.0, 1.0], [0.0, 3.0]])).kl
    short, long = (again(dynamics, z0, torch.tensor([0.0, 1.0, 3.0])[:n]).kl for n in (2, 3))
    torch.testing.assert_close(kl, torch.stack([short[0], long[1]]))


@pytest.mark.parametrize("name", BACKWARD)
def test_times_of_each_video_run_backward_too(name):
    dynamics, _ = make(name)
    z0, times = torch.randn(2, 3), torch.tensor([[0.0, -1.0, -2.0], [0.0, -0.5, -1.0]])
    states = dynamics(z0, times).states
    shared = dynamics(z0, torch.tensor([0.0, -0.5, -1.0, -2.0])).states
    torch.testing.assert_close(states[0], shared[0, [0, 2, 3]])
    torch.testing.assert_close(states[1], shared[1, :3])


@pytest.mark.parametrize("name", DYNAMICS)
@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([0.0, 1.0, 1.0], "strictly ascending"),
        ([0.0, 2.0, 1.0], "strictly ascending"),
        ([0.0, float("nan")], "finite"),
        ([0.0, float("inf")], "finite"),
        ([], "one or more"),
        ([[0.0, 1.0], [0.5, 1.0]], "same for all samples"),
    ],
)
def test_wrong_times_are_refused(name, times, message):
    dynamics, _ = make(name)
    with pytest.raises(InputError, match=message):
        dynamics(torch.randn(2, 3), torch.tensor(times))


@pytest.mark.parametrize("name", FROM_Z0)
def test_a_piecewise_context_that_ends_too_early_is_refused(name):
    dynamics, _ = make(name, context_size=2)
    with pytest.raises(InputError, match="2 units of time for a path of 3"):
        dynamics(torch.randn(2, 3), torch.arange(4.0), PiecewiseContext(torch.randn(2, 2, 2)))


@pytest.mark.parametrize("name", [name for name in KINDS if name not in FROM_Z0])
def test_generators_of_motion_refuse_a_context_that_changes(name):
    dynamics, _ = make(name, context_size=2)
    with pytest.raises(InputError, match="one context for the whole path"):
        dynamics(torch.randn(2, 3), torch.arange(3.0), PiecewiseContext(torch.randn(2, 2, 2)))


@pytest.mark.parametrize("name", names(FRAMEWISE))
@pytest.mark.parametrize("times", [[0.0, 0.5], [0.0, -1.0]])
def test_frame_by_frame_dynamics_refuse_other_times(name, times):
    dynamics, _ = make(name)
    with pytest.raises(InputError, match="between frames or before the first"):
        dynamics(torch.randn(2, 3), torch.tensor(times))
