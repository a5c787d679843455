import pytest
import torch
from torch.distributions import Normal, kl_divergence

from common.errors import InputError
from tests.video_ode.models import DCGAN, SHAPE, every, video
from video_ode.svg.model import SVG


@pytest.fixture
def model(monkeypatch):
    for name in ("sample", "rsample"):
        monkeypatch.setattr(Normal, name, lambda self, shape=(): self.loc)
    return SVG(SHAPE, *DCGAN, z_size=3, hidden=8, beta=0.1).eval()


def test_loss_is_that_of_stepping_frame_by_frame(model, double):
    model, x = model.double(), video(6)
    loss, terms = model.loss(x, *every(6), 3, 0.0)
    error, divergence, states = 0.0, 0.0, [None, None, None]
    maps = []
    for t in range(1, 6):
        before, features = model.encoder(x[:, t - 1])
        maps.append(features)
        q, states[0] = model.posterior(model.encoder(x[:, t])[0][:, None], states[0])
        p, states[1] = model.prior(before[:, None], states[1])
        g, states[2] = model._predicted(before[:, None], q.loc, states[2])
        frame = model.decoder(g[:, 0], maps[min(t - 1, 2)])
        error = error + (frame - x[:, t]).square().mean() / 5
        divergence = divergence + kl_divergence(q, p).sum() / 3 / 5
    torch.testing.assert_close(terms["mse"], error)
    torch.testing.assert_close(terms["kl"], divergence)
    torch.testing.assert_close(loss, error + 0.1 * divergence)


def test_it_feeds_on_its_own_predictions(model):
    x, times = video(3), torch.arange(9.0)
    frames = model.predict(x, times[:3], times, 2)
    assert frames.shape == (2, 3, 9, *SHAPE)
    torch.testing.assert_close(frames[0, :, 0], x[:, 0])
    torch.testing.assert_close(model.predict(x, times[:3], times[[2, 7]])[0], frames[0][:, [2, 7]])


@pytest.mark.parametrize("targets", [[0.5], [-1.0, 2.0]])
def test_it_knows_whole_frames_only(model, targets):
    with pytest.raises(InputError, match=r"whole frames only|runs forward only"):
        model.predict(video(3), torch.arange(3.0), torch.tensor(targets))
