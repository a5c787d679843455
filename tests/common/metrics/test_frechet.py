import sys

import numpy as np
import pytest
import torch
from scipy import linalg

from common.errors import InputError
from common.metrics.features import FeatureExtractor
from common.metrics.frechet import FrechetDistance, InceptionFeatures, RandomFeatures


class MeanPixel(FeatureExtractor):
    name, num_features = "mean_pixel", 1

    def forward(self, images):
        return images.double().mean((1, 2, 3))[:, None]


def images(count, seed, channels=3, top=256):
    noise = torch.Generator().manual_seed(seed)
    return torch.randint(0, top, (count, channels, 12, 12), generator=noise, dtype=torch.uint8)


def distance(features, real, fake, batch=50):
    metric = FrechetDistance(features)
    for part in real.split(batch):
        metric.update(part, real=True)
    for part in fake.split(batch):
        metric.update(part, real=False)
    return metric.compute()


def closed_form(features, real, fake):
    a, b = (features(x).double().numpy() for x in (real, fake))
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s + t - 2 * linalg.sqrtm(s @ t).real)


@pytest.mark.parametrize("channels", [1, 3])
def test_distance_is_the_closed_form(channels):
    real, fake = images(300, 0, channels), images(260, 1, channels, top=200)
    measured = distance(RandomFeatures(), real, fake)
    assert measured == pytest.approx(closed_form(RandomFeatures(), real, fake), rel=1e-4)


def test_distance_of_one_feature_is_that_of_two_normals():
    real, fake = images(40, 0), images(30, 1, top=100)
    (m, s), (n, t) = ((x.mean(), x.std()) for x in map(MeanPixel(), (real, fake)))
    torch.testing.assert_close(distance(MeanPixel(), real, fake), (m - n) ** 2 + (s - t) ** 2)


def test_distance_of_images_to_themselves_is_zero():
    real = images(200, 0)
    assert distance(RandomFeatures(), real, real.flip(0)) == pytest.approx(0, abs=1e-3)


def test_reset_can_keep_the_real_images():
    real, fake = images(100, 0), images(100, 1, top=200)
    metric = FrechetDistance(RandomFeatures(), reset_real_features=False)
    metric.update(real, real=True)
    metric.update(images(100, 2, top=50), real=False)
    metric.reset()
    metric.update(fake, real=False)
    torch.testing.assert_close(metric.compute(), distance(RandomFeatures(), real, fake))


def test_random_features_are_those_of_their_seed_and_touch_no_state():
    x = images(5, 0)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = RandomFeatures(7)(x)
    assert torch.get_rng_state().equal(before)
    assert RandomFeatures(7)(x).equal(first)
    assert first.shape == (5, RandomFeatures.num_features)
    assert not RandomFeatures(8)(x).allclose(first)


def test_random_features_are_never_called_fid():
    assert FrechetDistance(RandomFeatures()).name == "random_feature_frechet"


def test_grey_images_count_as_colour_images_without_colour():
    grey = images(5, 0, channels=1)
    torch.testing.assert_close(RandomFeatures()(grey), RandomFeatures()(grey.repeat(1, 3, 1, 1)))


def test_the_extractor_stays_in_evaluation_mode_and_is_not_trained():
    class Normed(MeanPixel):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(1)

    metric = FrechetDistance(Normed())
    metric.train()
    assert not metric.inception.norm.training
    assert not any(p.requires_grad for p in metric.parameters())


def test_other_channels_are_refused():
    with pytest.raises(InputError, match="2 channels"):
        RandomFeatures()(images(2, 0, channels=2))


def test_a_single_image_is_refused():
    with pytest.raises(InputError, match="got 2 real and 1 generated examples"):
        distance(RandomFeatures(), images(2, 0), images(1, 1))


# The standard Inception features -------------------------------------------------------------


def test_weights_that_are_missing_are_asked_for(tmp_path):
    with pytest.raises(InputError, match=r"no file .*none\.pth.*InceptionV3 weights"):
        InceptionFeatures(tmp_path / "none.pth")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 a torn archive"])
def test_files_that_are_no_weights_are_refused(content, tmp_path):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"w\.pth can't be read"):
        InceptionFeatures(tmp_path / "w.pth")


class MakesFolder:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return __import__("os").mkdir, (str(self.path),)


def test_weights_that_call_something_are_refused_before_it_runs(tmp_path):
    torch.save({"w": MakesFolder(tmp_path / "ran")}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"it holds posix\.mkdir"):
        InceptionFeatures(tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


def test_without_torch_fidelity_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    monkeypatch.delitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", raising=False)
    torch.save({}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"pip install -e '\.\[fid\]'"):
        InceptionFeatures(tmp_path / "w.pth")


@pytest.fixture(scope="module")
def random_inception(tmp_path_factory):
    """A weights file of the right shapes, made of an untrained network."""
    pytest.importorskip("torch_fidelity")
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Untrained(FeatureExtractorInceptionV3):
        def load_state_dict(self, state):
            pass

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("inception") / "random.pth"
    torch.save({}, path)
    torch.save(Untrained("x", ["2048"], str(path)).state_dict(), path)
    return path, FeatureExtractorInceptionV3("x", ["2048"], str(path))


def test_inception_features_are_those_of_torch_fidelity(random_inception):
    path, theirs = random_inception
    x = images(2, 0)
    features = InceptionFeatures(path)(x)
    assert features.shape == (2, 2048)
    torch.testing.assert_close(features, theirs(x)[0])


def test_inception_takes_grey_images(random_inception):
    path, theirs = random_inception
    x = images(2, 0, channels=1)
    torch.testing.assert_close(InceptionFeatures(path)(x), theirs(x.repeat(1, 3, 1, 1))[0])


def test_inception_distance_is_called_fid(random_inception):
    metric = FrechetDistance(InceptionFeatures(random_inception[0]))
    assert metric.name == "fid"
    metric.update(images(2, 0), real=True)
    metric.update(images(2, 1), real=False)
    assert metric.compute().isfinite()


def test_weights_of_another_network_are_refused(tmp_path):
    pytest.importorskip("torch_fidelity")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="aren't torch-fidelity's InceptionV3"):
        InceptionFeatures(tmp_path / "w.pth")
