"""The C3D features and the Inception score of videos, against oracles written by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy
from torch.nn import functional

from common.errors import InputError
from common.metrics.c3d import C3DFeatures
from common.metrics.video import inception_score
from tests.common.cubic import cubic

CHANNELS = (3, 64, 128, 256, 256, 512, 512, 512, 512)
CONVOLUTIONS = ("conv1a", "conv2a", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b")


@pytest.fixture(scope="module")
def arrays():
    """Random weights with the names and shapes of the published file."""
    noise = np.random.default_rng(0)

    def he(*shape):
        scale = math.sqrt(2 / math.prod(shape[1:]))
        return scale * noise.standard_normal(shape, dtype=np.float32)

    found = {}
    for name, a, b in zip(CONVOLUTIONS, CHANNELS[:-1], CHANNELS[1:], strict=True):
        found[f"{name}/W"] = he(b, a, 3, 3, 3)
    # Of the two large matrices, columns that are equal but for a factor are enough.
    found["fc6/W"] = he(4096, 1) * he(1, 8192)
    found["fc7/W"] = he(4096, 1) * he(1, 4096)
    found["fc8/W"] = 0.05 * he(101, 4096)
    for name in (*CONVOLUTIONS, "fc6", "fc7", "fc8"):
        found[f"{name}/b"] = 0.1 * he(len(found[f"{name}/W"]))
    return found


@pytest.fixture(scope="module")
def mean():
    return 90 + 20 * np.random.default_rng(1).random((3, 1, 16, 128, 171))  # the published shape


@pytest.fixture(scope="module")
def files(arrays, mean, tmp_path_factory):
    folder = tmp_path_factory.mktemp("c3d")
    np.savez(folder / "conv3d_deepnetA_ucf.npz", **arrays)
    np.savez(folder / "mean2.npz", mean=mean)
    yield folder
    (folder / "conv3d_deepnetA_ucf.npz").unlink()  # 300 MB


@pytest.fixture(scope="module")
def features(files):
    return C3DFeatures(files / "conv3d_deepnetA_ucf.npz")


def clips(count, side=(64, 64), channels=3, length=16):
    noise = torch.Generator().manual_seed(0)
    size = (count, length, channels, *side)
    return torch.randint(0, 256, size, generator=noise, dtype=torch.uint8)


@pytest.mark.parametrize("side", [(64, 64), (192, 192), (30, 40)])
def test_videos_are_prepared_as_in_the_evaluation_of_tgan(features, mean, side):
    video = clips(1, side)
    down, across = cubic(side[0], 128), cubic(side[1], 128)
    scaled = (down @ video.numpy().astype(float) @ across.T).swapaxes(1, 2)
    expected = scaled[:, ::-1] - mean[:, 0, :, :, 21 : 21 + 128]
    expected = expected[:, :, :, 8 : 8 + 112, 8 : 8 + 112]
    found = features.prepared(video).double().numpy()
    np.testing.assert_allclose(found, expected, atol=2e-3)


def pooled(x, time):
    """Maxima over windows of 2 (in time: of `time`), the last of which may be cut off."""
    for axis, width in ((2, time), (3, 2), (4, 2)):
        starts = np.arange(0, x.shape[axis], width)
        x = np.maximum.reduceat(x, starts, axis=axis)
    return x


def test_features_and_probabilities_are_those_of_the_network(features, arrays):
    video = clips(1)
    found = features(video)
    x = features.prepared(video)
    for k, name in enumerate(CONVOLUTIONS):
        weight, bias = (torch.from_numpy(arrays[f"{name}/{kind}"]) for kind in "Wb")
        x = functional.conv3d(x, weight, bias, padding=1).clamp(min=0)
        if k in (0, 1, 3, 5, 7):
            x = torch.from_numpy(pooled(x.numpy(), 1 if k == 0 else 2))
    assert x.shape == (1, 512, 1, 4, 4)
    y = x.flatten(1).double().numpy()
    for name in ("fc6", "fc7"):
        y = np.maximum(y @ arrays[f"{name}/W"].T + arrays[f"{name}/b"], 0)
    np.testing.assert_allclose(found.numpy(), y, rtol=1e-3, atol=1e-3 * y.max())
    assert found.shape == (1, features.num_features)
    assert (y > 0).any()
    logits = found.double().numpy() @ arrays["fc8/W"].T + arrays["fc8/b"]
    chances = features.probabilities(found)
    np.testing.assert_allclose(chances.numpy(), softmax(logits, 1), rtol=1e-2, atol=1e-4)


def test_c3d_repeats_grey_and_has_a_name_of_its_own(features):
    grey = clips(1, channels=1)
    repeated = grey.expand(-1, -1, 3, -1, -1)
    torch.testing.assert_close(features.prepared(grey), features.prepared(repeated))
    assert (features.name, features.score_name) == ("c3d_frechet_video", "c3d_inception_score")
    assert not features.train().training
    assert not any(p.requires_grad for p in features.parameters())


def test_videos_of_another_length_are_refused(features):
    with pytest.raises(InputError, match="got videos of 15 frames; C3D needs 16"):
        features(clips(1, length=15))


def test_wrong_files_are_named(files, arrays, tmp_path):
    with pytest.raises(InputError, match=r"found no file .*a\.npz; .*conv3d_deepnetA_ucf\.npz"):
        C3DFeatures(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(b"<html>")
    with pytest.raises(InputError, match=r"b\.npz can't be read"):
        C3DFeatures(tmp_path / "b.npz", files / "mean2.npz")
    with pytest.raises(InputError, match=r"mean2\.npz can't be read .*conv1a/W"):
        C3DFeatures(files / "mean2.npz")
    np.savez(tmp_path / "c.npz", mean=np.zeros((3, 16, 112, 112)))
    with pytest.raises(InputError, match=r"c\.npz has mean of float64 \(3, 16, 112, 112\)"):
        C3DFeatures(files / "conv3d_deepnetA_ucf.npz", tmp_path / "c.npz")
    objects = np.empty(1, object)
    np.savez(tmp_path / "d.npz", mean=objects, allow_pickle=True)
    with pytest.raises(InputError, match=r"d\.npz can't be read"):
        C3DFeatures(files / "conv3d_deepnetA_ucf.npz", tmp_path / "d.npz")


# Inception score ----------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [1, 2, 10, 101])
def test_score_of_certain_and_even_classes_is_their_number(classes):
    p = torch.eye(classes).repeat(7, 1)
    assert inception_score(p).item() == pytest.approx(classes, rel=1e-4)


def test_score_of_equal_probabilities_is_one():
    p = torch.tensor([0.5, 0.3, 0.2]).expand(20, -1)
    assert inception_score(p).item() == pytest.approx(1)


def test_score_is_the_exponential_of_the_mutual_information():
    """Of two classes with probabilities a and 1 - a, exchanged in half of the videos."""
    a = 0.9
    p = torch.tensor([[a, 1 - a], [1 - a, a]], dtype=torch.float64).repeat(5, 1)
    assert inception_score(p).item() == pytest.approx(2 * math.exp(-entropy([a, 1 - a])), rel=1e-6)


@pytest.mark.parametrize(("count", "limit"), [(64, 44), (256, 81), (2048, 98)])
def test_few_perfect_videos_do_not_reach_the_limit(count, limit):
    """Of certain classes the score is the exponential of the entropy of their shares."""
    noise = np.random.default_rng(0)
    labels = [noise.integers(101, size=count) for _ in range(20)]
    scores = [inception_score(torch.eye(101)[torch.from_numpy(x)]).item() for x in labels]
    expected = [math.exp(entropy(np.bincount(x))) for x in labels]
    assert scores == pytest.approx(expected, rel=1e-4)
    assert np.mean(scores) == pytest.approx(limit, rel=0.01)


def test_a_score_needs_a_video():
    with pytest.raises(InputError, match="got no video"):
        inception_score(torch.zeros(0, 3))
