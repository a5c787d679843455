from functools import partial

import pytest
import torch
from torch.distributions import Bernoulli, Normal

from common.errors import InputError
from common.nn.mlp import MLPField
from common.ode.sde import EulerMaruyama
from common.ode.solve import Solver
from tests.video_ode.models import FIELD, SHAPE, every, latent_ode, video
from video_ode.dynamics.ode import NeuralODE
from video_ode.dynamics.recurrent import GRU
from video_ode.dynamics.sde import NeuralSDE
from video_ode.latent_ode.encoders import GRUEncoder, ODERNNEncoder

ENCODERS = {
    "gru": partial(GRUEncoder, hidden=8),
    "ode-rnn": partial(ODERNNEncoder, field=FIELD, hidden=8),
}


def some(frames, n=3):
    """Times and a mask with gaps."""
    times = torch.arange(float(frames))
    mask = torch.rand(n, frames) < 0.5
    mask[:, 0] = True
    return times, mask


# Recurrent encoders -------------------------------------------------------------------------


def test_gru_reads_the_observed_codes_backward_with_the_time_between_them(double):
    encoder = GRUEncoder(4, 6)
    codes, times = torch.randn(2, 5, 4), torch.tensor([0.0, 0.5, 2.0, 3.0, 7.0])
    mask = torch.tensor([[0, 1, 1, 1, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
    cell = torch.nn.GRUCell(5, 6)
    cell.load_state_dict({k.removesuffix("_l0"): v for k, v in encoder.gru.state_dict().items()})
    for row, inputs in (
        (0, [(3, 1.0), (2, 1.5), (1, 0.5)]),
        (1, [(4, 4.0), (3, 1.0), (2, 1.5), (1, 0.5), (0, 0.0)]),
    ):
        h = torch.zeros(1, 6)
        for frame, gap in inputs:
            h = cell(torch.cat([codes[row, frame], torch.tensor([gap])])[None], h)
        torch.testing.assert_close(encoder(codes, times, mask)[row], h[0])


def test_ode_rnn_without_motion_is_the_cell_over_the_observed_codes(double):
    encoder = ODERNNEncoder(4, lambda size, _: MLPField(size, 0, gain=0.0), 6)
    codes, times = torch.randn(1, 4, 4), torch.tensor([0.0, 0.5, 2.0, 3.0])
    mask = torch.tensor([[True, False, True, True]])
    h = torch.zeros(1, 6)
    for frame in (3, 2, 0):
        h = encoder.cell(codes[:, frame], h)
    torch.testing.assert_close(encoder(codes, times, mask), h)


def test_ode_rnn_moves_between_observations(double):
    encoder = ODERNNEncoder(4, partial(MLPField, width=8), 6)
    codes, mask = torch.randn(2, 3, 4), torch.ones(2, 3, dtype=torch.bool)
    near = encoder(codes, torch.tensor([0.0, 1.0, 2.0]), mask)
    far = encoder(codes, torch.tensor([0.0, 1.0, 5.0]), mask)
    assert (near - far).abs().max() > 1e-4


# Loss ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_loss_is_the_negative_elbo(likelihood, monkeypatch, double):
    monkeypatch.setattr(Normal, "rsample", lambda self, shape=(): self.loc)
    # In evaluation mode batch norms don't mind that frames come one by one.
    model = latent_ode(likelihood=likelihood, scale=0.4, kl_weight=0.3).eval()
    x, (times, mask) = video(5), every(5)
    loss, terms = model.loss(x, times, mask, 4, 1.0)
    q = model.encode(x[:, :4], times[:4])
    states = model.dynamics(q.loc, times[:4]).states
    frames = torch.stack([model.decoder(states[:, t]) for t in range(4)], 1)
    p = Normal(frames, 0.4) if likelihood == "gaussian" else Bernoulli(frames, validate_args=False)
    nll = -p.log_prob(x[:, :4]).sum((0, 1, 2, 3, 4)) / 3 / 4
    kl = (0.5 * (q.loc**2 + q.scale**2 - 1) - q.scale.log()).sum() / 3
    torch.testing.assert_close(terms["nll"], nll)
    torch.testing.assert_close(terms["kl"], kl)
    torch.testing.assert_close(loss, nll + 0.3 * kl)


def test_reconstruction_never_sees_the_frames_to_be_predicted():
    model = latent_ode()
    x, (times, mask) = video(8), every(8)
    other = x.clone()
    other[:, 5:] = 0
    losses = []
    for frames in (x, other):
        torch.manual_seed(1)
        losses.append(model.eval().loss(frames, times, mask, 5, 1.0)[0])
    assert losses[0] == losses[1]
    model.train_on = "all"
    assert model.loss(x, times, mask, 5, 1.0)[0] != model.loss(other, times, mask, 5, 1.0)[0]


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("training", [True, False])
def test_unobserved_frames_have_no_influence(kind, training):
    model = latent_ode(ENCODERS[kind], train_on="all").train(training)
    (times, mask), x = some(8), video(8)
    other = torch.where(mask[..., None, None, None], x, torch.rand_like(x))
    results = []
    for frames in (x, other):
        torch.manual_seed(1)
        loss, _ = model.loss(frames, times, mask, 6, 1.0)
        sample = model.predict(frames[:, :6], times[:6], times, 2, mask[:, :6])
        results.append((loss, sample))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


def test_videos_grow_from_two_frames_to_all():
    model = latent_ode(growth=0.5)
    assert [model._length(10, p / 18) for p in range(10)] == [*range(2, 11), 10]
    assert latent_ode()._length(10, 0.0) == 10
    for progress in (0.0, 0.3, 1.0):
        model.loss(video(10), *every(10), 6, progress)[0].backward()


def test_shown_prefixes_are_of_random_length_and_the_rest_is_in_the_loss():
    model = latent_ode(prefix=0.5)
    shown = [model._shown(10) for _ in range(400)]
    assert set(shown) == set(range(4, 11))
    assert abs(sum(n < 10 for n in shown) / 400 - 0.5) < 4 * 0.5 / 20
    assert model._shown(4) == 4
    model.prefix = 1.0
    model._shown = lambda n_cond: 2
    x, (times, mask) = video(6), every(6)
    other = x.clone()
    other[:, 5] = 0
    losses = []
    for frames in (x, other):
        torch.manual_seed(1)
        losses.append(model.loss(frames, times, mask, 6, 1.0)[0])
    assert losses[0] != losses[1]


def test_decoding_some_frames_estimates_the_whole_without_bias(monkeypatch, double):
    monkeypatch.setattr(Normal, "rsample", lambda self, shape=(): self.loc)
    model, x = latent_ode().eval(), video(6)
    whole = model.loss(x, *every(6), 6, 1.0)[0]
    model.decoded = 2
    some = torch.stack([model.loss(x, *every(6), 6, 1.0)[0] for _ in range(300)])
    assert abs(some.mean() - whole) < 4 * some.std() / 300**0.5
    assert some.std() > 0


def test_consistency_compares_the_path_with_what_later_frames_say(monkeypatch, double):
    monkeypatch.setattr(Normal, "rsample", lambda self, shape=(): self.loc)
    model, x, (times, mask) = latent_ode(consistency=0.3).eval(), video(5), every(5)
    loss, terms = model.loss(x, times, mask, 5, 1.0)
    path = model.dynamics(model.encode(x, times).loc, times).states
    gap = (path[:, 1] - model.encode(x[:, 1:], times[1:]).loc).square().sum() / 3
    torch.testing.assert_close(terms["gap"], gap)
    model.consistency = 0.0
    torch.testing.assert_close(loss, model.loss(x, times, mask, 5, 1.0)[0] + 0.3 * gap)


@pytest.mark.parametrize("kind", ENCODERS)
def test_all_weights_learn(kind):
    model = latent_ode(ENCODERS[kind])
    model.loss(video(6), *some(6), 6, 1.0)[0].backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_path_divergence_of_an_sde_counts():
    field = partial(MLPField, width=8)
    sde = partial(
        NeuralSDE, drift=field, diffusion=field, prior_drift=field, solver=EulerMaruyama(0.5)
    )
    model = latent_ode(dynamics=sde).eval()
    x, (times, mask) = video(4), every(4)
    kl = model.loss(x, times, mask, 4, 1.0)[1]["kl"]
    q = model.encode(x, times)
    first = (0.5 * (q.loc**2 + q.scale**2 - 1) - q.scale.log()).sum() / 3
    assert kl > first + 1e-3
    with pytest.raises(InputError, match="forward in time only"):
        model.predict(x, times, torch.tensor([-1.0, 2.0]))


# Prediction ---------------------------------------------------------------------------------


def test_before_between_and_after_are_one_path(monkeypatch, double):
    monkeypatch.setattr(Normal, "sample", lambda self: self.loc)
    dynamics = partial(NeuralODE, field=FIELD, solver=Solver("dopri5", rtol=1e-9, atol=1e-9))
    model = latent_ode(dynamics=dynamics).eval()
    x, (times, _) = video(5), every(5)
    targets = torch.tensor([-3.0, -0.5, 0.0, 0.25, 2.0, 4.0, 9.5])
    together = model.predict(x, times, targets)
    for i in range(len(targets)):
        alone = model.predict(x, times, targets[i : i + 1])
        torch.testing.assert_close(together[:, :, i], alone[:, :, 0], atol=1e-6, rtol=0)
    z0 = model.encode(x, times).loc
    path = model.dynamics(z0, torch.tensor([0.0, -0.5, -3.0])).states
    torch.testing.assert_close(together[0][:, :3], model.decode(path).flip(1), atol=1e-6, rtol=0)


def test_samples_come_from_the_posterior():
    model = latent_ode().eval()
    samples = model.predict(video(5), every(5)[0], torch.arange(7.0), 3)
    assert samples.shape == (3, 3, 7, *SHAPE)
    assert samples.std(0).max() > 0


@pytest.mark.parametrize(
    ("times", "targets", "message"),
    [
        ([0.0, 2, 1], [1.0], "ascending"),
        ([0.0, 1, 2], [], "at least one"),
        ([0.0, 1, 2], [2.0, 2.0], "ascending"),
    ],
)
def test_times_that_do_not_ascend_are_refused(times, targets, message):
    with pytest.raises(InputError, match=message):
        latent_ode().predict(video(3), torch.tensor(times), torch.tensor(targets))


def test_stepwise_dynamics_say_which_times_they_know():
    model = latent_ode(dynamics=GRU)
    with pytest.raises(InputError, match="between frames"):
        model.predict(video(3), torch.arange(3.0), torch.tensor([0.5]))


@pytest.mark.parametrize("name", ["growth", "prefix"])
def test_growth_and_prefix_are_shares(name):
    with pytest.raises(InputError, match=f"{name} 2"):
        latent_ode(**{name: 2.0})


@pytest.mark.parametrize("n_cond", [0, 6])
def test_as_many_given_frames_as_there_are_frames(n_cond):
    model, (times, mask) = latent_ode(), every(5)
    with pytest.raises(InputError, match=f"n_cond {n_cond} for videos of 5 frames; give 1 to 5"):
        model.loss(video(5), times, mask, n_cond, 1.0)
    with pytest.raises(InputError, match=f"n_cond {n_cond} for videos of 5 frames"):
        model.scores(video(5), times, mask, n_cond)
