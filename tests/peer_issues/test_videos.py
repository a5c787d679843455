"""What users of other libraries of video prediction asked for, served by our public interface.

Each test names the need and the issues where it was asked for.
"""

import numpy as np
import pytest
import torch

from common.data.videos.folder import VideoFolder
from common.errors import InputError
from common.metrics.frechet import FrechetDistance, frechet_distance
from common.metrics.video import I3DFeatures, RandomVideoFeatures
from tests.video_ode.models import latent_ode
from video_ode.evaluation.files.media import save_mp4


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return latent_ode().eval()


def given(n=2, frames=4):
    return torch.randint(256, (n, frames, 1, 16, 16), dtype=torch.uint8)


def test_prediction_without_targets(model):
    """OpenSTL #55 and #167: frames and two lists of times; no frame of the future is asked for."""
    future = model.predict(given(), times=[0, 1, 2, 3], target_times=[4, 5, 6], n_samples=3)
    assert future.shape == (3, 2, 3, 1, 16, 16)


@pytest.mark.parametrize("frames", [2, 7])
@pytest.mark.parametrize("asked", [1, 30])
def test_other_lengths_than_in_training(model, frames, asked):
    """OpenSTL #67, #80 and #170: any number of given and of predicted frames."""
    future = model.predict(given(1, frames), range(frames), range(frames, frames + asked))
    assert future.shape == (1, 1, asked, 1, 16, 16)


def test_own_videos(model, tmp_path):
    """OpenSTL #74: a folder of video files of another size, predicted at half a frame."""
    for name in ("train", "val", "test"):
        pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (9, 3, 24, 40)))
        save_mp4(pixels.byte(), tmp_path / name / "own.mp4", fps=25.0)
    data = VideoFolder(tmp_path, size=16, channels=1, n_frames=8, batch_size=1)
    data.prepare_data()
    data.setup("test")
    clip = next(iter(data.test_dataloader()))
    future = model.predict(clip.frames[:, :4], clip.times[..., :4], [3.5, 4, 4.5])
    assert future.shape == (1, 1, 3, 1, 16, 16)


def test_different_times_for_each_sample(model):
    """torchdiffeq #122 and #242, torchdyn #196: each video has times of its own, in one call.

    A batch gives what its videos give one by one.
    """
    video = given()
    times = torch.tensor([[0.0, 1, 2, 3], [0.0, 0.5, 2, 2.5]])
    asked = torch.tensor([[4.0, 5.0], [2.75, 6.0]])
    for order in ([0, 1], [1, 0]):
        found = []
        for chosen in (order, order[:1]):
            torch.manual_seed(0)
            found.append(model.predict(video[chosen], times[chosen], asked[chosen])[:, :1])
        torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)


def test_one_protocol_of_fvd(tmp_path):
    """mcvd #10, SyncVP #6, stylegan-v #37, digan #3: the same features give the same number.

    Only the features of the I3D network may be called `fvd`; the distance is one formula, here of
    two Gaussians in closed form; fewer frames than I3D takes are refused.
    """
    names = {I3DFeatures.name, RandomVideoFeatures.name}
    assert names == {"fvd", "random_feature_frechet_video"}
    assert FrechetDistance(RandomVideoFeatures()).name == "random_feature_frechet_video"
    rows = torch.randn(50, 4, dtype=torch.float64)
    moved = 3 + 2 * rows
    expected = (moved.mean(0) - rows.mean(0)).square().sum() + rows.var(0).sum()
    torch.testing.assert_close(frechet_distance(rows, moved), expected)
    with pytest.raises(InputError, match=r"i3d_torchscript\.pt"):
        I3DFeatures(tmp_path / "missing.pt")
