"""Laws of every video predictor: wrong requests are refused, scores are parts of the loss."""

from functools import partial

import pytest
import torch

from common.errors import InputError, RunError
from common.ode.sde import EulerMaruyama
from common.ode.solve import Solver
from tests.laws import PREDICTORS
from tests.video_ode.models import every, latent_ode, srvp, svg, video
from video_ode.dynamics.ode import NeuralODE
from video_ode.dynamics.residual import ResidualEuler
from video_ode.dynamics.sde import NeuralSDE
from video_ode.predictor import Scoring, to_unit
from video_ode.times import shared_times

TIMES = torch.arange(5.0)
WRONG = {
    "no frame": (dict(video=torch.rand(3, 0, 1, 16, 16), times=TIMES[:0]), "at least one frame"),
    "unsorted": (dict(times=TIMES.flip(0)), "ascending"),
    "twice": (dict(times=torch.tensor([0.0, 1, 1, 2, 3])), "ascending"),
    "not finite": (dict(times=torch.tensor([0.0, 1, 2, 3, float("nan")])), "finite"),
    "too many times": (dict(times=torch.arange(6.0)), "6 times for 5 frames"),
    "times of others": (dict(times=TIMES.repeat(2, 1)), "for 3 videos"),
    "times in words": (dict(times=["now"] * 5), "got times that are no numbers"),
    "mask": (dict(mask=torch.ones(3, 4).bool()), r"mask of shape \(3, 4\)"),
    "mask of numbers": (dict(mask=torch.ones(3, 5)), "give booleans"),
    "nothing observed": (dict(mask=torch.zeros(3, 5).bool()), "one observed frame of each video"),
}
WRONG_TARGETS = {
    "unsorted targets": (dict(target_times=TIMES.flip(0)), "got target_times"),
    "no target": (dict(target_times=TIMES[:0]), "got target_times"),
    "infinite target": (dict(target_times=torch.tensor([0.0, float("inf")])), "got target_times"),
    "no sample": (dict(n_samples=0), "n_samples 0"),
}


@pytest.fixture(params=PREDICTORS)
def model(request):
    return PREDICTORS[request.param]().eval()


def request_of(**changed):
    """Arguments of `predict`."""
    usual = dict(video=video(5), times=TIMES, target_times=TIMES, n_samples=1, mask=None)
    return {**usual, **changed}


@pytest.mark.parametrize("case", [*WRONG, *WRONG_TARGETS])
def test_wrong_requests_are_refused(model, case):
    changed, message = {**WRONG, **WRONG_TARGETS}[case]
    with pytest.raises(InputError, match=message):
        model.predict(**request_of(**changed))


@pytest.mark.parametrize("entry", ["loss", "scores"])
@pytest.mark.parametrize("case", WRONG)
def test_wrong_videos_are_refused_by_losses_and_scores(model, entry, case):
    changed, message = WRONG[case]
    if entry == "scores" and not isinstance(model, Scoring):
        return  # a model without a likelihood
    asked = request_of(**{"mask": torch.ones(3, 5).bool(), **changed})
    arguments = [asked["video"], asked["times"], asked["mask"], 3]
    if entry == "loss":
        arguments.append(0.0)
    with pytest.raises(InputError, match=message):
        getattr(model, entry)(*arguments)


def test_times_that_all_videos_share_may_be_given_for_each(model):
    one = request_of()
    each = {**one, "times": TIMES.repeat(3, 1), "target_times": TIMES.repeat(3, 1)}
    found = []
    for asked in (one, each):
        torch.manual_seed(0)
        with torch.no_grad():
            found.append(model.predict(**asked))
    torch.testing.assert_close(found[0], found[1])


def test_times_of_each_video_are_used_or_refused(model):
    times = torch.tensor([[0.0, 1, 2, 3, 4], [0.0, 0.5, 1, 1.5, 2], [0.0, 1, 3, 4, 7]])
    asked = request_of(times=times, target_times=times)
    if not isinstance(model, type(latent_ode())):
        with pytest.raises(InputError, match="the same times for all videos"):
            model.predict(**asked)
        return
    with torch.no_grad():
        torch.manual_seed(0)
        found = model.predict(**asked)[0]
        for i in range(3):  # alone, with the noise that it had
            noise = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
            alone = model.encode(asked["video"][i : i + 1], times[i])
            z0 = alone.loc + alone.scale * noise[i]
            states = model._path(z0, times[i, :1], times[i])
            torch.testing.assert_close(found[i], model.decode(states)[0], atol=1e-4, rtol=1e-4)


def test_a_latent_ode_trains_on_times_of_each_video():
    model = latent_ode(growth=0.0, consistency=0.5)
    times = torch.tensor([[0.0, 1, 2, 3, 4, 5], [0.0, 0.5, 1, 1.5, 2, 3], [0.0, 1, 3, 4, 7, 8]])
    loss, _ = model.loss(video(6), times, torch.ones(3, 6).bool(), 6, 1.0)
    loss.backward()
    assert all(p.grad is not None for p in model.dynamics.parameters())


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: latent_ode(scale=0.3), {"nll": "nll", "kl": "kl"}),
        (lambda: srvp(skips=False), {"nll": "nll"}),
        (svg, {"mse": "mse", "kl": "kl"}),
    ],
)
def test_scores_are_the_parts_of_the_loss(make, parts, monkeypatch):
    model = make().eval()
    assert isinstance(model, Scoring)
    from torch.distributions import Normal

    for name in ("sample", "rsample"):
        monkeypatch.setattr(Normal, name, lambda self, shape=(): self.loc)
    x, (times, mask) = video(5), every(5)
    if hasattr(model, "content_of"):  # whose content is of random frames in training
        monkeypatch.setattr(model, "_random_content", lambda *_: model.content_of(x))
    scores = model.scores(x, times, mask, 5)
    _, terms = model.loss(x, times, mask, 5, 1.0)
    for name, term in parts.items():
        assert scores[name].shape == (3,)
        torch.testing.assert_close(scores[name].mean(), terms[term].detach(), rtol=1e-4, atol=1e-4)
    if "kl_y" in terms:
        total = (terms["kl_y"] + terms["kl_z"]).detach()
        torch.testing.assert_close(scores["kl"].mean(), total, rtol=1e-4, atol=1e-4)


class Growth(torch.nn.Module):
    """Field `dz/dt = 50 z`, whose states leave the range of single precision."""

    def __init__(self, size, context_size):
        super().__init__()
        self.moved = torch.nn.Linear(size, size)  # a weight, as every field has one

    def forward(self, t, z, context=None):
        return 50 * z


UNSTABLE = {
    "srvp without z": lambda: srvp(dynamics=partial(ResidualEuler, field=Growth), z_size=0),
    "srvp, ode": lambda: srvp(
        dynamics=partial(NeuralODE, field=Growth, solver=Solver("dopri5")), z_size=0
    ),
    "sde": lambda: latent_ode(
        dynamics=partial(NeuralSDE, drift=Growth, diffusion=Growth, solver=EulerMaruyama(1.0))
    ),
    "fixed grid": lambda: latent_ode(
        dynamics=partial(NeuralODE, field=Growth, solver=Solver("euler", step_size=1.0))
    ),
}


@pytest.mark.parametrize("name", UNSTABLE)
def test_predictions_that_blow_up_say_so(name):
    model, x = UNSTABLE[name]().eval(), video(5)
    with torch.no_grad(), pytest.raises(RunError, match="dynamics are unstable") as failed:
        model.predict(x, TIMES, torch.tensor([1.0, 2000.0]))
    assert "learning rate" not in str(failed.value)
    assert bool(model.predict(x, TIMES, torch.tensor([1.0])).isfinite().all())


def test_broken_weights_are_named_in_a_prediction(model):
    with torch.no_grad():
        next(model.decoder.parameters()).fill_(torch.nan)
    with torch.no_grad(), pytest.raises(RunError, match=r"weights of .* are NaN"):
        model.predict(video(5), TIMES, TIMES + 1)


def test_fields_that_are_no_pictures_stay_as_they_are():
    field = torch.randn(2, 3, 1, 4, 4)
    assert to_unit(field) is field
    assert to_unit(torch.full((1,), 255, dtype=torch.uint8)).item() == 1


def test_shared_times_are_one_row_of_equal_ones():
    assert shared_times(TIMES.repeat(3, 1), "it").tolist() == TIMES.tolist()
