"""The classifier of moving digits: what it knows, and what its distance tells apart."""

import pytest
import torch
from torch.nn import functional

from common.data.videos.moving_mnist import MovingDigits
from common.metrics.digits import WEIGHTS, DigitFeatures
from common.metrics.frechet import frechet_distance
from common.metrics.video import inception_score
from video_ode.evaluation.train_digits import MOTIONS, labelled_videos, train

COUNT = 250


@pytest.fixture(scope="module")
def features():
    return DigitFeatures()


def held_out(split="test", motion=0, n_frames=12):
    return labelled_videos(split, torch.arange(COUNT), n_frames, motion)


def shuffled(video):
    order = torch.rand(video.shape[:2], generator=torch.Generator().manual_seed(0)).argsort(1)
    return video[torch.arange(len(video))[:, None], order]


def distances(features, real, others):
    own = features(real)
    return [frechet_distance(own, features(other)).item() for other in others]


@pytest.mark.parametrize("motion", range(len(MOTIONS)))
def test_held_out_videos_are_classified(features, motion):
    video, classes = held_out(motion=motion)
    found = features.probabilities(features(video)).argmax(1)
    assert (found == classes).float().mean() > 0.8
    assert (found // 4 == classes // 4).float().mean() > 0.9


def test_labels_are_those_of_digit_and_way():
    """Against the pictures: the centre of the ink moves as the label says."""
    video, classes = held_out(motion=2)  # whole pixels
    ink, places = video[:, :, 0].double(), torch.arange(32.0, dtype=torch.float64)
    for axis, bit in ((3, 2), (2, 1)):  # down, right
        profile = ink.sum(axis)
        centre = (profile * places).sum(2) / profile.sum(2)
        ahead = centre[:, -1] - centre[:, 0] > 0.5
        assert torch.equal(ahead, classes // bit % 2 == 1)


def test_distance_is_small_of_real_videos_and_large_of_wrong_ones(features):
    real, other = held_out()[0], held_out("val")[0]
    noise = torch.randint(0, 256, real.shape, generator=torch.Generator().manual_seed(1)).byte()
    still = real[:, :1].expand_as(real)
    blurred = functional.avg_pool2d(real[:, :, 0].float(), 5, 1, 2)[:, :, None].byte()
    own, *wrong, static = distances(features, real, [other, shuffled(real), still, blurred, noise])
    assert min(*wrong, static) > 5 * own
    assert static > 100 * max(wrong)


def test_score_falls_when_frames_are_shuffled_and_when_digits_are_noise(features):
    real = held_out()[0]
    noise = torch.randint(0, 256, real.shape, generator=torch.Generator().manual_seed(1)).byte()
    good, worse, worst = (
        inception_score(features.probabilities(features(x))).item()
        for x in (real, shuffled(real), noise)
    )
    assert 40 > good > 1.5 * worse > worst >= 1


def test_large_colour_videos_are_seen_as_small_grey_ones(features):
    large = MovingDigits(n_digits=1, canvas=64, digit=28, speed=4.0)
    video = large.videos("test", torch.arange(20), torch.arange(8.0))
    small = functional.avg_pool2d(video[:, :, 0].float(), 2).round()[:, :, None].byte()
    found = features(video.expand(-1, -1, 3, -1, -1))
    torch.testing.assert_close(found, features(small), rtol=0.1, atol=0.05)


def test_weights_are_small_and_the_network_never_trains(features):
    assert WEIGHTS.stat().st_size < 300_000
    assert (features.name, features.score_name) == ("digit_frechet_video", "digit_inception_score")
    assert features(held_out()[0][:2]).shape == (2, features.num_features)
    assert not features.train().network.training
    assert not any(p.requires_grad for p in features.parameters())


def test_the_weights_can_be_made_again(tmp_path, capsys, monkeypatch):
    train(steps=4, batch_size=4, out=str(tmp_path / "w.pt"))
    assert "w.pt" in capsys.readouterr().out
    monkeypatch.setattr("common.metrics.digits.WEIGHTS", tmp_path / "w.pt")
    untrained = DigitFeatures()
    video, classes = held_out()
    found = untrained.probabilities(untrained(video)).argmax(1)
    assert (found == classes).float().mean() < 0.3
