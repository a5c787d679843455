"""Optical flow and frames at any times from two frames: laws of the estimation mode."""

import math

import pytest
import torch

from common.data.images.embedded import EmbeddedPhotos
from common.errors import InputError
from common.ode.solve import Solver
from video_ode.optical_flow.estimator import FlowEstimator
from video_ode.optical_flow.losses import LaplaceMixture, MotionLoss, RobustLoss
from video_ode.optical_flow.motion import Motion
from video_ode.optical_flow.network import MotionPyramid
from video_ode.optical_flow.warping import CoordinateWarping, RepeatedWarping

H, W = 20, 27  # no multiples of the pyramid's factors


class Translation(MotionPyramid):
    """Network that knows that everything moves by (2, 1) pixels, or back if the order is so."""

    confidence = 20.0

    def levels(self, pyramid):
        found = []
        for k, video in enumerate(pyramid):
            b, _, _, h, w = video.shape
            velocity = torch.tensor([2.0, 1.0])[:, None, None].expand(b, 3, 2, h, w) / 2**k
            velocity = torch.cat([velocity[: b // 2], -velocity[b // 2 :]])  # the way back
            sure = torch.full((b, 3, h, w), self.confidence)
            found.append(Motion(velocity, sure, self.times))
        return found


@pytest.fixture(scope="module")
def estimator():
    torch.manual_seed(0)
    made = FlowEstimator(MotionPyramid(width=4, radius=1))
    for parameter in made.network.decoder[-1].parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return made


def picture(shift=0.0, b=1):
    """Smooth picture that has moved by `shift` times (2, 1) pixels."""
    y, x = torch.meshgrid(torch.arange(float(H)), torch.arange(float(W)), indexing="ij")
    x, y = x - 2 * shift, y - shift
    channels = [torch.sin(0.3 * x + 0.2 * y), torch.cos(0.2 * x), torch.sin(0.25 * y)]
    return (0.5 + 0.4 * torch.stack(channels)).expand(b, -1, -1, -1)


def test_frames_between_and_beyond_move_along():
    estimator = FlowEstimator(Translation(width=4, radius=1))
    shares = torch.tensor([-0.5, 0.0, 0.25, 1.0, 1.5])
    found = estimator.between(picture(), picture(1.0), shares)[0]
    for frame, share in zip(found, shares, strict=True):
        inner = (..., slice(3, -3), slice(5, -5))
        torch.testing.assert_close(
            frame[inner], picture(float(share))[0][inner], atol=6e-3, rtol=0
        )
    torch.testing.assert_close(found[1], picture()[0])
    torch.testing.assert_close(found[3], picture(1.0)[0])


def test_an_unsure_network_gives_blends_without_motion():
    network = Translation(width=4, radius=1)
    network.confidence = -20.0
    shares = torch.tensor([-0.5, 0.25, 1.5])
    found = FlowEstimator(network).between(picture(), picture(1.0), shares)
    blend = 0.75 * picture() + 0.25 * picture(1.0)
    truth = torch.stack([picture(), blend, picture(1.0)], 1)
    torch.testing.assert_close(found, truth, atol=1e-5, rtol=0)


def test_flow_has_the_direction_of_the_motion():
    found = FlowEstimator(Translation(width=4, radius=1)).flows(picture(), picture(1.0))
    assert found.flow.unique().tolist() == [1.0, 2.0]
    torch.testing.assert_close(found.back, -found.flow)
    # The last row and the last two columns move outside.
    outside = torch.ones(1, H, W, dtype=torch.bool)
    outside[:, : H - 1, : W - 2] = False
    assert torch.equal(found.visible, ~outside)


@pytest.mark.parametrize("size", [(20, 27), (8, 8), (33, 70)])
def test_any_size(estimator, size):
    first, last = torch.rand(2, 2, 3, *size)
    with torch.no_grad():
        assert estimator.flows(first, last).flow.shape == (2, 2, *size)


def test_predictions_at_given_times_are_the_given_frames(estimator):
    video = torch.rand(2, 4, 3, H, W)
    times = torch.tensor([0.0, 1.0, 3.0, 4.0])
    found = estimator.predict(video, times, torch.arange(-0.5, 5.0, 0.5), n_samples=2)
    assert found.shape == (2, 2, 11, 3, H, W)
    assert torch.equal(found[0], found[1])
    torch.testing.assert_close(found[0][:, [1, 3, 7, 9]], video, atol=1e-5, rtol=0)


def test_unobserved_frames_are_not_used(estimator):
    video = torch.rand(2, 4, 3, H, W)
    mask = torch.tensor([[True, False, True, True], [True, True, False, True]])
    times = torch.arange(4.0)
    found = estimator.predict(video, times, times, mask=mask)
    other = video.clone()
    other[~mask] = torch.rand_like(other[~mask])
    assert torch.equal(found, estimator.predict(other, times, times, mask=mask))
    alone = estimator.predict(video[:1, [0, 2, 3]], times[[0, 2, 3]], times)
    torch.testing.assert_close(found[:, :1], alone)


def test_one_frame_is_refused(estimator):
    with pytest.raises(InputError, match="two or more"):
        estimator.predict(torch.rand(1, 1, 3, H, W), [0.0], [1.0])


def test_frames_of_different_sizes_are_refused(estimator):
    with pytest.raises(InputError, match="equal shape"):
        estimator.flows(torch.rand(1, 3, H, W), torch.rand(1, 3, H, W + 1))


def test_the_model_that_ships_finds_the_motion_of_photographs():
    photos = EmbeddedPhotos(size=64, crops_per_photo=8).images("test")
    with torch.no_grad():
        found = FlowEstimator.pretrained().flows(photos[:, :, :60, :60], photos[:, :, 2:62, 3:63])
    error = (found.flow - torch.tensor([-3.0, -2.0])[:, None, None]).norm(dim=1)[:, 4:-4, 4:-4]
    assert float(error.mean()) < 0.3 * math.hypot(3, 2)


def test_frames_of_other_channels_are_refused(estimator):
    with pytest.raises(InputError, match="channels"):
        estimator.flows(torch.rand(2, 1, 16, 16), torch.rand(2, 1, 16, 16))


def test_half_precision_gives_the_same_places(estimator):
    pair = torch.rand(2, 1, 3, 16, 300)
    exact = estimator.flows(*pair).flow
    with torch.autocast("cpu", torch.bfloat16):
        found = estimator.flows(*pair).flow
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, atol=0.1, rtol=0.1)


def test_a_network_of_other_times_is_refused():
    with pytest.raises(InputError, match="others: "):
        FlowEstimator(MotionPyramid(others=(-1.0,), width=4))


@pytest.mark.parametrize("photometric", [RobustLoss(), LaplaceMixture()])
@pytest.mark.parametrize(
    "warping", [CoordinateWarping(Solver("euler", step_size=0.5)), RepeatedWarping(2)]
)
def test_the_loss_reaches_all_weights(photometric, warping):
    torch.manual_seed(1)
    model = FlowEstimator(
        MotionPyramid(width=4, radius=1), warping, MotionLoss(photometric, check=0.5)
    )
    torch.nn.init.normal_(model.network.decoder[-1].weight, std=0.05)
    video = torch.stack([picture(s)[0] for s in (0.0, 0.3, 1.0)])[None]
    mask = torch.ones(1, 3, dtype=torch.bool)
    for progress in (0.0, 1.0):
        model.zero_grad()
        loss, terms = model.loss(video, [0.0, 0.3, 1.0], mask, 2, progress)
        assert float(loss) == pytest.approx(sum(map(float, terms.values())), abs=1e-5)
        loss.backward()
        for parameter in model.parameters():
            assert parameter.grad.isfinite().all()
            assert parameter.grad.abs().sum() > 0


def test_the_loss_is_least_for_the_true_motion():
    video = torch.stack([picture(s)[0] for s in (0.0, 0.5, 1.0)])[None]
    mask, times = torch.ones(1, 3, dtype=torch.bool), [0.0, 0.5, 1.0]
    still = MotionPyramid(width=4, radius=1)  # its first motion is none
    losses = [
        FlowEstimator(network, loss=MotionLoss(RobustLoss(), smooth=0.0)).loss(
            video, times, mask, 2, 1.0
        )[0]
        for network in (Translation(width=4, radius=1), still)
    ]
    assert float(losses[0]) < 0.2 * float(losses[1])
