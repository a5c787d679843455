"""Frames after the given ones by the warping ODE: laws of the prediction mode."""

import pytest
import torch
from pytorch_lightning import Trainer

from common.errors import InputError
from tests.video_ode.fakes import DiscData
from video_ode.evaluation.protocol import Evaluation
from video_ode.module import VideoPredictionModule
from video_ode.optical_flow.estimator import FlowEstimator
from video_ode.optical_flow.losses import MotionLoss
from video_ode.optical_flow.motion import Motion
from video_ode.optical_flow.network import MotionPyramid
from video_ode.optical_flow.predictor import WarpingPredictor

H, W = 16, 20
TIMES = (-1.0, 0.0, 1.0, 2.0)


class Falling(MotionPyramid):
    """Network that knows that everything moves by (1.5, 0.5) pixels, and ever faster downward."""

    def levels(self, pyramid):
        b, _, _, h, w = pyramid[0].shape
        velocity = torch.tensor([[1.5, 0.5 + t] for t in TIMES])
        velocity = velocity[None, :, :, None, None].expand(b, -1, -1, h, w)
        return [Motion(velocity, torch.zeros(b, len(TIMES), h, w), self.times)]


def network(kind=MotionPyramid, others=(-1.0,)):
    torch.manual_seed(0)
    made = kind(others, TIMES, width=4, radius=1)
    torch.nn.init.normal_(made.decoder[-1].weight, std=0.05)
    return made


def picture(x, y):
    """Smooth picture that has moved by (x, y) pixels."""
    rows, columns = torch.meshgrid(torch.arange(float(H)), torch.arange(float(W)), indexing="ij")
    columns, rows = columns - x, rows - y
    parts = [
        torch.sin(0.3 * columns + 0.2 * rows),
        torch.cos(0.2 * columns),
        torch.sin(0.2 * rows),
    ]
    return 0.5 + 0.4 * torch.stack(parts)


def test_motion_goes_on_with_its_acceleration():
    # Places of a fall, with the last given frame at time 0 in pixel (0, 0).
    def place(t):
        return 1.5 * t, 0.5 * t + 0.5 * t * t

    video = torch.stack([picture(*place(t)) for t in (-2.0, -1.0, 0.0)])[None]
    targets = [2.0, 2.25, 3.0, 4.0]
    found = WarpingPredictor(network(Falling)).predict(video, [0.0, 1.0, 2.0], targets)[0, 0]
    for frame, time in zip(found, targets, strict=True):
        true = picture(*place(time - 2))
        inner = (..., slice(5, None), slice(5, None))
        torch.testing.assert_close(frame[inner], true[inner], atol=0.01, rtol=0)


def test_given_frames_are_reproduced_and_later_ones_see_the_last_ones_alone():
    model = WarpingPredictor(network(others=(-1.0, -2.0)))
    video = torch.rand(2, 5, 3, H, W)
    times = torch.arange(5.0)
    found = model.predict(video, times, torch.arange(0.0, 8.0, 0.5), n_samples=2)
    assert found.shape == (2, 2, 16, 3, H, W)
    torch.testing.assert_close(found[0][:, [4, 6, 8]], video[:, 2:], atol=1e-5, rtol=0)
    other = torch.cat([torch.rand(2, 2, 3, H, W), video[:, 2:]], 1)
    again = model.predict(other, times, torch.arange(4.0, 8.0, 0.5))
    torch.testing.assert_close(found[:1, :, 8:], again)


@pytest.mark.parametrize("others", [(-1.0,), (-1.0, -2.0)])
def test_the_loss_reaches_all_weights(others):
    model = WarpingPredictor(network(others=others), loss=MotionLoss(levels=2))
    video = torch.rand(2, 6, 3, H, W)
    mask = torch.ones(2, 6, dtype=torch.bool)
    loss, _ = model.loss(video, torch.arange(6.0), mask, 4, 0.0)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_one_frame_is_refused():
    with pytest.raises(InputError, match="2 or more"):
        WarpingPredictor(network()).predict(torch.rand(1, 1, 3, H, W), [0.0], [1.0])


def test_a_network_of_later_frames_is_refused():
    with pytest.raises(InputError, match="prediction needs"):
        WarpingPredictor(network(others=(1.0,)))


@pytest.mark.parametrize("kind", ["estimation", "prediction"])
def test_both_modes_enter_the_general_system_of_video_prediction(kind, tmp_path):
    """Evaluation and tables work unchanged; in the estimation mode, half the frames are seen."""
    if kind == "estimation":
        predictor, data = FlowEstimator(MotionPyramid(channels=1, width=4, radius=1)), 8
        videos = DiscData(count=2, observed=0.5)
    else:
        predictor = WarpingPredictor(MotionPyramid((-1.0,), TIMES, channels=1, width=4, radius=1))
        videos, data = DiscData(count=2), 4
    evaluation = Evaluation()
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        default_root_dir=tmp_path, callbacks=[evaluation],
    )  # fmt: skip
    trainer.test(VideoPredictionModule(predictor, min(data, 7)), datamodule=videos, verbose=False)
    # The network moves nothing yet, so that the prediction of later frames is the still copy.
    if kind == "prediction":
        assert trainer.callback_metrics["test/psnr_margin"] < 0.1
    assert trainer.callback_metrics["test/psnr"] > 10
