import csv
import math

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.loggers import CSVLogger

from common.data.videos.base import Clip
from common.errors import InputError
from common.metrics.frames import BEST_PSNR, LPIPS, FrameMetric, psnr, ssim
from common.metrics.video import ClipFeatures
from tests.video_ode.fakes import FRAMES, DiscData, Discs, Guess, truth
from video_ode.evaluation.baselines import last_seen, still_videos
from video_ode.evaluation.protocol import Evaluation
from video_ode.evaluation.scores import best_of, gathered
from video_ode.module import VideoPredictionModule
from video_ode.predictor import VideoPredictor, to_unit

GIVEN = 3


class Fixed(VideoPredictor):
    """Answers with what it was built with, whatever was given."""

    def __init__(self, samples):
        super().__init__()
        self.samples, self.asked = samples, 0

    def predict(self, video, times, target_times, n_samples=1, mask=None):
        start, self.asked = self.asked, self.asked + len(video)
        return self.samples[:n_samples, start : self.asked]


def true_videos(count=6):
    return to_unit(Discs(count).frames(list(range(count))))


def noisy(n_samples, count=6, noise=0.2):
    video = true_videos(count)
    scale = noise * torch.rand(n_samples, count, FRAMES, 1, 1, 1)
    return video + scale * torch.randn(n_samples, *video.shape)


def evaluate(tmp_path, samples, data=None, evaluation=None):
    module = VideoPredictionModule(Fixed(samples), GIVEN, n_samples=len(samples))
    evaluation = evaluation or Evaluation()
    trainer = Trainer(
        accelerator="cpu",
        logger=CSVLogger(tmp_path),
        callbacks=[evaluation],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    (logged,) = trainer.test(module, datamodule=data or DiscData(), verbose=False)
    return logged, tmp_path / "lightning_logs" / "version_0"


def records(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def interval(values):
    values = np.asarray(values)
    return values.mean(), 1.96 * values.std(ddof=1) / math.sqrt(len(values))


def test_best_of_n_and_intervals_are_those_of_numpy(tmp_path):
    samples = noisy(4)
    logged, folder = evaluate(tmp_path, samples)
    table = {row["row"]: row for row in records(folder / "test_table.csv")}
    for name, metric in (("psnr", psnr), ("ssim", ssim)):
        scores = metric(samples.clamp(0, 1), true_videos()).numpy()  # [s b t]
        for suffix, part in (("_given", slice(GIVEN)), ("", slice(GIVEN, None))):
            of_samples = scores[:, :, part].mean(2)
            for row, values in (
                ("model", of_samples.max(0)),
                ("average of samples", of_samples.mean(0)),
            ):
                mean, half = interval(values)
                assert float(table[row][f"{name}{suffix}"]) == pytest.approx(mean, rel=1e-5)
                assert float(table[row][f"{name}{suffix}_ci"]) == pytest.approx(half, rel=1e-4)
            assert logged[f"test/{name}{suffix}"] == pytest.approx(
                of_samples.max(0).mean(), rel=1e-5
            )


def test_order_of_samples_does_not_matter(tmp_path):
    samples = noisy(4)
    one, _ = evaluate(tmp_path / "a", samples)
    other, _ = evaluate(tmp_path / "b", samples[[2, 0, 3, 1]])
    for key in ("test/psnr", "test/ssim", "test/psnr_given", "test/ssim_given"):
        assert one[key] == pytest.approx(other[key])


def test_best_is_chosen_for_each_metric_and_each_part_apart():
    scores = torch.tensor(
        [[[9.0, 9, 1, 1]], [[1.0, 1, 5, 5]], [[2.0, 2, 8, 1]]]  # three samples of one video
    )
    torch.testing.assert_close(best_of(scores, 2), torch.tensor([[9.0, 9, 5, 5]]))
    torch.testing.assert_close(best_of(scores, 2, lower=True), torch.tensor([[1.0, 1, 1, 1]]))


def test_metrics_may_prefer_different_samples(tmp_path):
    video = true_videos()
    shifted = (video + 0.1).clamp(0, 1)  # higher structure, worse error
    grainy = video + 0.06 * torch.randn(video.shape)
    samples = torch.stack([shifted, grainy])
    logged, _ = evaluate(tmp_path, samples)
    later = slice(GIVEN, None)
    alone = [
        (metric(x.clamp(0, 1), video)[:, later]).mean().item()
        for metric in (psnr, ssim)
        for x in (shifted, grainy)
    ]
    assert alone[0] < alone[1]
    assert alone[2] > alone[3]
    assert logged["test/psnr"] == pytest.approx(alone[1], rel=1e-5)
    assert logged["test/ssim"] == pytest.approx(alone[2], rel=1e-5)


def test_perfect_predictor_scores_the_best_there_is(tmp_path):
    logged, _ = evaluate(tmp_path, true_videos()[None])
    assert logged["test/psnr"] == pytest.approx(BEST_PSNR)
    assert logged["test/ssim"] == pytest.approx(1)
    assert logged["test/random_feature_frechet_video"] == pytest.approx(0, abs=1e-4)
    assert logged["test/psnr_margin"] > 20


def test_predictions_outside_the_range_are_clamped(tmp_path):
    beyond = true_videos()
    beyond = torch.where(beyond > 0.5, beyond + 5, beyond)
    logged, _ = evaluate(tmp_path, beyond[None])
    expected = psnr(beyond.clamp(0, 1), true_videos())[:, GIVEN:].mean()
    assert logged["test/psnr"] == pytest.approx(expected.item(), rel=1e-5)


def test_a_diverged_model_is_not_flattered(tmp_path):
    samples = noisy(1)
    samples[0, 2, 5] = math.nan
    logged, _ = evaluate(tmp_path, samples)
    assert math.isnan(logged["test/psnr"])


def test_baselines_are_those_of_numpy_and_margins_are_over_them(tmp_path):
    data = DiscData(observed=0.5)
    logged, folder = evaluate(tmp_path, noisy(2), data)
    video, mask = (
        true_videos().numpy(),
        data.observation.mask(list(range(6)), FRAMES, seed=2).numpy(),
    )
    scores = {"copy of last given": [], "mean of given": []}
    for frames, seen in zip(video, mask, strict=True):
        places = np.flatnonzero(seen[:GIVEN])
        still = {"copy of last given": frames[places[-1]], "mean of given": frames[places].mean(0)}
        for row, frame in still.items():
            error = ((frames - frame) ** 2).mean((1, 2, 3))
            curve = -10 * np.log10(np.maximum(error, 255**-2))
            given = [t for t in range(GIVEN) if row == "mean of given" or t != places[-1]]
            scores[row].append((curve[given].mean(), curve[GIVEN:].mean()))
    table = {row["row"]: row for row in records(folder / "test_table.csv")}
    for row, values in scores.items():
        for column, name in enumerate(("psnr_given", "psnr")):
            mean, half = interval([value[column] for value in values])
            assert float(table[row][name]) == pytest.approx(mean, rel=1e-4)
            assert float(table[row][f"{name}_ci"]) == pytest.approx(half, rel=1e-3)
    for column, suffix in enumerate(("_given", "")):
        better = max(np.mean([v[column] for v in values]) for values in scores.values())
        margin = logged[f"test/psnr{suffix}"] - better
        assert logged[f"test/psnr_margin{suffix}"] == pytest.approx(margin, rel=1e-3)


def test_baselines_of_the_data_are_evaluated_on_the_predicted_frames(tmp_path):
    _, folder = evaluate(tmp_path, noisy(1))
    row = {row["row"]: row for row in records(folder / "test_table.csv")}["an oracle"]
    assert float(row["psnr"]) == pytest.approx(BEST_PSNR)
    assert row["psnr_given"] == "nan"


def test_curves_hold_every_frame_of_every_row(tmp_path):
    samples = noisy(3)
    _, folder = evaluate(tmp_path, samples)
    found = records(folder / "test_curves.csv")
    rows = {"model", "average of samples", "copy of last given", "mean of given", "an oracle"}
    assert {(r["metric"], r["row"], float(r["time"])) for r in found} == {
        (metric, row, float(t))
        for metric in ("psnr", "ssim")
        for row in rows
        for t in range(FRAMES)
    }
    average = [r for r in found if (r["metric"], r["row"]) == ("ssim", "average of samples")]
    scores = ssim(samples.clamp(0, 1), true_videos()).mean(0).numpy()  # [b t]
    for t, record in enumerate(average):
        mean, half = interval(scores[:, t])
        assert float(record["mean"]) == pytest.approx(mean, rel=1e-5)
        assert float(record["ci"]) == pytest.approx(half, rel=1e-3)
    assert (folder / "test_curves.png").stat().st_size > 5000


def test_table_says_its_protocol_and_what_is_missing(tmp_path, capsys):
    _, folder = evaluate(tmp_path, noisy(5), DiscData(observed=0.5))
    out = capsys.readouterr().out
    assert "DiscData (sliding): (n_cond, n_total, n_samples) = (3, 8, 5), 6 videos, " in out
    assert "of the conditioning frames observed" in out
    assert "model (best of 5)" in out
    assert "alexnet-owt-7be5be79.pth" in out
    assert "i3d_torchscript.pt" in out
    for kind in ("table.csv", "curves.csv", "curves.png"):
        assert str(folder / f"test_{kind}") in out


def test_a_single_sample_is_called_neither_best_nor_average(tmp_path, capsys):
    _, folder = evaluate(tmp_path, noisy(1))
    assert "best of" not in capsys.readouterr().out
    assert "average of samples" not in {r["row"] for r in records(folder / "test_table.csv")}


class MeanByte(ClipFeatures):
    name, num_features = "mean_byte", 2

    def forward(self, video):
        return video.double().mean((2, 3, 4))[:, [0, -1]]


def test_distance_is_of_given_and_predicted_frames_of_one_sample(tmp_path):
    samples = noisy(3)
    logged, folder = evaluate(tmp_path, samples, evaluation=Evaluation(features=MeanByte()))
    real = (true_videos() * 255).round().numpy()
    fake = (samples[0].clamp(0, 1) * 255).round().numpy()
    fake[:, :GIVEN] = real[:, :GIVEN]
    a, b = (x.mean((2, 3, 4))[:, [0, -1]] for x in (real, fake))
    from scipy import linalg

    s, t = np.cov(a.T), np.cov(b.T)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum()
    expected += np.trace(s + t - 2 * linalg.sqrtm(s @ t).real)
    assert logged["test/mean_byte"] == pytest.approx(expected, rel=1e-3)
    table = records(folder / "test_table.csv")
    assert "mean_byte" in table[0]
    assert float(table[0]["mean_byte"]) == pytest.approx(expected, rel=1e-3)


def test_videos_evaluated_twice_count_once():
    def part(*numbers):
        value = torch.tensor(numbers)
        return {("number",): value, ("curve", "model", "psnr"): value[:, None] * 1.0}

    found = gathered([part(0, 2), part(4, 1), part(3, 0)])
    assert found["number",].tolist() == [0, 1, 2, 3, 4]
    assert found["curve", "model", "psnr"].flatten().tolist() == [0, 1, 2, 3, 4]


def test_last_seen_frame_and_mean_of_the_seen():
    mask = torch.tensor([[True, True, False], [True, False, False], [True, False, True]])
    assert last_seen(mask).tolist() == [1, 0, 2]
    video = torch.arange(3.0)[None, :, None, None, None].expand(3, 3, 1, 2, 2)
    still = still_videos(video, mask)
    assert [x[2, 0, 0, 0].item() for x in still["copy of last given"]] == [1, 0, 2]
    assert [x[2, 0, 0, 0].item() for x in still["mean of given"]] == [0.5, 0, 1]


def test_one_given_frame_leaves_no_margin_of_the_given(tmp_path):
    module = VideoPredictionModule(Fixed(noisy(1)), 1)
    trainer = Trainer(
        accelerator="cpu", logger=CSVLogger(tmp_path), callbacks=[Evaluation()],
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    (logged,) = trainer.test(module, datamodule=DiscData(), verbose=False)
    assert "test/psnr_margin_given" not in logged
    assert "test/psnr_margin" in logged


def test_a_single_video_has_no_interval_and_no_distance(tmp_path):
    logged, folder = evaluate(tmp_path, noisy(2, count=1), DiscData(count=1))
    assert "test/random_feature_frechet_video" not in logged
    assert math.isfinite(logged["test/psnr"])
    assert records(folder / "test_table.csv")[0]["psnr_ci"] == "nan"


def test_missing_alexnet_is_named(tmp_path):
    with pytest.raises(InputError, match=r"found no file .*w\.pth; LPIPS needs AlexNet"):
        Evaluation([LPIPS(tmp_path / "w.pth")])


def test_model_sees_neither_masked_nor_later_frames():
    """What the fakes rely on: a predictor gets the given part of the clip alone."""
    data = DiscData()
    data.setup("test")
    clip = next(iter(data.test_dataloader()))
    assert isinstance(clip, Clip)
    predictor = Guess(noise=0.0)
    video = VideoPredictionModule(predictor, GIVEN).predict(clip, clip.times, 2)
    assert video.shape == (2, 4, FRAMES, 1, 32, 32)
    torch.testing.assert_close(video[0, 0, 0], truth(0, torch.zeros(1))[0], atol=2e-3, rtol=0)


class Brightness(FrameMetric):
    """Difference of the mean grey levels, as a user would add it."""

    name, label, better, digits = "brightness", "difference of brightness", "lower", ".3f"

    def forward(self, prediction, truth):
        return (prediction.mean((-3, -2, -1)) - truth.mean((-3, -2, -1))).abs()


def test_a_metric_of_ones_own_is_scored_shown_and_logged(tmp_path, capsys):
    samples = noisy(4)
    logged, folder = evaluate(tmp_path, samples, evaluation=Evaluation([Brightness()]))
    scores = Brightness()(samples.clamp(0, 1), true_videos())[:, :, GIVEN:].mean(2)
    assert logged["test/brightness"] == pytest.approx(scores.min(0).values.mean().item(), rel=1e-5)
    assert "brightness predicted" in capsys.readouterr().out
    table = {row["row"]: row for row in records(folder / "test_table.csv")}
    assert "brightness_given" in table["mean of given"]


def test_metrics_of_one_name_are_refused():
    with pytest.raises(InputError, match="give each name once"):
        Evaluation([Brightness(), Brightness()])


def test_a_model_without_given_frames_has_no_baselines_and_no_columns_of_them(tmp_path, capsys):
    module = VideoPredictionModule(Fixed(noisy(3)), 0, n_samples=3)
    trainer = Trainer(
        accelerator="cpu", logger=CSVLogger(tmp_path), callbacks=[Evaluation()],
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    (logged,) = trainer.test(module, datamodule=DiscData(), verbose=False)
    assert not any("given" in name or "margin" in name for name in logged)
    assert "(n_cond, n_total, n_samples) = (0, 8, 3)" in capsys.readouterr().out
    table = records(tmp_path / "lightning_logs" / "version_0" / "test_table.csv")
    assert [row["row"] for row in table] == ["model", "average of samples", "an oracle"]


class OwnDiscs(Discs):
    """Videos that were taken at times of their own."""

    def frames(self, indices):
        return Discs(self.count).frames(indices)

    def times(self, indices):
        return torch.stack([torch.arange(float(FRAMES)) * (1 + i / 10) for i in indices])


class OwnTimes(DiscData):
    def clips(self, split):
        return OwnDiscs(self.count)


def test_videos_with_times_of_their_own_are_evaluated(tmp_path):
    logged, folder = evaluate(tmp_path, true_videos()[None], OwnTimes())
    assert logged["test/psnr"] == pytest.approx(BEST_PSNR)
    times = {float(row["time"]) for row in records(folder / "test_curves.csv")}
    assert sorted(times) == pytest.approx([1.25 * t for t in range(FRAMES)])  # their mean


def test_what_is_no_video_model_is_refused(tmp_path):
    class Other(LightningModule):
        def test_step(self, batch, batch_idx):
            return None

    trainer = Trainer(
        accelerator="cpu", logger=False, callbacks=[Evaluation()], enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    with pytest.raises(InputError, match="Other neither predicts nor generates videos"):
        trainer.test(Other(), datamodule=DiscData(), verbose=False)
