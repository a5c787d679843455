from functools import partial

import pytest
import torch
from torch.distributions import Normal
from torch.nn.functional import softplus

from common.errors import InputError
from common.nn.mlp import MLPField
from common.ode.sde import EulerMaruyama
from common.ode.solve import Solver
from tests.video_ode.models import DCGAN, FIELD, SHAPE, VGG, every, srvp, video
from video_ode.dynamics.ode import NeuralODE
from video_ode.dynamics.recurrent import GRU, MLPDynamics
from video_ode.dynamics.residual import ResidualEuler
from video_ode.dynamics.sde import NeuralSDE
from video_ode.frames.dcgan import DCGANDecoder, DCGANEncoder
from video_ode.frames.vgg import VGGDecoder, VGGEncoder
from video_ode.srvp.convert import convert, from_published, load_published, to_published
from video_ode.srvp.model import SRVP

PUBLISHED = {
    "moving mnist": ((1, 64, 64), False, 20, 5, 10_678_284),
    "kth": ((1, 64, 64), True, 50, 3, 23_877_854),
    "human3.6m": ((3, 64, 64), True, 50, 3, 23_880_158),
    "bair": ((3, 64, 64), True, 50, 2, 23_847_390),
}
# Names and shapes of the published Moving MNIST weights; BN stands for a batch norm's five.
BN = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
WEIGHTS = {
    "encoder.conv.0.0.weight": (64, 1, 4, 4),
    "encoder.conv.1.0.weight": (128, 64, 4, 4),
    "encoder.conv.2.0.weight": (256, 128, 4, 4),
    "encoder.conv.3.0.weight": (512, 256, 4, 4),
    "encoder.last_conv.0.weight": (128, 512, 4, 4),
    "decoder.first_upconv.0.weight": (276, 512, 4, 4),
    "decoder.conv.0.0.weight": (512, 256, 4, 4),
    "decoder.conv.1.0.weight": (256, 128, 4, 4),
    "decoder.conv.2.0.weight": (128, 64, 4, 4),
    "decoder.conv.3.weight": (64, 1, 4, 4),
    "inf_z.weight_ih_l0": (1024, 128),
    "inf_z.weight_hh_l0": (1024, 256),
    "inf_z.bias_ih_l0": (1024,),
    "inf_z.bias_hh_l0": (1024,),
}
NORMS = {
    "encoder.conv.1.1": 128,
    "encoder.conv.2.1": 256,
    "encoder.conv.3.1": 512,
    "encoder.last_conv.1": 128,
    "decoder.first_upconv.1": 512,
    "decoder.conv.0.1": 256,
    "decoder.conv.1.1": 128,
    "decoder.conv.2.1": 64,
}
LINEARS = {
    "w_proj.0": (256, 128),
    "w_inf.0": (256, 256),
    "q_y.module.0.0": (256, 640),
    "q_y.module.1.1": (256, 256),
    "q_y.module.2.1": (40, 256),
    "q_z": (40, 256),
    "p_z.module.0.0": (512, 20),
    "p_z.module.1.1": (512, 512),
    "p_z.module.2.1": (512, 512),
    "p_z.module.3.1": (40, 512),
    "dynamics.module.0.0": (512, 40),
    "dynamics.module.1.1": (512, 512),
    "dynamics.module.2.1": (512, 512),
    "dynamics.module.3.1": (20, 512),
}


def published_shapes():
    shapes = dict(WEIGHTS)
    for name, size in NORMS.items():
        shapes |= {f"{name}.{part}": (size,) if part != BN[-1] else () for part in BN}
    for name, (n_out, n_in) in LINEARS.items():
        shapes |= {f"{name}.weight": (n_out, n_in), f"{name}.bias": (n_out,)}
    return shapes


def full_size(shape, vgg, size, n_inference):
    field = partial(MLPField, width=512, layers=4, gain=1.41)
    return SRVP(
        shape,
        VGGEncoder if vgg else DCGANEncoder,
        VGGDecoder if vgg else DCGANDecoder,
        partial(ResidualEuler, field=field),
        y_size=size,
        z_size=size,
        n_inference=n_inference,
        skips=vgg,
    )


@pytest.fixture
def certain(monkeypatch):
    """Every Gaussian gives its mean."""
    for name in ("sample", "rsample"):
        monkeypatch.setattr(Normal, name, lambda q, shape=(): q.loc.expand(*shape, *q.loc.shape))


# The published model ------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_as_many_as_published(name):
    *arguments, count = PUBLISHED[name]
    assert sum(p.numel() for p in full_size(*arguments).parameters()) == count


def test_published_weights_come_and_go_unchanged():
    shapes = published_shapes()
    assert len(shapes) == 82
    theirs = {name: torch.randn(shape) for name, shape in shapes.items()}
    theirs = {n: v.long() if n.endswith(BN[-1]) else v for n, v in theirs.items()}
    back = to_published(from_published(theirs).state_dict())
    assert back.keys() == theirs.keys()
    assert all(torch.equal(back[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_read_from_published_weights(name):
    *arguments, count = PUBLISHED[name]
    model = full_size(*arguments)
    again = from_published(to_published(model.state_dict()), steps=2)
    assert sum(p.numel() for p in again.parameters()) == count
    assert (again.skips, again.n_inference) == (arguments[1], arguments[3])


def test_converted_file_is_a_checkpoint(tmp_path):
    model = full_size(*PUBLISHED["moving mnist"][:-1])
    torch.save(to_published(model.state_dict()), tmp_path / "a")
    convert(str(tmp_path / "a"), str(tmp_path / "b.ckpt"))
    state = torch.load(tmp_path / "b.ckpt", weights_only=True)["state_dict"]
    torch.testing.assert_close(
        state["predictor.prior.6.weight"], load_published(tmp_path / "a").prior[6].weight.data
    )


def test_other_weights_are_refused(tmp_path):
    with pytest.raises(InputError, match="aren't weights of SRVP"):
        from_published({"encoder.weight": torch.zeros(1)})
    for path in (tmp_path / "none.pt", tmp_path / "nowhere" / "none.pt", tmp_path):
        with pytest.raises(InputError, match="found no file"):
            convert(str(path), str(tmp_path / "out.ckpt"))
    (tmp_path / "junk.pt").write_bytes(b"junk")
    with pytest.raises(InputError, match=r"junk\.pt can't be read"):
        convert(str(tmp_path / "junk.pt"), str(tmp_path / "out.ckpt"))
    broken = {name: torch.full(shape, torch.nan) for name, shape in published_shapes().items()}
    with pytest.raises(InputError, match="NaN or infinite"):
        from_published(broken)
    assert not (tmp_path / "out.ckpt").exists()


# Loss ---------------------------------------------------------------------------------------


def divergence(q, p):
    (m, s), (n, t) = q, p
    return (torch.log(t / s) + (s**2 + (m - n) ** 2) / (2 * t**2) - 0.5).sum()


def halves(raw):
    loc, scale = raw.chunk(2, -1)
    return loc, softplus(scale) + 1e-8


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_loss_is_the_papers_written_out_frame_by_frame(steps, certain, double):
    model = srvp(steps=steps, scale=0.3, beta_y=0.5, beta_z=2.0, residual_weight=0.7)
    x = video(3)  # as many frames as the content takes: all of them
    loss, terms = model.loss(x, *every(3), 2, 1.0)

    codes = model.encoder(x.transpose(0, 1).flatten(0, 1))[0].unflatten(0, (3, 3))  # time first
    w = model.content(sum(model.project(codes[t]) for t in range(3)))
    first = halves(model.first(torch.cat(list(codes), -1)))
    hidden = model.recurrent(codes.transpose(0, 1))[0]
    y, nll, kl_z, residual, states = first[0], 0.0, 0.0, 0.0, [first[0]]
    for t in (1, 2):
        q = halves(model.posterior(hidden[:, t]))
        kl_z = kl_z + divergence(q, halves(model.prior(y)))
        for _ in range(steps):
            step = model.dynamics.field(torch.zeros(()), y, q[0]) / steps
            residual = residual + step.square().sum(-1).sqrt().sum()
            y = y + step
        states.append(y)
    frames = model.decoder(torch.cat([torch.cat([w, y], -1) for y in states]))
    for frame, true in zip(frames.unflatten(0, (3, 3)), x.unbind(1), strict=True):
        nll = nll - torch.distributions.Normal(frame, 0.3).log_prob(true).sum()
    kl_y = divergence(first, (torch.zeros(()), torch.ones(())))
    expected = {"nll": nll, "kl_y": kl_y, "kl_z": kl_z, "residual": residual}
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value / 3)
    total = nll + 0.5 * kl_y + 2 * kl_z + 0.7 * residual
    torch.testing.assert_close(loss, total / 3)


def test_decoding_some_frames_estimates_the_whole_without_bias(certain, double):
    model, x = srvp().eval(), video(6)
    model._random_content = lambda codes, features: model._content(
        codes[:, :3], features, torch.zeros(3).long()
    )
    whole = model.loss(x, *every(6), 3, 1.0)[1]["nll"]
    model.decoded = 1
    some = torch.stack([model.loss(x, *every(6), 3, 1.0)[1]["nll"] for _ in range(300)])
    assert abs(some.mean() - whole) < 4 * some.std() / 300**0.5
    assert some.std() > 0


def test_divergences_are_annealed(certain, double):
    model, x = srvp(annealing=0.5, beta_y=0.5, beta_z=2.0).eval(), video(3)
    for progress, share in ((0.0, 0.01), (0.25, 0.5), (0.5, 1.0), (1.0, 1.0)):
        loss, terms = model.loss(x, *every(3), 3, progress)
        divergences = 0.5 * terms["kl_y"] + 2.0 * terms["kl_z"]
        torch.testing.assert_close(loss, terms["nll"] + terms["residual"] + share * divergences)


@pytest.mark.parametrize(
    "dynamics",
    [GRU, partial(MLPDynamics, field=FIELD), partial(ResidualEuler, field=FIELD, steps=2)],
    ids=["gru", "mlp", "residual"],
)
@pytest.mark.parametrize("z_size", [0, 3])
def test_every_ablation_trains_all_of_its_weights_and_predicts(dynamics, z_size):
    model = srvp(dynamics=dynamics, z_size=z_size)
    loss, terms = model.loss(video(6), *every(6), 3, 1.0)
    loss.backward()
    assert ("kl_z" in terms) == (z_size > 0)
    assert all(p.grad is not None for p in model.parameters())
    assert model.predict(video(3), every(3)[0], torch.arange(7.0), 2).shape == (2, 3, 7, *SHAPE)


def test_path_divergence_of_an_sde_is_in_the_loss():
    field = partial(MLPField, width=8)
    sde = partial(
        NeuralSDE, drift=field, diffusion=field, prior_drift=field, solver=EulerMaruyama(0.5)
    )
    model = srvp(dynamics=sde)
    model.loss(video(5), *every(5), 3, 1.0)[0].backward()
    assert all(p.grad is not None for p in model.parameters())


def test_other_dynamics_take_the_place_of_the_residual_steps():
    ode = partial(NeuralODE, field=FIELD, solver=Solver("rk4", step_size=0.5))
    sde = partial(NeuralSDE, drift=FIELD, diffusion=FIELD, solver=EulerMaruyama(0.5))
    for dynamics in (ode, sde):
        model = srvp(dynamics=dynamics)
        model.loss(video(5), *every(5), 3, 1.0)[0].backward()
        assert model.predict(video(3), every(3)[0], torch.tensor([0.0, 4.5])).shape[2] == 2


def test_training_videos_grow():
    model = srvp(shortest=3, growth=0.5)
    lengths = [model._length(10, progress) for progress in (0.0, 0.2, 0.4, 0.49, 0.5, 1.0)]
    assert lengths[0] == 3
    assert lengths[-2:] == [10, 10]
    assert lengths == sorted(lengths)


# Prediction ---------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", range(1, 11))
def test_any_number_of_steps_predicts_exactly_the_frames_asked_for(steps, certain, double):
    model, x = srvp(steps=steps).eval(), video(4)
    times = torch.arange(12.0)
    states = model.states(x, times[:4], times)[0]
    q = halves(model.posterior(model.recurrent(model._encode(x)[0])[0]))[0]
    y = states[:, 0]
    for t in range(11):
        z = q[:, t + 1] if t < 3 else halves(model.prior(y))[0]
        for _ in range(steps):
            y = y + model.dynamics.field(torch.zeros(()), y, z) / steps
        torch.testing.assert_close(states[:, t + 1], y)
    assert model.predict(x, times[:4], times).shape == (1, 3, 12, *SHAPE)


@pytest.mark.parametrize(("trained", "predicted"), [(2, 4), (1, 3), (2, 1)])
def test_given_intervals_keep_the_steps_of_training(trained, predicted, certain, double):
    """The update rule of the slides: `y_{t+1/k} = y_t + f(y_t, z_{⌊t⌋+1}) / k`."""
    model, x = srvp(steps=trained, predicted_steps=predicted).eval(), video(4)
    times = torch.arange(9.0)
    states = model.states(x, times[:4], times)[0]
    q = halves(model.posterior(model.recurrent(model._encode(x)[0])[0]))[0]
    y = halves(model.first(model._encode(x)[0][:, :3].flatten(1)))[0]
    for t in range(8):
        z = q[:, t + 1] if t < 3 else halves(model.prior(y))[0]
        k = trained if t < 3 else predicted
        for _ in range(k):
            y = y + model.dynamics.field(torch.zeros(()), y, z) / k
        torch.testing.assert_close(states[:, t + 1], y)
    assert model.dynamics.steps == trained
    x = video(3)  # as many frames as the content takes
    loss = model.loss(x, *every(3), 2, 1.0)[0]
    model.predicted_steps = None
    torch.testing.assert_close(model.loss(x, *every(3), 2, 1.0)[0], loss)


def test_only_euler_steps_have_another_number_in_predictions():
    with pytest.raises(InputError, match="predicted_steps 4, but GRU has no"):
        srvp(dynamics=GRU, predicted_steps=4)


def test_times_between_frames_leave_the_frames_as_they_are(certain, double):
    model, x = srvp(steps=3).eval(), video(4)
    given, whole = torch.arange(4.0), torch.arange(8.0)
    fine = torch.arange(0.0, 7.01, 0.25)
    torch.testing.assert_close(
        model.predict(x, given, fine)[:, :, ::4], model.predict(x, given, whole)
    )


def test_unit_of_time_is_the_spacing_of_the_given_frames(certain, double):
    model, x = srvp().eval(), video(4)
    a = model.predict(x, torch.arange(4.0), torch.tensor([0.0, 2.5, 6.0]))
    b = model.predict(x, 10 + 2 * torch.arange(4.0), torch.tensor([10.0, 15.0, 22.0]))
    torch.testing.assert_close(a, b)


def test_samples_differ_where_the_future_is_open():
    model = srvp().eval()
    samples = model.predict(video(3), every(3)[0], torch.arange(6.0), 4)
    assert samples.std(0).amax() > 0


@pytest.mark.parametrize("architecture", [DCGAN, VGG], ids=["dcgan", "vgg"])
def test_content_can_be_swapped(architecture, certain, double):
    model = srvp(architecture, skips=True).eval()
    pose, look, times = video(4), video(4), torch.arange(7.0)
    own = model.with_content(pose, times[:4], times, 1, model.content_of(pose))
    torch.testing.assert_close(own, model.predict(pose, times[:4], times))
    swapped = model.with_content(pose, times[:4], times, 1, model.content_of(look))
    assert (swapped - own).abs().max() > 1e-6
    states = model.states(pose, times[:4], times)[0]
    torch.testing.assert_close(swapped[0], model.decode(states, model.content_of(look)))


def test_interpolation_goes_from_one_motion_to_the_other(certain, double):
    model, times = srvp().eval(), torch.arange(7.0)
    a, b = video(4), video(4)
    way = model.interpolate(a, b, times[:4], times, [0.0, 0.5, 1.0])
    torch.testing.assert_close(way[0], model.predict(a, times[:4], times)[0])
    last = model.with_content(b, times[:4], times, 1, model.content_of(a))
    torch.testing.assert_close(way[2], last[0])


def test_skips_and_content_are_of_the_last_given_frames(double):
    model = srvp(VGG, skips=True).eval()
    x = video(5)
    content = model.content_of(x)
    changed = x.clone()
    changed[:, :2] = torch.rand_like(x[:, :2])
    torch.testing.assert_close(model.content_of(changed).code, content.code)
    _, features = model.encoder(x[:, 4])
    for ours, theirs in zip(content.skips, features, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("times", "targets", "message"),
    [
        ([0.0, 1, 2], [-1.0, 0], "runs forward only"),
        ([0.0, 1, 3], [4.0], "evenly spaced"),
        ([0.0, 2, 1], [4.0], "ascending"),
        ([0.0, 1, 2], [4.0, 3.0], "ascending"),
        ([0.0, 1], [4.0], "n_inference 3"),
    ],
)
def test_times_that_it_cannot_reach_are_refused(times, targets, message):
    with pytest.raises(InputError, match=message):
        srvp().predict(video(len(times)), torch.tensor(times), torch.tensor(targets))


def test_missing_frames_are_refused():
    mask = every(5)[1]
    mask[0, 2] = False
    with pytest.raises(InputError, match="latent ODE"):
        srvp().loss(video(5), torch.arange(5.0), mask, 3, 1.0)
