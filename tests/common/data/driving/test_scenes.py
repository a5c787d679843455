"""Videos of driving scenes, and the tracks of their objects."""

import torch

from common.data.driving.scene import OBJECT_CLASSES
from common.data.driving.scenes import DrivingScenes
from common.data.driving.tracks import TrackedClip

SETTINGS = {"size": (48, 64), "n_frames": 4, "n_test": 4, "batch_size": 2}


def test_tracks_are_those_of_the_scenes():
    data = DrivingScenes(**SETTINGS, frame_step=0.5)
    data.setup("test")
    clip = next(iter(data.test_dataloader()))
    tracks = data.trajectories("test", clip.number)
    assert tracks.boxes.shape == (*tracks.classes.shape, 4)
    assert tracks.classes.shape[:2] == (2, 4)
    for video, number in enumerate(clip.number.tolist()):
        scene = data.scene("test", number)
        for frame, time in enumerate(clip.times.tolist()):
            picture = scene.at(time)
            assert torch.equal(clip.frames[video, frame], torch.from_numpy(picture.image))
            n = len(picture.objects.ids)
            for name in ("boxes", "classes", "ids"):
                found = getattr(tracks, name)[video, frame]
                true = torch.from_numpy(getattr(picture.objects, name))
                assert torch.equal(found[:n], true)
                assert (found[n:] == (0 if name == "boxes" else -1)).all()
            ignored = tracks.ignored[video, frame]
            assert ignored.tolist() == [
                *(picture.objects.visible < 0.25),
                *[False] * (len(ignored) - n),
            ]
    assert tracks.classes.max() < len(OBJECT_CLASSES)
    assert (tracks.ids >= 0).any()


def test_night_scenes_are_dark():
    day, night = (DrivingScenes(**SETTINGS, lighting=light) for light in ("day", "night"))
    numbers, times = torch.arange(2), torch.arange(2.0)
    frames = [data.videos("train", numbers, times).float().mean() for data in (day, night)]
    assert frames[1] < 0.7 * frames[0]


def test_batches_carry_the_tracks_of_their_videos():
    data = DrivingScenes(**SETTINGS, tracks=True)
    data.setup("test")
    batch = next(iter(data.test_dataloader()))
    assert isinstance(batch, TrackedClip)
    found = data.trajectories("test", batch.clip.number)
    for own, true in zip(batch.tracks, found, strict=True):
        assert torch.equal(own, true)
    one = batch.select([1]).to("cpu")
    assert torch.equal(one.clip.frames, batch.clip.frames[1:])
    assert torch.equal(one.tracks.boxes, batch.tracks.boxes[1:])
