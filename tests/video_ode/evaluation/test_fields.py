"""Fields, which are no pictures: neither clamped nor rounded, scored in their own unit."""

import csv
import itertools
from functools import partial

import numpy as np
import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import CSVLogger
from skimage.metrics import structural_similarity

from common.data.videos.base import Clips, FieldScale, VideoData
from common.data.videos.moving_mnist import MovingDigits
from common.errors import InputError
from common.metrics.frames import MSE
from tests.video_ode import models
from video_ode.evaluation.protocol import Evaluation
from video_ode.evaluation.samples import scenes
from video_ode.module import VideoPredictionModule
from video_ode.predictor import VideoPredictor, to_pixels

SIDE, FRAMES, GIVEN, COUNT = 16, 7, 2, 5
NOISE = torch.Generator().manual_seed(0)
TRUTH = 30 * torch.randn(COUNT, FRAMES, 2, SIDE, SIDE, generator=NOISE) - 10
LAND = torch.zeros(SIDE, SIDE).bool()
LAND[:4] = True


class Heat(Clips):
    """Two quantities on a map with land, served in values from -100 to 100; a unit is 0.5 °C."""

    def __init__(self, truth):
        self.truth = truth

    def __len__(self):
        return COUNT

    def times(self, indices):
        return torch.arange(float(FRAMES))

    def frames(self, indices):
        return self.truth[indices]

    def scale(self, indices):
        n = len(indices)
        sea = (~LAND).float() * (LAND.numel() / (~LAND).sum()) ** 0.5
        return FieldScale(
            torch.full((n,), -100.0), torch.full((n,), 100.0), 0.5 * sea.expand(n, 1, 1, -1, -1)
        )


class HeatData(VideoData):
    def __init__(self, truth=TRUTH):
        super().__init__(FRAMES, batch_size=2)
        self.truth, self.shape = truth, tuple(truth.shape[2:])

    def clips(self, split):
        return Heat(self.truth)


class Off(VideoPredictor):
    """Is wrong by numbers that were drawn before."""

    fields = True

    def __init__(self, error, truth=TRUTH):
        super().__init__()
        self.error, self.truth, self.asked = error, truth, 0

    def predict(self, video, times, target_times, n_samples=1, mask=None):
        now = slice(self.asked, self.asked + len(video))
        self.asked = now.stop
        return (self.truth + self.error)[None, now]


def evaluated(tmp_path, module, data, **settings):
    evaluation = Evaluation(metrics=[MSE()], **settings)
    trainer = Trainer(accelerator="cpu", logger=CSVLogger(tmp_path), callbacks=[evaluation],
                      enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    (logged,) = trainer.test(module, datamodule=data, verbose=False)
    with (tmp_path / "lightning_logs/version_0/test_table.csv").open() as file:
        return logged, {row["row"]: row for row in csv.DictReader(file)}


def test_errors_are_in_the_fields_own_unit_and_without_land(tmp_path):
    error = 3 * torch.randn(TRUTH.shape, generator=NOISE)
    module = VideoPredictionModule(Off(error), GIVEN)
    logged, _ = evaluated(tmp_path, module, HeatData(), horizons=[1, 3])
    squares = (0.5 * error[..., ~LAND]).double().numpy() ** 2  # [b t c cells]
    for name, frames in {
        "mse": slice(2, None),
        "mse_1": slice(2, 3),
        "mse_3": slice(2, 5),
    }.items():
        assert logged[f"test/{name}"] == pytest.approx(squares[:, frames].mean(), rel=1e-5)
    unit, found = ((x.numpy() + 100) / 200 for x in (TRUTH, TRUTH + error))
    options = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True)
    expected = [
        structural_similarity(unit[b, t, c], found[b, t, c], data_range=1, **options)[1]
        for b, t, c in itertools.product(range(COUNT), range(GIVEN, FRAMES), range(2))
    ]
    inside = np.stack(expected)[:, 5:-5, 5:-5]  # the window lies within the frame
    assert logged["test/ssim"] == pytest.approx(inside.mean(), rel=1e-4)


def test_pictures_show_fields_from_black_to_white():
    data = HeatData()
    data.setup("test")
    clip = next(iter(data.test_dataloader()))
    scene = scenes(clip, GIVEN, clip.times, clip.frames[None])[0]
    expected = to_pixels(((TRUTH[0] + 100) / 200).mean(1, keepdim=True))
    assert torch.equal(scene.samples[0].frames, expected)
    assert torch.equal(scene.truth.frames, expected)


def test_a_line_of_points_has_no_ssim_but_all_else(tmp_path):
    truth = TRUTH[:, :, :1, :1]
    module = VideoPredictionModule(Off(torch.ones(()), truth), GIVEN)
    data = HeatData(truth)
    data.clips = lambda split: Lines(truth)
    logged, _ = evaluated(tmp_path, module, data)
    assert "test/ssim" not in logged
    assert logged["test/mse"] == pytest.approx(1)


class Lines(Heat):
    def scale(self, indices):
        return None


def test_horizons_beyond_the_prediction_are_refused(tmp_path):
    module = VideoPredictionModule(Off(torch.zeros(())), GIVEN)
    with pytest.raises(InputError, match=r"horizons \[6\], but 5 frames are predicted"):
        evaluated(tmp_path, module, HeatData(), horizons=[6])
    with pytest.raises(InputError, match="horizons"):
        Evaluation(horizons=[0])


def swap_data():
    return MovingDigits(
        n_digits=2, canvas=16, digit=8, n_frames=6, n_train=8, n_val=4, n_test=4, batch_size=4
    )


def test_swapped_truths_have_the_motion_of_one_video_and_the_digits_of_another():
    data = swap_data()
    data.setup("test")
    clip = next(iter(data.test_dataloader()))
    same = data.swapped(clip, clip.number)
    assert same.shape == (2, *clip.frames.shape)
    assert torch.equal(same[0], clip.frames)
    assert not torch.equal(same[1], clip.frames)
    other = data.swapped(clip, clip.number.roll(1))
    assert float(other[0, 0, 0].sum()) > 0
    here = data.simulator("test")
    true = here.trajectories(clip.number, clip.times)
    digits = here.trajectories(clip.number.roll(1), clip.times).digits
    assert torch.equal(other[1], here.drawn(digits.flip(1), true.corners, 16))


def test_the_best_order_of_the_digits_counts(tmp_path):
    data = swap_data()

    class Swapper(VideoPredictionModule):
        def swap(self, clip, content):
            return data.swapped(clip, content.number)[1:] / 255  # the second order

    module = Swapper(Still(), GIVEN)
    _, table = evaluated(tmp_path, module, data, swap=True)
    assert float(table["model, content swap"]["mse"]) == 0
    assert float(table["model, content swap"]["ssim"]) == pytest.approx(1)
    assert float(table["model"]["mse"]) > 0


class Still(VideoPredictor):
    def predict(self, video, times, target_times, n_samples=1, mask=None):
        return video[:, -1:].expand(-1, len(target_times), -1, -1, -1)[None]


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (models.separation, partial(HeatData, TRUTH[:, :, :1]), "can't swap contents"),
        (models.latent_ode, swap_data, "doesn't separate content and motion"),
    ],
)
def test_swaps_that_are_impossible_are_refused(tmp_path, model, data, message):
    model = model()
    model.shape, model.fields = None, True
    with pytest.raises(InputError, match=message):
        evaluated(tmp_path, VideoPredictionModule(model, GIVEN), data(), swap=True)
