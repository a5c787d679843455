"""Videos of driving scenes, and the tracks of their objects."""

import torch

from common.data.driving.scene import OBJECT_CLASSES, DrivingScene
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


def test_labels_are_the_classes_of_the_pixels_of_the_scenes():
    data = DrivingScenes(**SETTINGS, labels=True, frame_step=0.5)
    data.setup("test")
    batch = next(iter(data.test_dataloader()))
    assert batch.labels.shape == (2, 4, 48, 64)
    assert batch.labels.dtype == torch.uint8
    for video, number in enumerate(batch.clip.number.tolist()):
        scene = data.scene("test", number)
        for frame, time in enumerate(batch.clip.times.tolist()):
            true = torch.from_numpy(scene.at(time).labels)
            assert torch.equal(batch.labels[video, frame], true)
    assert torch.equal(batch.select([1]).to("cpu").labels, batch.labels[1:])
    assert (batch.tracks.ids >= 0).any()  # the labels come beside the tracks
    assert DrivingScenes(**SETTINGS, tracks=True).dataset("test")[0].labels is None


def test_a_picture_with_labels_is_rendered_once(monkeypatch):
    rendered, at = [], DrivingScene.at
    monkeypatch.setattr(DrivingScene, "at", lambda self, t: rendered.append(t) or at(self, t))
    DrivingScenes(**SETTINGS, labels=True).dataset("test").__getitems__([0, 1])
    assert rendered == 2 * [0.0, 1.0, 2.0, 3.0]
