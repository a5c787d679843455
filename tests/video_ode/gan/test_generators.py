"""Every GAN with every temporal generator; what continuity in time gives."""

from functools import partial

import pytest
import torch

from common.data.videos.base import Clip
from common.errors import InputError, RunError
from common.nn.mlp import MLPField
from common.ode.sde import EulerMaruyama, Heun
from common.ode.solve import Solver
from video_ode.adversarial import R1, Hinge, Logistic, Wasserstein
from video_ode.dynamics.deconvolution import Deconvolution1d
from video_ode.dynamics.fields import ConvField
from video_ode.dynamics.higher_order import HigherOrderODE
from video_ode.dynamics.ode import NeuralODE
from video_ode.dynamics.per_position import PerPosition
from video_ode.dynamics.pre_encoded import PreEncoded
from video_ode.dynamics.recurrent import GRU, ConvLSTM
from video_ode.dynamics.sde import NeuralSDE
from video_ode.dynamics.time_scaled import TimeScaled
from video_ode.frames.dcgan import DCGANDecoder
from video_ode.gan.critic import SparseCritic
from video_ode.gan.generator import LatentVideoGenerator
from video_ode.gan.mocogan import FrameCritic, MoCoGANCritic
from video_ode.gan.module import VideoGANModule
from video_ode.gan.tgan import TGANCritic, TGANDecoder
from video_ode.gan.tganv2 import TGANv2Critic, TGANv2Generator

SHAPE, FRAMES = (1, 16, 16), 8
RK4 = Solver("rk4", step_size=0.5)
DECONVOLUTION = partial(Deconvolution1d, widths=(6, 5, 4))


def motions(field, of_vectors):
    """Temporal generators; `of_vectors` makes one of vectors fit the states of a GAN."""
    sde = partial(NeuralSDE, drift=field, diffusion=field)
    return {
        "deconvolution": of_vectors(DECONVOLUTION),
        "GRU": of_vectors(partial(GRU, noise=2)),
        "ConvLSTM": ConvLSTM,
        "ODE": partial(NeuralODE, field=field, solver=RK4),
        "ODE 2": partial(HigherOrderODE, field=field, solver=RK4, order=2),
        "ODE 3": partial(HigherOrderODE, field=field, solver=RK4, order=3),
        "ODE 2, highest": partial(HigherOrderODE, field=field, solver=RK4, inputs="highest"),
        "SDE": partial(sde, solver=EulerMaruyama(0.5), positive=False),
        "SDE, Stratonovich": partial(sde, solver=Heun(0.5)),
        "ODE, pre-encoder": partial(
            PreEncoded,
            dynamics=partial(NeuralODE, field=field, solver=RK4),
            width=6,
            layers=2,
        ),
    }


VECTORS = motions(partial(MLPField, width=6), lambda dynamics: dynamics)
MAPS = motions(
    partial(ConvField, width=6), lambda dynamics: partial(PerPosition, dynamics=dynamics)
)


def tgan(motion):
    decoder = partial(TGANDecoder, width=4)
    made = LatentVideoGenerator(SHAPE, VECTORS[motion], decoder, 6, prior="uniform", tied=True)
    return made, [TGANCritic(SHAPE, FRAMES, 4)], Wasserstein(), None


def mocogan(motion):
    decoder = partial(DCGANDecoder, width=4)
    made = LatentVideoGenerator(SHAPE, VECTORS[motion], decoder, 5, 4)
    critics = [MoCoGANCritic(SHAPE, FRAMES, 4), FrameCritic(SHAPE, 1, 4, 2)]
    return made, critics, Logistic(), None


def tganv2(motion):
    made = TGANv2Generator(SHAPE, MAPS[motion], 5, 6, ((6, 4), (4,)), stride=2)
    return made, [TGANv2Critic(SHAPE, 2, (4, 6))], Logistic(), R1(0.5, reduction="sum")


def sparse(motion):
    made = LatentVideoGenerator(SHAPE, VECTORS[motion], partial(DCGANDecoder, width=4), 5, 4)
    return made, [SparseCritic(SHAPE, 3, 4, 8)], Hinge(), R1(0.5, 2)


GANS = {"TGAN": tgan, "MoCoGAN": mocogan, "TGANv2": tganv2, "sparse": sparse}


def clip(n=4):
    frames = torch.randint(256, (n, FRAMES, *SHAPE), dtype=torch.uint8)
    seen = torch.ones(n, FRAMES, dtype=torch.bool)
    return Clip(frames, torch.arange(float(FRAMES)), seen, torch.arange(n))


@pytest.mark.parametrize("motion", VECTORS)
@pytest.mark.parametrize("gan", GANS)
def test_every_gan_trains_with_every_temporal_generator(gan, motion):
    made, critics, loss, r1 = GANS[gan](motion)
    module = VideoGANModule(made, critics, loss, r1=r1)
    for player, trained in (("critic", module.critics), ("generator", module.generator)):
        value, _ = module.loss(player, clip())
        module.zero_grad()
        value.backward()
        for name, p in trained.named_parameters():
            unused = name == "dynamics.cell.weight_ih" and p.numel() == 0
            assert unused or (p.grad is not None and bool(p.grad.isfinite().all())), name
        assert any(float(p.grad.abs().max()) > 0 for p in trained.parameters())
    with torch.no_grad():
        videos = module.eval().generate(3, torch.arange(float(FRAMES)))
    assert videos.shape == (3, FRAMES, *SHAPE)
    assert 0 <= float(videos.min()) < float(videos.max()) <= 1


def frames(made, times, seed=3):
    torch.manual_seed(seed)
    with torch.no_grad():
        return made.eval().generate(2, times)


@pytest.mark.parametrize("gan", GANS)
@pytest.mark.parametrize("motion", ["ODE", "ODE 2", "ODE 3", "SDE", "SDE, Stratonovich"])
def test_twice_the_frame_rate_contains_the_same_frames(gan, motion, double):
    made, *_ = GANS[gan](motion)
    once = frames(made, torch.arange(5.0))
    twice = frames(made, torch.arange(0, 4.5, 0.5))
    torch.testing.assert_close(twice[:, ::2], once, rtol=0, atol=0)
    assert (twice[:, 1] != once[:, 0]).any()


def test_frames_between_the_steps_change_no_other_frame(double):
    made, *_ = tgan("SDE")
    times = torch.tensor([0.0, 1.0, 1.3, 1.45, 2.0, 3.0])
    whole = frames(made, torch.arange(4.0))
    torch.testing.assert_close(frames(made, times)[:, [0, 1, 4, 5]], whole, rtol=0, atol=0)


@pytest.mark.parametrize("gan", GANS)
def test_an_ode_goes_back_before_the_first_frame_and_returns(gan, double):
    made, *_ = GANS[gan]("ODE")
    early = frames(made, torch.arange(-3.0, 4.0))
    torch.testing.assert_close(early[:, 3:], frames(made, torch.arange(4.0)))
    assert (early[:, 0] != early[:, 3]).any()


@pytest.mark.parametrize("motion", ["SDE", "GRU", "deconvolution", "ConvLSTM"])
def test_others_say_that_they_go_forward_only(motion):
    made, *_ = tgan(motion)
    with pytest.raises(InputError, match="forward"):
        frames(made, torch.arange(-1.0, 3.0))


def test_motions_of_one_start_differ_for_an_sde_only():
    times = torch.arange(4.0)
    for motion, random in (("SDE", True), ("ODE", False)):
        made, *_ = tgan(motion)
        with torch.no_grad():
            a, b = made.eval().replay(2, times, 2)
        assert torch.equal(a[:, 0], b[:, 0])
        assert torch.equal(a[:, 1:], b[:, 1:]) is not random


def test_frame_zero_is_the_state_at_time_zero_and_frames_are_one_apart(double):
    ode = partial(
        NeuralODE, field=partial(MLPField, width=6), solver=Solver("rk4", step_size=1 / 15)
    )
    made = LatentVideoGenerator(
        SHAPE, partial(TimeScaled, dynamics=ode, frames=15.0), partial(DCGANDecoder, width=4)
    )
    torch.manual_seed(3)
    latents = made.draw(2)
    inner = made.dynamics.dynamics(latents.start, torch.linspace(0, 1, 16)).states
    assert torch.equal(inner[:, 0], latents.start)
    codes = torch.cat([latents.content[:, None].expand(-1, 16, -1), inner], 2)
    expected = made.eval().decoder(codes.flatten(0, 1)).unflatten(0, (2, 16))
    torch.testing.assert_close(frames(made, torch.arange(16.0)), expected)


def test_broken_weights_are_named_when_videos_are_asked_for():
    made, *_ = mocogan("ODE")
    made.decoder.first[0].weight.data[0] = torch.nan
    with pytest.raises(RunError, match="weights of LatentVideoGenerator are NaN"):
        frames(made, torch.arange(3.0))
