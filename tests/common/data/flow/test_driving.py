"""Optical flow of driving scenes."""

import numpy as np
import pytest
import torch

from common.data.driving.scene import DrivingScene
from common.data.flow.base import FlowClip
from common.data.flow.driving import DrivingFlow
from common.data.videos.base import Clip
from common.errors import InputError


def test_batches_are_the_pictures_and_the_flow_of_the_scenes():
    data = DrivingFlow(size=(48, 64), span=1.5, n_frames=4)
    videos = data.clips("val")
    batch = data.dataset("val").__getitems__([3, 1])
    assert isinstance(batch, FlowClip)
    assert torch.equal(batch.clip.times, torch.tensor([0.0, 0.5, 1.0, 1.5]))
    assert batch.clip.number.tolist() == [3, 1]
    for k, number in enumerate((3, 1)):
        scene, start = DrivingScene(number, 1, (48, 64)), videos.start(number)
        for frame, time in zip(batch.clip.frames[k], (0, 0.5, 1, 1.5), strict=True):
            np.testing.assert_array_equal(frame, scene.at(start + time).image)
        true = scene.flow(start, start + 1.5)
        for found, array in zip(batch[1:], true, strict=True):
            np.testing.assert_array_equal(found[k], array)
    assert (batch.visible & ~batch.valid).sum() == 0
    assert batch.flow.norm(dim=1).mean() > 0.5


def test_training_frames_can_be_smaller():
    data = DrivingFlow(size=(24, 32), train_size=(16, 20))
    sizes = [data.clips(split).frames([0]).shape[-2:] for split in ("train", "val", "test")]
    assert sizes == [(16, 20), (24, 32), (24, 32)]


def test_start_times_are_spread_and_differ_between_the_splits():
    data = DrivingFlow(size=(16, 16))
    starts = {
        split: [data.clips(split).start(k) for k in range(200)] for split in ("train", "val")
    }
    assert not set(starts["train"]) & set(starts["val"])
    for times in starts.values():
        counts = np.histogram(times, 4, (0, 20))[0]
        assert counts.sum() == 200
        assert counts.min() > 30


def test_batches_can_be_selected_and_moved():
    batch = DrivingFlow(size=(16, 24)).dataset("test").__getitems__([0, 1, 2])
    for chosen in ([2, 0], torch.tensor([2, 0]), slice(1, 3)):
        part = batch.select(chosen).to("cpu")
        assert torch.equal(part.clip.frames, batch.clip.select(chosen).frames)
        index = chosen if isinstance(chosen, slice) else torch.as_tensor(chosen)
        assert all(torch.equal(a, b[index]) for a, b in zip(part[1:], batch[1:], strict=True))


def test_clips_come_without_flow_for_models_that_know_none():
    batch, plain = (
        DrivingFlow(size=(16, 24), flow=flow).dataset("test").__getitems__([0, 1])
        for flow in (True, False)
    )
    assert isinstance(plain, Clip)
    assert torch.equal(plain.frames, batch.clip.frames)


def test_points_behind_the_camera_have_no_flow():
    data = DrivingFlow(size=(32, 32), span=60.0, n_frames=2)
    batch = data.dataset("test").__getitems__(list(range(6)))
    assert (~batch.valid).any()
    assert not batch.flow.movedim(1, -1)[~batch.valid].any()


@pytest.mark.parametrize(
    "wrong", [{"span": 0.0}, {"size": (8, 64)}, {"n_frames": 1}, {"n_val": 0}]
)
def test_wrong_numbers_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        DrivingFlow(**wrong)
