"""Laws of every latent dynamics: states of any shape, times, contexts that change, counts."""

import pytest
import torch
from torch import nn

from common.errors import InputError
from tests.laws import DYNAMICS
from video_ode.dynamics.base import PiecewiseContext, Stepwise
from video_ode.dynamics.recurrent import GRU
from video_ode.dynamics.sde import NeuralSDE

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
MAPS = [name for name, (kind, _) in KINDS.items() if not isinstance(kind, GRU)]  # vectors only
BETWEEN = [name for name, (kind, _) in KINDS.items() if not isinstance(kind, Stepwise)]
WITH_FIELD = [name for name, (_, field) in KINDS.items() if field is not None]
TOLERANCE = {"adaptive ode": dict(atol=1e-5, rtol=1e-5)}


def again(dynamics, *arguments):
    torch.manual_seed(5)
    return dynamics(*arguments)


@pytest.mark.parametrize("name", DYNAMICS)
def test_the_path_begins_with_the_first_state_and_has_a_state_for_each_time(name):
    dynamics, _ = make(name)
    z0 = torch.randn(4, 3)
    for n in (1, 2, 5):
        path = dynamics(z0, torch.arange(float(n)) + 2)
        assert path.states.shape == (4, n, 3)
        assert path.kl.shape == (4,)
        assert (path.states[:, 0] == z0).all()


@pytest.mark.parametrize("name", MAPS)
def test_feature_maps_of_one_pixel_are_vectors(name):
    dynamics, _ = make(name, context_size=2)
    z0, context, times = torch.randn(4, 3), torch.randn(4, 2), torch.tensor([0.0, 1.0, 3.0])
    vectors = again(dynamics, z0, times, context)
    maps = again(dynamics, z0[..., None, None], times, context[..., None, None])
    torch.testing.assert_close(maps.states[..., 0, 0], vectors.states)
    torch.testing.assert_close(maps.kl, vectors.kl)


# An SDE draws one noise for all positions.
@pytest.mark.parametrize(
    "name", [name for name in MAPS if not isinstance(KINDS[name][0], NeuralSDE)]
)
def test_each_position_of_a_feature_map_moves_as_a_vector_would(name):
    dynamics, _ = make(name)
    z0, times = torch.randn(2, 3, 4, 5), torch.tensor([0.0, 1.0, 2.0])
    states = dynamics(z0, times).states
    assert states.shape == (2, 3, 3, 4, 5)
    flat = dynamics(z0.movedim(1, -1).reshape(-1, 3), times).states
    flat = flat.reshape(2, 4, 5, 3, 3).permute(0, 3, 4, 1, 2)
    torch.testing.assert_close(states, flat, **TOLERANCE.get(name, {}))


@pytest.mark.parametrize("name", DYNAMICS)
def test_a_piecewise_context_of_equal_values_is_a_constant_one(name):
    dynamics, _ = make(name, context_size=2)
    z0, context, times = torch.randn(4, 3), torch.randn(4, 2), torch.arange(4.0)
    whole = again(dynamics, z0, times, context)
    pieces = again(dynamics, z0, times, PiecewiseContext(context[:, None].repeat(1, 3, 1)))
    torch.testing.assert_close(pieces.states, whole.states, **TOLERANCE.get(name, {}))
    torch.testing.assert_close(pieces.kl, whole.kl)


@pytest.mark.parametrize("name", DYNAMICS)
def test_a_piecewise_context_holds_for_its_own_unit(name):
    dynamics, _ = make(name, context_size=2)
    z0, values, times = torch.randn(4, 3), torch.randn(4, 3, 2), torch.arange(4.0)
    other = values.clone()
    other[:, 1] += 1
    a, b = (again(dynamics, z0, times, PiecewiseContext(x)).states for x in (values, other))
    assert (a[:, :2] == b[:, :2]).all()
    assert ((a[:, 2:] - b[:, 2:]).abs().amax((0, 2)) > 1e-3).all()


@pytest.mark.parametrize("name", BETWEEN)
def test_times_between_frames_change_nothing_under_a_piecewise_context(name):
    dynamics, _ = make(name, context_size=2)
    z0, context = torch.randn(4, 3), PiecewiseContext(torch.randn(4, 3, 2))
    frames = again(dynamics, z0, torch.arange(4.0), context).states
    times = torch.tensor([0.0, 0.25, 1.0, 1.5, 2.0, 3.0])
    more = again(dynamics, z0, times, context).states
    torch.testing.assert_close(more[:, [0, 2, 4, 5]], frames, **TOLERANCE.get(name, {}))


@pytest.mark.parametrize("name", WITH_FIELD)
@pytest.mark.parametrize("piecewise", [False, True])
def test_every_evaluation_is_counted(name, piecewise):
    dynamics, field = make(name, context_size=2)
    context = torch.randn(4, 3, 2)
    context = PiecewiseContext(context) if piecewise else context[:, 0]
    path = dynamics(torch.randn(4, 3), torch.arange(4.0), context)
    assert path.evaluations.forward == field.calls > 0
    assert dynamics.evaluations.forward == field.calls


def test_steps_of_a_recurrent_cell_are_counted():
    assert GRU(3, 0)(torch.randn(2, 3), torch.arange(5.0)).evaluations.forward == 4


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


@pytest.mark.parametrize("name", ["ode", "adaptive ode", "residual"])
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


@pytest.mark.parametrize("name", DYNAMICS)
def test_a_piecewise_context_that_ends_too_early_is_refused(name):
    dynamics, _ = make(name, context_size=2)
    with pytest.raises(InputError, match="2 units of time for a path of 3"):
        dynamics(torch.randn(2, 3), torch.arange(4.0), PiecewiseContext(torch.randn(2, 2, 2)))
