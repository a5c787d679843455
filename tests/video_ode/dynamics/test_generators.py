"""Generators of motion of TGAN, MoCoGAN and TGANv2, and their differential equations."""

from functools import partial
from textwrap import indent

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import nn

from common.errors import InputError
from common.nn.mlp import MLPField
from common.ode.sde import EulerMaruyama
from common.ode.solve import Solver
from video_ode.dynamics.base import DynamicsFactory
from video_ode.dynamics.deconvolution import Deconvolution1d
from video_ode.dynamics.fields import ConvField
from video_ode.dynamics.higher_order import HigherOrderODE
from video_ode.dynamics.ode import NeuralODE
from video_ode.dynamics.per_position import PerPosition
from video_ode.dynamics.pre_encoded import PreEncoded
from video_ode.dynamics.recurrent import GRU, ConvLSTM
from video_ode.dynamics.sde import NeuralSDE
from video_ode.dynamics.time_scaled import TimeScaled

RK4 = Solver("rk4", step_size=1.0)


def tanh(width=1, layers=2, **settings):
    return partial(MLPField, width=width, layers=layers, activation="tanh", **settings)


ONE = tanh(layers=1, last_activation="tanh")  # a layer with a nonlinearity


def ode(field, order=1, encoder=None, **settings):
    dynamics = partial(NeuralODE, field=field, solver=RK4)
    if order > 1:
        dynamics = partial(HigherOrderODE, field=field, solver=RK4, order=order, inputs="highest")
    return encoder(dynamics) if encoder else dynamics


def tgan(dynamics):
    return partial(PreEncoded, dynamics=dynamics, width=512, layers=4)


def mocogan(dynamics):
    return partial(PreEncoded, dynamics=dynamics, width=64, layers=2)


def sde(field):
    return partial(
        NeuralSDE, drift=field, diffusion=field, solver=EulerMaruyama(0.375), positive=False
    )


# Parameters of the published variants: state size, generator, number.
PUBLISHED = {
    "tgan": (100, Deconvolution1d, 826_468),
    "tgan ode without mlp": (100, ode(ONE), 10_100),
    "tgan ode": (100, ode(ONE, encoder=tgan), 638_424),
    "tgan ode deep": (100, ode(tanh(100), encoder=tgan), 648_524),
    "tgan ode eq": (100, ode(tanh(978), encoder=tgan), 825_002),
    "tgan ode 2": (100, ode(ONE, order=2, encoder=tgan), 658_624),
    "tgan ode 3": (100, ode(ONE, order=3, encoder=tgan), 668_724),
    "tgan sde without mlp": (100, sde(ONE), 20_200),
    "tgan sde": (100, tgan(sde(ONE)), 648_524),
    "mocogan": (16, partial(GRU, noise=16), 1_632),
    "mocogan ode": (16, ode(ONE, encoder=mocogan), 2_400),
    "mocogan ode deep": (16, ode(tanh(16), encoder=mocogan), 2_672),
    "mocogan ode eq": (16, ode(tanh(49)), 1_633),
    "mocogan ode 2": (16, ode(tanh(49), order=2), 2_177),
    "mocogan ode 3": (16, ode(tanh(49), order=3), 2_449),
    "mocogan sde": (16, sde(tanh(49)), 3_266),
    "tganv2": (1024, ConvLSTM, 75_501_568),
    "tganv2 ode": (
        1024,
        ode(partial(ConvField, layers=1, last_activation="leaky_relu")),
        9_438_208,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_variants_have_their_number_of_parameters_and_make_16_frames(name):
    size, factory, number = PUBLISHED[name]
    with torch.device("meta"):
        assert sum(weight.numel() for weight in factory(size, 0).parameters()) == number
    maps = (3, 3) if size == 1024 else ()
    small = factory(8, 0)
    assert small(torch.randn(2, 8, *maps), torch.arange(16.0)).states.shape == (2, 16, 8, *maps)


FIELD = "{class_path: common.nn.mlp.MLPField, init_args: {width: 8}}"
ODE = f"""
class_path: video_ode.dynamics.ode.NeuralODE
init_args: {{field: {FIELD}, solver: {{method: rk4, step_size: 1.0}}}}"""
CONFIGURATIONS = {
    "deconvolution": "video_ode.dynamics.deconvolution.Deconvolution1d",
    "gru": "{class_path: video_ode.dynamics.recurrent.GRU, init_args: {noise: 3}}",
    "conv lstm": "video_ode.dynamics.recurrent.ConvLSTM",
    "order 2": ODE.replace("ode.NeuralODE", "higher_order.HigherOrderODE"),
    "torchsde": f"""
class_path: video_ode.dynamics.sde.NeuralSDE
init_args:
  drift: {FIELD}
  diffusion: {FIELD}
  solver: {{class_path: common.ode.torch_sde.TorchSDE, init_args: {{step_size: 1.0}}}}""",
    "pre-encoded": f"""
class_path: video_ode.dynamics.pre_encoded.PreEncoded
init_args:
  width: 8
  layers: 2
  dynamics: {indent(ODE, "    ")}""",
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_configuration_names_them(name):
    parser = ArgumentParser()
    parser.add_argument("--dynamics", type=DynamicsFactory)
    arguments = parser.parse_args(["--dynamics", CONFIGURATIONS[name]])
    dynamics = parser.instantiate_classes(arguments).dynamics(4, 0)
    assert dynamics(torch.randn(2, 4), torch.arange(3.0)).states.shape == (2, 3, 4)


# Order --------------------------------------------------------------------------------------


class Minus(nn.Module):
    """`f = -z`, or minus the first derivative: the first numbers of the context."""

    def __init__(self, size, context_size=0, first=False):
        super().__init__()
        self.first = first

    def forward(self, t, z, context=None):
        return -context[:, : z.shape[1]] if self.first else -z


def started(start, **settings):
    """Scalar ODE of higher order that begins with given derivatives where `z0` is 1."""
    solver = Solver("dopri5", rtol=1e-10, atol=1e-10)
    dynamics = HigherOrderODE(1, 0, solver=solver, order=len(start), **settings)
    for layer, value in zip(dynamics.initial, start, strict=True):
        nn.init.constant_(layer.weight, value)
        nn.init.zeros_(layer.bias)
    return lambda times: dynamics(torch.ones(1, 1), torch.tensor(times)).states[0, :, 0]


@pytest.mark.parametrize("times", [[0.0, 0.5, 1.0], [0.0, -0.5, -1.0]])
def test_the_two_readings_of_order_have_their_closed_forms(double, times):
    t = torch.tensor(times)
    highest = started([0.0, 1.0], field=Minus, inputs="highest")(times)
    torch.testing.assert_close(highest, 1 - (-t).exp())  # 1 - 1/e = 0.63212 at 1
    torch.testing.assert_close(started([0.0, 1.0], field=Minus)(times), t.sin())  # 0.84147 at 1
    third = started([0.0, 1.0, 0.0], field=partial(Minus, first=True))(times)
    torch.testing.assert_close(third, t.sin())
    third = started([0.0, 0.0, 1.0], field=Minus, inputs="highest")(times)
    torch.testing.assert_close(third, (-t).exp() - 1 + t)


def test_the_first_order_is_not_a_higher_one():
    with pytest.raises(InputError, match="order 1; give 2 or more"):
        HigherOrderODE(3, 0, tanh(), RK4, order=1)


# Generators of the originals ----------------------------------------------------------------


def test_a_noisy_gru_is_pytorchs_cell_with_new_noise_at_each_step():
    dynamics, h = GRU(3, 2, noise=4), torch.randn(5, 3)
    torch.manual_seed(1)
    states = dynamics(h, torch.tensor([7.0, 8.0, 10.0]), context := torch.randn(5, 2)).states
    torch.manual_seed(1)
    torch.randn(5, 2)
    expected = []
    for _ in range(4):
        h = dynamics.cell(torch.cat([context, torch.randn(5, 4)], 1), h)
        expected.append(h)
    torch.testing.assert_close(states, torch.stack([expected[i] for i in (0, 1, 3)], 1))


def test_conv_lstm_on_one_pixel_is_pytorchs_lstm_cell():
    dynamics, cell = ConvLSTM(3, 2), nn.LSTMCell(5, 3)
    z, context = torch.randn(4, 3), torch.randn(4, 2)
    # PyTorch's gates are in, forget, new, out; ours are forget, in, out, new.
    order = [3, 4, 5, 0, 1, 2, 9, 10, 11, 6, 7, 8]
    with torch.no_grad():
        cell.weight_ih.copy_(dynamics.input.weight[order, :, 1, 1])
        cell.weight_hh.copy_(dynamics.hidden.weight[order, :, 1, 1])
        cell.bias_ih.copy_(dynamics.input.bias[order])
        cell.bias_hh.zero_()
    states = dynamics(z, torch.arange(3.0), context).states
    state = None
    for i in range(3):
        state = cell(torch.cat([z if i == 0 else 0 * z, context], 1), state)
        torch.testing.assert_close(states[:, i], state[0])


def test_conv_lstm_sees_the_neighbours_of_a_pixel():
    dynamics, z = ConvLSTM(2, 0), torch.zeros(1, 2, 5, 5)
    z[..., 2, 2] = 1
    states = dynamics(z, torch.arange(2.0)).states - dynamics(0 * z, torch.arange(2.0)).states
    reached = (states.abs().amax((0, 2)) > 1e-9).sum((1, 2))
    assert reached.tolist() == [9, 25]


def test_deconvolution_makes_a_fixed_number_of_frames():
    dynamics, z0 = Deconvolution1d(5, 0, widths=(4, 4)), torch.randn(3, 5)
    states = dynamics(z0, torch.arange(4.0) + 1).states
    assert states.abs().max() <= 1
    torch.testing.assert_close(
        dynamics(z0, torch.tensor([1.0, 3.0, 4.0])).states, states[:, [0, 2, 3]]
    )
    with pytest.raises(InputError, match="path of 5 frames, but Deconvolution1d makes 4"):
        dynamics(z0, torch.arange(5.0))
    with pytest.raises(InputError, match="needs vectors"):
        dynamics(z0[..., None, None], torch.arange(4.0))
    with pytest.raises(InputError, match="widths"):
        Deconvolution1d(5, 0, widths=())


def test_a_pre_encoder_maps_the_first_state_and_ends_with_its_nonlinearity():
    dynamics = PreEncoded(3, 0, partial(NeuralODE, field=tanh(4), solver=RK4), 8, 3)
    z0, times = torch.randn(4, 3), torch.arange(3.0)
    first = dynamics.encoder(z0)
    assert isinstance(dynamics.encoder[-1], nn.LeakyReLU)
    assert len(dynamics.encoder) == 6
    states = dynamics(z0, times).states
    torch.testing.assert_close(states, dynamics.dynamics(first, times).states)


def test_a_time_scaled_ode_is_the_ode_with_a_slower_field(double):
    dynamics = TimeScaled(1, 0, partial(NeuralODE, field=Minus, solver=Solver("dopri5")), 15.0)
    times = torch.tensor([3.0, 4.0, 18.0])
    states = dynamics(torch.ones(1, 1), times).states[0, :, 0]
    torch.testing.assert_close(states, (-(times - 3) / 15).exp(), atol=1e-4, rtol=0)


def test_dynamics_of_vectors_run_at_each_position_by_itself(double):
    field = partial(MLPField, width=4)
    sde = partial(
        NeuralSDE, drift=field, diffusion=field, prior_drift=field, solver=EulerMaruyama(0.5)
    )
    maps, times = torch.randn(2, 3, 2, 4), torch.arange(4.0)
    for dynamics in (sde, partial(NeuralODE, field=field, solver=Solver("rk4", step_size=0.5))):
        everywhere = PerPosition(3, 0, dynamics)
        torch.manual_seed(1)
        found = everywhere(maps, times)
        torch.manual_seed(1)
        vectors = everywhere.dynamics(maps.permute(0, 2, 3, 1).reshape(16, 3), times)
        expected = vectors.states.reshape(2, 2, 4, 4, 3).permute(0, 3, 4, 1, 2)
        torch.testing.assert_close(found.states, expected)
        torch.testing.assert_close(found.kl, vectors.kl.reshape(2, 8).sum(1))
        assert (found.kl > 0).all() == (dynamics is sde)
