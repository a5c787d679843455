"""Networks of the published GANs: numbers of parameters, shapes, and what critics look at."""

from functools import partial

import pytest
import torch
from torch import nn

from common.errors import InputError
from common.nn.mlp import MLPField
from common.ode.solve import Solver
from video_ode.dynamics.ode import NeuralODE
from video_ode.frames.dcgan import DCGANDecoder
from video_ode.gan.critic import SparseCritic, View
from video_ode.gan.mocogan import FrameCritic, MoCoGANCritic
from video_ode.gan.tgan import TGANCritic, TGANDecoder
from video_ode.gan.tganv2 import TGANv2Critic, TGANv2Generator

SHAPE = (3, 64, 64)
# Without their temporal generators; counts of the published code.
PUBLISHED = {
    "TGAN, image generator": (lambda: TGANDecoder(SHAPE, 200), 4_449_159 - 826_468),
    "TGAN, critic": (lambda: TGANCritic(SHAPE), 11_033_281),
    "MoCoGAN, image generator": (lambda: DCGANDecoder(SHAPE, 66), 3_299_808 - 1_632),
    "MoCoGAN, video critic": (lambda: MoCoGANCritic(SHAPE), 11_056_896),
    "MoCoGAN, image critic": (lambda: FrameCritic(SHAPE), 663_296),
    "TGANv2, generator": (
        lambda: TGANv2Generator((3, 192, 192), lambda size, context: nn.Identity()),
        88_032_460 - 75_501_568,
    ),
    "TGANv2, critic": (lambda: TGANv2Critic((3, 192, 192)), 116_077_060),
}
CRITICS = {
    "TGAN": partial(TGANCritic, width=4),
    "MoCoGAN": partial(MoCoGANCritic, width=4),
    "frames": lambda shape, clip: FrameCritic(shape, width=4, layers=2),
    "sparse": lambda shape, clip: SparseCritic(shape, width=4, features=8),
}


def whole(video):
    n = video.shape[1]
    return View(video, torch.arange(float(n)), torch.arange(n))


def ode(size, context):
    return NeuralODE(size, context, MLPField, Solver("rk4", step_size=1.0))


def tganv2(size=16, blocks=((6, 4), (4,)), **options):
    return TGANv2Generator((1, size, size), Still, noise=5, width=6, blocks=blocks, **options)


class Still(NeuralODE):
    """Maps that don't change."""

    def __init__(self, size, context):
        super().__init__(size, context, lambda *_: Zero(), Solver("euler", step_size=1.0))


class Zero(nn.Module):
    def forward(self, t, z, context=None):
        return torch.zeros_like(z)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_have_the_published_numbers_of_parameters(name):
    build, count = PUBLISHED[name]
    with torch.device("meta"):
        assert sum(p.numel() for p in build().parameters()) == count


@pytest.mark.parametrize("clip", [2, 3, 8, 16])
@pytest.mark.parametrize("size", [16, 28, 32])
@pytest.mark.parametrize("name", CRITICS)
def test_critics_take_any_batch_clip_and_size(name, size, clip):
    if name == "sparse" and clip < 3:
        return
    critic = CRITICS[name]((1, size, size), clip)
    for n in (2, 3):
        video = torch.rand(n, clip, 1, size, size, requires_grad=True)
        scores = critic([whole(video)])
        assert len(scores) == n
        scores.sum().backward()
        used = critic.n_frames or clip
        assert int((video.grad.abs().sum((0, 2, 3, 4)) > 0).sum()) == min(used, clip)


@pytest.mark.parametrize("name", ["TGAN", "MoCoGAN"])
def test_critics_of_clips_refuse_other_lengths(name):
    with pytest.raises(InputError, match="got clips of 5 frames"):
        CRITICS[name]((1, 16, 16), 8)([whole(torch.rand(2, 5, 1, 16, 16))])
    with pytest.raises(InputError, match="got 2 frames, but SparseCritic compares 3"):
        SparseCritic((1, 16, 16))([whole(torch.rand(2, 2, 1, 16, 16))])


def test_the_sparse_critic_scores_single_frames_by_themselves():
    critic = SparseCritic((1, 16, 16), n_frames=3, width=4, features=8, frame_scores=True)
    video = torch.rand(2, 3, 1, 16, 16)
    scores = critic([whole(video)])
    assert scores.shape == (2, 1 + 3)
    video[:, 1] = torch.rand(2, 1, 16, 16)
    same = torch.isclose(scores, critic([whole(video)]))
    assert torch.equal(same, torch.tensor([[False, True, False, True]]).expand(2, 4))


def test_the_sparse_critic_knows_the_distances_between_its_frames():
    torch.manual_seed(1)
    critic = SparseCritic((1, 16, 16), n_frames=2, width=4, features=8)
    video, places = torch.rand(3, 2, 1, 16, 16), torch.arange(2)
    near, far, later = (
        critic([View(video, torch.tensor(times), places)])
        for times in ([0.0, 1.0], [0.0, 7.0], [5.0, 6.0])
    )
    assert (near - far).abs().min() > 1e-4
    torch.testing.assert_close(near, later)  # only distances count


def test_critics_see_frames_from_minus_one_to_one():
    critic = TGANCritic((1, 16, 16), 4, width=4)
    seen = []
    critic.net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    critic([whole(torch.stack([torch.zeros(4, 1, 16, 16), torch.ones(4, 1, 16, 16)]))])
    assert seen[0].unique().tolist() == [-1, 1]
    assert seen[0].shape == (2, 1, 4, 16, 16)


def test_levels_of_tganv2_double_and_lose_frames():
    generator = tganv2(stride=2)
    times = torch.arange(8.0) / 2
    coarse, fine = generator.views(3, times)
    assert coarse.video.shape == (3, 8, 1, 8, 8)
    assert fine.video.shape == (3, 4, 1, 16, 16)
    assert fine.places.tolist() in ([0, 2, 4, 6], [1, 3, 5, 7])
    torch.testing.assert_close(fine.times, times[fine.places])
    offsets = {int(generator.views(1, times)[1].places[0]) for _ in range(20)}
    assert offsets == {0, 1}
    with torch.no_grad():
        frames = generator.eval().generate(2, times)
    assert frames.shape == (2, 8, 1, 16, 16)
    assert (frames[:, 1:] == frames[:, :1]).all()  # a path that doesn't move


def test_networks_for_other_numbers_of_views_or_sizes_are_refused():
    critic = TGANv2Critic((1, 16, 16), views=2, widths=(4, 6))
    views = tganv2().views(2, torch.arange(4.0))
    assert critic(views).shape == (4,)
    with pytest.raises(InputError, match="got 1 views"):
        critic(views[:1])
    with pytest.raises(InputError, match="sides 8 divides"):
        tganv2(12)
    with pytest.raises(InputError, match="equal length"):
        TGANDecoder((1, 16, 16), 7)
