"""Videos of driving scenes, and the tracks of their objects."""

import torch

from common.data.driving.scene import OBJECT_CLASSES
from common.data.driving.scenes import DrivingScenes

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
            for name in ("boxes", "classes", "ids", "visible"):
                found = getattr(tracks, name)[video, frame]
                true = torch.from_numpy(getattr(picture.objects, name))
                assert torch.equal(found[:n], true)
                assert (found[n:] == (-1 if name in ("classes", "ids") else 0)).all()
    assert tracks.classes.max() < len(OBJECT_CLASSES)
    assert (tracks.ids >= 0).any()


def test_night_scenes_are_dark():
    day, night = (DrivingScenes(**SETTINGS, lighting=light) for light in ("day", "night"))
    numbers, times = torch.arange(2), torch.arange(2.0)
    frames = [data.videos("train", numbers, times).float().mean() for data in (day, night)]
    assert frames[1] < 0.7 * frames[0]
