"""Training of video GANs: one turn by hand, what is rendered, and what validation measures."""

import copy
from functools import partial

import pytest
import torch
from pytorch_lightning import Trainer
from torch import nn
from torch.nn.functional import softplus
from torch.utils.data import DataLoader

from common.data.videos.moving_mnist import MovingDigits
from common.errors import InputError, RunError
from common.nn.mlp import MLPField
from common.ode.solve import Solver
from common.training.callbacks.skip_bad_steps import SkipBadSteps
from video_ode.adversarial import R1, Wasserstein
from video_ode.dynamics.ode import NeuralODE
from video_ode.frames.base import FrameDecoder
from video_ode.gan.clipping import SingularValueClipping
from video_ode.gan.critic import ClipCritic, SparseCritic
from video_ode.gan.generator import LatentVideoGenerator
from video_ode.gan.mocogan import FrameCritic
from video_ode.gan.module import VideoGANModule
from video_ode.gan.tgan import TGANCritic

SHAPE = (1, 16, 16)
ODE = partial(NeuralODE, field=MLPField, solver=Solver("rk4", step_size=0.5))


class Plain(FrameDecoder):
    """One linear layer."""

    def __init__(self, shape, code_size, skips):
        super().__init__()
        self.shape, self.linear = shape, nn.Linear(code_size, 256)

    def forward(self, codes, skips=()):
        return self.linear(codes).sigmoid().unflatten(1, self.shape)


class Linear(ClipCritic):
    """Critic without a nonlinearity."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4 * 256, 1)

    def score(self, video, times):
        return self.linear(video.flatten(1))


def digits(**options):
    size = dict(canvas=16, n_train=8, n_val=6, n_test=4, batch_size=4)
    return MovingDigits(n_digits=1, digit=8, n_frames=4, **{**size, **options})


def generator(**options):
    return LatentVideoGenerator(SHAPE, ODE, Plain, motion_size=4, content_size=3, **options)


def trainer(tmp_path, *callbacks, **options):
    quiet = dict(logger=False, enable_progress_bar=False, enable_model_summary=False)
    return Trainer(
        accelerator="cpu",
        default_root_dir=tmp_path,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        **{"max_epochs": 1, **quiet, **options},
    )


@pytest.mark.parametrize("kind", ["Wasserstein with clipping", "logistic with R1"])
def test_a_turn_is_the_one_written_out_by_hand(kind, tmp_path):
    sgd = partial(torch.optim.SGD, lr=0.5)
    settings = dict(generator_optimizer=sgd, critic_optimizer=sgd)
    if kind.startswith("W"):
        settings |= dict(loss=Wasserstein(), clipping=SingularValueClipping(1))
    else:
        settings |= dict(r1=R1(0.7))
    module = VideoGANModule(generator(), [Linear()], **settings)
    made, critic = copy.deepcopy(module.generator), copy.deepcopy(module.critics[0])
    data = digits(n_train=4)
    data.prepare_data()
    data.setup("fit")
    (clip,) = data.train_dataloader()
    torch.manual_seed(5)

    def drawn():
        content, start = torch.randn(4, 3), torch.randn(4, 4)
        states = made.dynamics(start, torch.arange(4.0)).states
        codes = torch.cat([content[:, None].expand(-1, 4, -1), states], 2)
        return made.decoder.linear(codes).sigmoid().reshape(4, 4, *SHAPE)

    score = lambda video: (2 * video - 1).reshape(4, -1) @ critic.linear.weight.T
    real, fake = (clip.frames / 255).requires_grad_(), drawn().detach()
    a, b = score(real) + critic.linear.bias, score(fake) + critic.linear.bias
    if kind.startswith("W"):
        loss = b.mean() - a.mean()
    else:
        loss = softplus(-a).mean() + softplus(b).mean()
        loss = loss + 0.7 * (2 * critic.linear.weight).square().sum()  # ∂D/∂x = 2w
    loss.backward()
    with torch.no_grad():
        for p in critic.parameters():
            p -= 0.5 * p.grad
        if kind.startswith("W"):
            critic.linear.weight /= critic.linear.weight.norm().clamp(min=1)
    scores = score(drawn()) + critic.linear.bias
    loss = -scores.mean() if kind.startswith("W") else softplus(-scores).mean()
    for p, gradient in zip(
        made.parameters(), torch.autograd.grad(loss, list(made.parameters())), strict=True
    ):
        p.data -= 0.5 * gradient

    class Seed(SkipBadSteps):
        def on_train_batch_start(self, *args):
            super().on_train_batch_start(*args)
            torch.manual_seed(5)

    trainer(tmp_path, Seed(), limit_val_batches=0).fit(module, DataLoader([clip], batch_size=None))
    for ours, hand in ((module.generator, made), (module.critics[0], critic)):
        for p, q in zip(ours.parameters(), hand.parameters(), strict=True):
            torch.testing.assert_close(p.detach(), q.detach(), atol=1e-5, rtol=1e-5)


def test_sparse_critics_have_only_their_frames_rendered(tmp_path):
    rendered = []

    def count(critics):
        module = VideoGANModule(generator(), critics)
        module.generator.decoder.register_forward_pre_hook(
            lambda _, codes: rendered.append(len(codes[0]) // 4)
        )
        trainer(tmp_path, limit_val_batches=0, limit_train_batches=2).fit(module, digits())
        found = set(rendered)
        rendered.clear()
        return found

    sparse = SparseCritic(SHAPE, 2, width=4, features=8)
    assert count([sparse]) == {2}
    assert count([sparse, FrameCritic(SHAPE, 3, width=4, layers=2)]) == {3}
    assert count([sparse, TGANCritic(SHAPE, 4, width=4)]) == {4}


def test_critics_may_take_more_steps(tmp_path):
    module = VideoGANModule(generator(), [Linear()], critic_steps=2)
    run = trainer(tmp_path, limit_val_batches=0)
    run.fit(module, digits(n_train=16))
    assert run.global_step == 4 + 2


def test_an_exploding_critic_ends_the_run_and_leaves_finite_weights(tmp_path):
    explosive = partial(torch.optim.SGD, lr=1e30)
    module = VideoGANModule(
        generator(), [TGANCritic(SHAPE, 4, width=4)], Wasserstein(), critic_optimizer=explosive
    )
    skip = SkipBadSteps(give_up_after=3)
    with pytest.raises(RunError, match=r"steps of the \w+ in a row"):
        trainer(tmp_path, skip, max_epochs=20, limit_val_batches=0).fit(module, digits())
    assert all(bool(p.isfinite().all()) for p in module.parameters())


def test_frames_of_another_size_and_no_critic_are_refused(tmp_path):
    module = VideoGANModule(generator(), [Linear()])
    with pytest.raises(InputError, match="configured for"):
        trainer(tmp_path).fit(module, digits(canvas=32))
    with pytest.raises(InputError, match="critics 0"):
        VideoGANModule(generator(), [])
