"""The protocol of generators: fresh batches, the Inception score, and what stands beside them."""

import csv
import math

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.loggers import CSVLogger
from scipy import linalg

from common.errors import InputError, RunError
from common.metrics.video import ClipClassifier
from tests.video_ode.fakes import FRAMES, DiscData
from video_ode.evaluation.generation import generated_features
from video_ode.evaluation.protocol import Evaluation
from video_ode.evaluation.validation import GenerationMetrics

COUNT = 12


class TwoBytes(ClipClassifier):
    """Means of the first and the last frame; the first one is the probability of one class."""

    name, score_name, num_features, n_classes = "two_bytes", "two_score", 2, 2

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def forward(self, video):
        self.seen.append(video)
        return video.double().mean((2, 3, 4))[:, [0, -1]]

    def probabilities(self, features):
        p = features[:, 0] / 255
        return torch.stack([p, 1 - p], 1)


class Grey(LightningModule):
    """Generates videos of one random grey level for each frame."""

    def generate(self, n, times):
        return torch.rand(n, len(times), 1, 1, 1).expand(-1, -1, 1, 32, 32)

    def test_step(self, clip, batch_idx):
        pass

    def validation_step(self, clip, batch_idx):
        pass


def evaluate(tmp_path, count=COUNT, **options):
    torch.manual_seed(0)
    features = TwoBytes()
    trainer = Trainer(
        accelerator="cpu", logger=CSVLogger(tmp_path), enable_progress_bar=False,
        enable_model_summary=False, callbacks=[Evaluation(features=features, **options)],
    )  # fmt: skip
    (logged,) = trainer.test(Grey(), datamodule=DiscData(count=count), verbose=False)
    with (tmp_path / "lightning_logs" / "version_0" / "test_table.csv").open() as file:
        rows = {row["row"]: row for row in csv.DictReader(file)}
    return logged, rows, features


def served(features, count=COUNT):
    """Real videos, the same ones shuffled, and generated ones, in the order of evaluation."""
    real, shuffled = (
        features.seen[: 2 * -(-count // 4) : 2],
        features.seen[1 : 2 * -(-count // 4) : 2],
    )
    return torch.cat(real), torch.cat(shuffled), torch.cat(features.seen[2 * -(-count // 4) :])


def frechet(a, b):
    s, t = np.cov(a.T), np.cov(b.T)
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s + t - 2 * linalg.sqrtm(s @ t).real)


def score(x):
    """exp(mean KL), one video after the other."""
    p = np.stack([x[:, 0] / 255, 1 - x[:, 0] / 255], 1)
    mean = p.mean(0)
    terms = [sum(q * math.log(q / m) for q, m in zip(row, mean, strict=True) if q) for row in p]
    return math.exp(np.mean(terms))


def numbers(video):
    return TwoBytes()(video).numpy()


def test_batches_are_fresh_and_their_mean_and_deviation_are_reported(tmp_path):
    logged, rows, features = evaluate(tmp_path, n_generated=30, repeats=5)
    real, _, generated = served(features)
    batches = numbers(generated).reshape(5, 30, 2)
    assert len(np.unique(batches[..., 0])) > 80
    distances = [frechet(numbers(real), batch) for batch in batches]
    scores = [score(batch) for batch in batches]
    for name, values in (("two_bytes", distances), ("two_score", scores)):
        assert logged[f"test/{name}"] == pytest.approx(np.mean(values), rel=1e-3)
        assert logged[f"test/{name}_std"] == pytest.approx(np.std(values, ddof=1), rel=1e-3)
        assert float(rows["model"][name]) == pytest.approx(np.mean(values), rel=1e-3)
    sizes = {key: rows["model"][key] for key in ("n_videos", "n_real", "n_batches")}
    assert sizes == {"n_videos": "30", "n_real": str(COUNT), "n_batches": "5"}


def test_half_of_the_real_videos_shows_the_bias_and_shuffled_frames_the_worst(tmp_path, capsys):
    logged, rows, features = evaluate(tmp_path)
    real, shuffled, generated = served(features)
    assert len(generated) == len(real) == COUNT
    half = frechet(numbers(real[::2]), numbers(real[1::2]))
    assert logged["test/two_bytes_half"] == pytest.approx(half, rel=1e-3)
    other = frechet(numbers(real), numbers(shuffled))
    assert logged["test/two_bytes_shuffled"] == pytest.approx(other, rel=1e-3)
    assert float(rows["real videos"]["two_score"]) == pytest.approx(score(numbers(real)), rel=1e-3)
    assert rows["real videos, other half"]["n_videos"] == str(COUNT // 2)
    assert "test/two_bytes_std" not in logged
    out = capsys.readouterr().out
    assert f"{COUNT} real videos, n = {COUNT} generated ones" in out
    assert f"{COUNT // 2} real videos have {half:.4g} to {COUNT // 2} other ones" in out
    assert "LPIPS" not in out


def test_shuffling_keeps_the_frames_of_each_video_and_changes_their_order(tmp_path):
    real, shuffled, _ = served(evaluate(tmp_path)[2])
    assert not torch.equal(real, shuffled)
    ordered = [x.flatten(2).long().sum(2).sort(1).values for x in (real, shuffled)]
    torch.testing.assert_close(*ordered)
    _, again, _ = served(evaluate(tmp_path / "again")[2])
    assert torch.equal(again, shuffled)


def test_processes_with_the_same_random_state_share_the_work(monkeypatch):
    parts = {}
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(
        torch.distributed,
        "all_gather_object",
        lambda into, mine: into.__setitem__(slice(None), [parts.setdefault(rank, mine), mine]),
    )
    for rank in (0, 1):
        torch.manual_seed(0)
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        times = torch.arange(8.0).expand(3, -1)
        found = generated_features(TwoBytes(), Grey().generate, times, n=9, batch_size=4)
        assert found.shape == (9, 2)
    assert len(parts[0]) == len(parts[1]) == 5
    assert not set(parts[0][:, 0].tolist()) & set(parts[1][:, 0].tolist())


def test_the_seed_fixes_the_generated_videos(tmp_path):
    one, two = (evaluate(tmp_path / name, n_generated=9)[0] for name in "ab")
    assert one == two


def test_a_single_real_video_has_no_distance(tmp_path):
    logged, rows, _ = evaluate(tmp_path, count=1, n_generated=3)
    assert "test/two_bytes" not in logged
    assert math.isfinite(logged["test/two_score"])
    assert rows["real videos, other half"]["n_videos"] == "0"


def test_a_diverged_generator_is_not_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(Grey, "generate", lambda self, n, t: torch.full((n, 8, 1, 9, 9), math.nan))
    with pytest.raises(RunError, match="NaN or infinite"):
        evaluate(tmp_path)


@pytest.mark.parametrize("wrong", [{"n_generated": 1}, {"repeats": 0}])
def test_sizes_of_the_protocol_are_checked(wrong):
    with pytest.raises(InputError, match=f"got {next(iter(wrong))}"):
        Evaluation(**wrong)


def test_videos_have_the_length_of_the_real_ones(tmp_path):
    _, rows, features = evaluate(tmp_path)
    assert all(video.shape[1:] == (FRAMES, 1, 32, 32) for video in features.seen)
    assert rows["model"]["n_total"] == str(FRAMES)


def test_validation_logs_the_distance_of_the_same_noise_each_time():
    features = TwoBytes()
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[GenerationMetrics(features, n_generated=30, seed=3)],
    )  # fmt: skip
    (one,), (two,) = (
        trainer.validate(Grey(), datamodule=DiscData(count=COUNT), verbose=False) for _ in range(2)
    )
    assert one == two
    half = len(features.seen) // 2
    real, found = (
        torch.cat(features.seen[: COUNT // 4]),
        torch.cat(features.seen[COUNT // 4 : half]),
    )
    assert len(found) == 30
    distance = frechet(numbers(real), numbers(found))
    assert one["val/two_bytes"] == pytest.approx(distance, rel=1e-3)
    assert one["val/two_score"] == pytest.approx(score(numbers(found)), rel=1e-3)
