"""Separation of content and motion: loss, published sizes, times, swaps, points."""

from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from torch import nn

from common.errors import InputError
from common.ode.solve import Solver
from tests.video_ode.models import DCGAN, FIELD, SHAPE, VGG, every, separation, video
from video_ode.dynamics.ode import NeuralODE
from video_ode.dynamics.residual import ResidualBlocks
from video_ode.frames.coordinates import CoordinateDecoder
from video_ode.frames.flat import MLPDecoder, MLPEncoder
from video_ode.frames.maps import MapDecoder, MapEncoder
from video_ode.separation.fields import MapField
from video_ode.separation.model import Separation

CONFIGS = Path(__file__).parents[2] / "video_ode/configs/separation"
MAPS = (partial(MapEncoder, width=2, code_size=3), partial(MapDecoder, width=2))
FLAT = (partial(MLPEncoder, width=6, code_size=4), partial(MLPDecoder, width=6))
# Content, motion, decoder, dynamics (Donà et al. 2021, released code). Of the published 27,190,507
# numbers for chairs 276 belong to a batch norm that its forward pass never uses.
PUBLISHED = {
    "mmnist": (3_809_088, 2_924_244, 3_968_833, 283_668),
    "chairs": (11_786_112 - 256, 11_242_014 - 20, 3_888_963, 273_418),
    "taxibj": (8_692_480, 7_807_420, 8_852_482, 283_668),
    "sst": (4_169_248, 3_251_584, 2_483_523, 5_904_768),
    "wave": (26_056_832, 26_056_832, 7_841_296, 887_904),
    "wave100": (7_041_632, 7_041_632, 42_700, 887_904),
}
KINDS = {
    "vectors": dict(architecture=DCGAN),
    "skips": dict(architecture=VGG, skips=True),
    "product": dict(mixing="product"),
    "next": dict(state_at="next"),
    "no content": dict(content=None),
    "maps": dict(
        architecture=MAPS,
        dynamics=partial(ResidualBlocks, field=partial(MapField, width=4)),
        skips=True,
        state_at="next",
    ),
    "flat": dict(architecture=FLAT),
}


def spread(model):
    """The model with weights so large that its frames are not all alike."""
    with torch.no_grad():
        for weight in model.parameters():
            weight *= 6 if weight.ndim > 1 else 1
    return model.double().eval()


@pytest.fixture(params=KINDS)
def model(request):
    torch.manual_seed(0)
    return spread(separation(**KINDS[request.param]))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_have_their_numbers_of_weights(name):
    config = yaml.safe_load((CONFIGS / f"separation_{name}.yaml").read_text())
    settings = config["model"]["init_args"]["predictor"]["init_args"]
    parser = ArgumentParser()
    parser.add_class_arguments(Separation, "model")
    with torch.device("meta"):
        built = parser.instantiate(parser.parse_object({"model": settings})).model
    parts = (built.content, built.motion, built.decoder, built.dynamics)
    assert tuple(sum(p.numel() for p in part.parameters()) for part in parts) == PUBLISHED[name]


def by_hand(model, x, other):
    """The four terms of the loss, frame by frame, after the released code."""
    k, delay = model.n_given, model.delay
    window = lambda start: x[:, start : start + k].reshape(len(x), -1, *x.shape[3:])
    if model.content is not None:
        first, skips = model.content(window(0))
        last, skips_last = model.content(window(x.shape[1] - k))
    else:
        skips = ()

    def decoded(state):
        mixed = state
        if model.content is not None:
            mixed = first * state if model.mixing == "product" else torch.cat([first, state], 1)
        return model.decoder(mixed, skips)

    t_first, t_other = model.motion(window(0))[0], model.motion(window(other))[0]
    state, errors = t_first, []
    for t in range(delay, x.shape[1]):
        errors.append((decoded(state) - x[:, t]).square().mean())
        for block in model.dynamics.fields:
            state = state + block(torch.zeros(()), state)
    found = {
        "prediction": torch.stack(errors).mean(),
        "alignment": (decoded(t_other) - x[:, other + delay]).square().mean(),
    }
    if model.content is not None:
        pairs = [(first, last), *(zip(skips, skips_last, strict=True) if model.skips else ())]
        apart = torch.cat([(a - b).flatten() for a, b in pairs])
        found["invariance"] = apart.square().mean()
        found["norm"] = 0.5 * t_first.square().sum() / len(x)
    return found


@pytest.mark.parametrize("other", [0, 2])
def test_the_loss_has_the_terms_of_the_paper(model, other, monkeypatch):
    x, (times, mask) = video(6).double(), every(6)
    monkeypatch.setattr(torch, "randint", lambda *_: torch.tensor(other))
    loss, terms = model.loss(x, times, mask, 2, 0.0)
    expected = by_hand(model, x, other)
    assert set(terms) == set(expected)
    total = sum(getattr(model, name) * value for name, value in expected.items())
    torch.testing.assert_close(terms, expected)
    torch.testing.assert_close(loss, total)


def test_windows_of_the_alignment_end_within_the_video(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "randint", lambda n, size: asked.append(n) or torch.tensor(n - 1))
    for state_at in ("first", "next"):
        separation(state_at=state_at).loss(video(6), *every(6), 2, 0.0)
    assert asked == [5, 4]


def test_gradients_reach_every_part(model):
    model.train()
    loss, _ = model.loss(video(6).double(), *every(6), 2, 0.0)
    loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.motion.parameters())
    assert all(p.grad is not None for p in model.parameters())


def test_the_prediction_goes_on_from_the_last_given_frames(model):
    x, k = video(5).double(), model.n_given
    times, targets = torch.arange(5.0).double(), torch.arange(3.0, 9).double()
    found = model.predict(x, times, targets)[0]
    shifted = model.predict(x[:, -k:], times[-k:], targets)[0]
    torch.testing.assert_close(found, shifted)
    slow = model.predict(x, 3 * times + 7, 3 * targets + 7)[0]  # a unit of time is arbitrary
    torch.testing.assert_close(slow, found)
    assert torch.equal(model.predict(x, times, targets, 3), found.expand(3, *found.shape))


def test_content_is_constant_and_states_move(model):
    if model.content is None:
        return
    x, other = video(4).double(), video(4).double()
    times = torch.arange(4.0).double()
    (states,) = model.states(x, times, times)
    found = model.with_content(x, times, times, 1, model.content_of(other))[0]
    torch.testing.assert_close(found, model.decode(states, model.content_of(other)))
    assert not torch.allclose(found, model.predict(x, times, times)[0])


def test_an_ode_goes_back_in_time_and_between_frames():
    """`dT/dt = A T`, whose states are `exp(A t) T₀`."""

    class Linear(nn.Module):
        def __init__(self, size, context_size):
            super().__init__()
            self.matrix = nn.Parameter(0.3 * torch.randn(size, size))

        def forward(self, t, z, context=None):
            return z @ self.matrix.T

    dynamics = partial(NeuralODE, field=Linear, solver=Solver("rk4", step_size=0.125))
    model = separation(dynamics=dynamics).double().eval()
    x, times = video(4).double(), torch.arange(4.0).double()
    targets = torch.tensor([-1.5, 0.0, 2.0, 2.25, 5.0]).double()
    (states,) = model.states(x, times, targets)
    start = model.motion(x[:, 2:].flatten(1, 2))[0]
    flows = torch.linalg.matrix_exp((targets - 2)[:, None, None] * model.dynamics.field.matrix)
    expected = torch.einsum("kij,bj->bki", flows, start)
    torch.testing.assert_close(states, expected, atol=1e-5, rtol=1e-4)


def test_blocks_follow_one_another_forward_and_backward():
    dynamics = ResidualBlocks(3, 0, FIELD, blocks=2).double()
    f, g = (partial(field, torch.zeros(())) for field in dynamics.fields)
    z = torch.randn(2, 3).double()
    half = z + f(z)
    one = half + g(half)
    states = dynamics(z, torch.tensor([0.0, 0.25, 0.5, 1, 1.5])).states
    expected = torch.stack([z, z + f(z) / 2, half, one, one + f(one)], 1)
    torch.testing.assert_close(states, expected)
    before = z - g(z)
    back = dynamics(z, torch.tensor([0.0, -0.5, -1])).states
    torch.testing.assert_close(back, torch.stack([z, before, before - f(before)], 1))


def points_model(**settings):
    decoder = partial(CoordinateDecoder, width=8)
    return spread(separation((DCGAN[0], decoder), **settings))


def test_points_on_the_grid_are_the_pixels():
    model, x, times = points_model(), video(4).double(), torch.arange(4.0).double()
    frames = model.predict(x, times, times)[0]
    pixels = torch.tensor([[0, 0], [3, 5], [15, 15]])
    found = model.predict_at(x, times, times, pixels)
    torch.testing.assert_close(found, frames[..., pixels[:, 0], pixels[:, 1]])
    between = model.predict_at(x, times, times, torch.tensor([[3.0, 5.0], [3.0, 5.001]]))
    torch.testing.assert_close(between[..., 0], between[..., 1], atol=1e-2, rtol=0)
    assert not torch.equal(between[..., 0], between[..., 1])


def test_random_points_estimate_the_loss_of_all_pixels():
    model, x = points_model(), video(5).double()
    whole = model.loss(x, *every(5), 2, 0.0)[1]["prediction"]
    model.points = 128
    some = [model.loss(x, *every(5), 2, 0.0)[1]["prediction"] for _ in range(40)]
    assert float(torch.stack(some).mean()) == pytest.approx(float(whole), rel=0.02)
    model.points = SHAPE[1] * SHAPE[2]
    torch.testing.assert_close(model.loss(x, *every(5), 2, 0.0)[1]["prediction"], whole)


def test_some_decoded_frames_estimate_the_loss_of_all():
    model, x = spread(separation()), video(6).double()
    whole = model.loss(x, *every(6), 2, 0.0)[1]["prediction"]
    model.decoded = 3
    some = [model.loss(x, *every(6), 2, 0.0)[1]["prediction"] for _ in range(60)]
    assert float(torch.stack(some).mean()) == pytest.approx(float(whole), rel=0.02)
    assert len({round(float(value), 6) for value in some}) > 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(content=None, skips=True), "skips without content"),
        (dict(mixing="product", content=partial(DCGAN[0], code_size=5)), "lengths 5 .* and 8"),
        (dict(points=10), "DCGANDecoder decodes whole frames"),
        (dict(n_given=0), "n_given 0"),
        (dict(decoded=0), "decoded 0"),
        (dict(norm=-1.0), "norm -1"),
        (dict(architecture=FLAT, skips=True), "no skip connections"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        separation(**settings)


def test_wrong_videos_are_refused():
    model, x, times = separation(), video(4), torch.arange(4.0)
    with pytest.raises(InputError, match="1 frames, but Separation encodes 2"):
        model.predict(x[:, :1], times[:1], times)
    with pytest.raises(InputError, match="training videos of 2 frames"):
        model.loss(x[:, :2], times[:2], torch.ones(3, 2).bool(), 2, 0.0)
    with pytest.raises(InputError, match="decodes whole frames only"):
        model.predict_at(x, times, times, torch.zeros(1, 2))
    with pytest.raises(InputError, match="2 contents for 3 videos"):
        model.with_content(x, times, times, 1, model.content_of(x[:2]))
    with pytest.raises(InputError, match="from -"):
        model.predict(torch.randn(3, 4, *SHAPE), times, times)


def test_fields_may_have_any_range():
    decoder = partial(MLPDecoder, width=6, output="identity")
    model = separation((FLAT[0], decoder), fields=True).eval()
    x, times = 30 * torch.randn(3, 4, *SHAPE), torch.arange(4.0)
    assert float(model.predict(x, times, times).detach().abs().max()) > 0
