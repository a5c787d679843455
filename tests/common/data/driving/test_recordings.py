"""Recorded drives: files in the layouts of BDD100K and KITTI come back as they were written."""

import json

import numpy as np
import pytest
import torch

from common.data.driving.bdd100k import BDD100K
from common.data.driving.bdd100k import CLASSES as EIGHT
from common.data.driving.export import write_bdd100k, write_kitti
from common.data.driving.kitti import KITTITracking
from common.data.driving.scene import OBJECT_CLASSES, DrivingScene
from common.errors import InputError

SIZE, TIMES = (64, 96), [0.0, 1.0, 2.0, 3.0]
SETTINGS = {"size": SIZE, "n_frames": 4, "tracks": True, "batch_size": 1, "val_fraction": 0.5}


@pytest.fixture(scope="module")
def scenes():
    return [DrivingScene(k, seed=5, size=SIZE) for k in range(2)]


@pytest.fixture
def bdd(scenes, tmp_path):
    write_bdd100k(tmp_path, "train", [scenes[0], scenes[0]], TIMES)  # one is for validation
    write_bdd100k(tmp_path, "val", [scenes[1]], TIMES)
    return tmp_path


@pytest.fixture
def kitti(scenes, tmp_path):
    write_kitti(tmp_path, [scenes[0], scenes[1], scenes[0]], TIMES)
    return tmp_path


def bdd_set(root, **settings):
    return BDD100K(root, **(SETTINGS | settings))


def kitti_set(root, **settings):
    return KITTITracking(root, test_sequences=("0001",), **(SETTINGS | settings))


def served(data, split):
    data.setup({"train": "fit", "test": "test"}[split])
    return next(iter(getattr(data, f"{split}_dataloader")()))


def check_objects(tracks, classes, scene, scale=(1.0, 1.0), width=None):
    """Tracks of one video are the visible objects of a scene; `width`: in mirrored frames."""
    for frame, time in enumerate(TIMES):
        objects = scene.at(time).objects
        seen = objects.visible > 0
        boxes = objects.boxes[seen] * np.tile(scale, 2)
        if width:
            boxes = np.stack(
                [width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1
            )
        n = int(seen.sum())
        assert (tracks.classes[0, frame] >= 0).sum() == n
        np.testing.assert_allclose(tracks.boxes[0, frame, :n], boxes, atol=2e-3)
        assert tracks.ids[0, frame, :n].tolist() == objects.ids[seen].tolist()
        names = [classes[k] for k in tracks.classes[0, frame, :n].tolist()]
        assert names == [OBJECT_CLASSES[k] for k in objects.classes[seen]]
    assert not tracks.ignored.any()


def test_kitti_comes_back(kitti, scenes):
    for split, scene in (("train", scenes[0]), ("test", scenes[1])):
        clip, tracks, _ = served(kitti_set(kitti, clips_per_video=1), split)
        images = np.stack([scene.at(time).image for time in TIMES])
        assert np.array_equal(clip.frames[0].numpy(), images)
        check_objects(tracks, KITTITracking.classes, scene)


def test_bdd100k_comes_back(bdd, scenes):
    for split, scene in (("train", scenes[0]), ("test", scenes[1])):
        clip, tracks, _ = served(bdd_set(bdd, clips_per_video=1), split)
        images = np.stack([scene.at(time).image for time in TIMES])
        assert np.abs(clip.frames[0].float() - torch.from_numpy(images)).mean() < 6  # JPEG
        check_objects(tracks, EIGHT, scene)


@pytest.mark.parametrize("in_memory", [False, True])
def test_boxes_are_scaled_with_the_frames(in_memory, kitti, scenes):
    data = kitti_set(kitti, size=(32, 32), in_memory=in_memory)
    clip, tracks, _ = served(data, "test")
    assert clip.frames.shape[-2:] == (32, 32)
    check_objects(tracks, KITTITracking.classes, scenes[1], (32 / SIZE[1], 32 / SIZE[0]))


def test_boxes_are_mirrored_with_the_frames(kitti, scenes):
    data = kitti_set(kitti, flip=True, clips_per_video=16)
    data.setup("fit")
    images = torch.from_numpy(np.stack([scenes[0].at(time).image for time in TIMES]))
    mirrored = 0
    for clip, tracks, _ in data.train_dataloader():
        turned = bool((clip.frames[0] == images.flip(-1)).all())
        assert turned or torch.equal(clip.frames[0], images)
        check_objects(tracks, KITTITracking.classes, scenes[0], width=SIZE[1] if turned else None)
        mirrored += turned
    assert 0 < mirrored < 16


def edit(path, change):
    path.write_text(change(path.read_text()))


def edit_label(bdd, change):
    """Changes the first label of the first frame that has one."""
    path = bdd / "labels/box_track_20/val/00000000.json"
    rows = json.loads(path.read_text())
    label = next(row["labels"][0] for row in rows if row["labels"])
    change(label)
    path.write_text(json.dumps(rows))


JSON = "labels/box_track_20/val/00000000.json"
BROKEN_BDD = {
    "no JSON": (lambda root: edit(root / JSON, lambda s: s[:-5]), "isn't a label file of BDD100K"),
    "a list of numbers": (lambda root: (root / JSON).write_text("[1]"), "isn't a label file"),
    "no box": (lambda root: edit_label(root, lambda x: x.pop("box2d")), "KeyError: 'box2d'"),
    "unknown class": (
        lambda root: edit_label(root, lambda x: x.update(category="tank")),
        "unknown category 'tank'; known are pedestrian, rider",
    ),
    "box outside": (
        lambda root: edit_label(root, lambda x: x["box2d"].update(x2=120)),
        r"isn't inside the picture of 96x64",
    ),
    "box turned over": (
        lambda root: edit_label(root, lambda x: x["box2d"].update(x1=9.0, x2=3.0)),
        r"isn't inside the picture",
    ),
    "missing frame": (
        lambda root: (root / "images/track/val/00000000/00000000-0000002.jpg").unlink(),
        "labels 4 frames, but its folder holds 3 pictures; 00000000-0000002.jpg",
    ),
    "no labels": (lambda root: (root / JSON).unlink(), "found no labels in"),
}


@pytest.mark.parametrize(("breaks", "says"), BROKEN_BDD.values(), ids=BROKEN_BDD)
def test_broken_files_of_bdd100k_are_named(breaks, says, bdd):
    breaks(bdd)
    with pytest.raises(InputError, match=says):
        bdd_set(bdd).setup("test")


TEXT = "label_02/0001.txt"
BROKEN_KITTI = {
    "few words": (lambda root: (root / TEXT).write_text("0 1 Car 0 0\n"), "line 1 isn't a label"),
    "no number": (lambda root: edit(root / TEXT, lambda s: "x" + s), "line 1 isn't a label"),
    "unknown class": (
        lambda root: edit(root / TEXT, lambda s: s.replace("Car", "Tank", 1)),
        "unknown type 'Tank'; known are Pedestrian, Car",
    ),
    "missing frames": (
        lambda root: (root / "image_02/0001/000003.png").unlink(),
        "labels frame 3, but its folder holds 3 pictures",
    ),
    "no frames": (
        lambda root: [file.unlink() for file in (root / "image_02/0001").iterdir()],
        "holds no pictures",
    ),
    "no labels": (lambda root: (root / TEXT).unlink(), "no labels of the test sequence 0001"),
}


@pytest.mark.parametrize(("breaks", "says"), BROKEN_KITTI.values(), ids=BROKEN_KITTI)
def test_broken_files_of_kitti_are_named(breaks, says, kitti):
    breaks(kitti)
    with pytest.raises(InputError, match=says):
        kitti_set(kitti).setup("test")


def test_labels_belong_to_the_pictures_of_their_numbers(kitti, scenes):
    (kitti / "image_02/0001/000001.png").unlink()
    edit(kitti / TEXT, lambda s: "".join(x for x in s.splitlines(True) if not x.startswith("1 ")))
    _, tracks, _ = served(kitti_set(kitti, n_frames=3), "test")
    objects = scenes[1].at(TIMES[2]).objects
    assert (
        tracks.ids[0, 1][tracks.ids[0, 1] >= 0].tolist()
        == objects.ids[objects.visible > 0].tolist()
    )


def test_labels_that_do_not_count_are_ignored(kitti):
    rest = "0 0 -10 5 5 20 20 -1 -1 -1 -1000 -1000 -1000 -10"
    kinds = ("Van", "Person_sitting", "DontCare", "Truck")
    lines = "".join(f"0 {k} {kind} {rest}\n" for k, kind in enumerate(kinds))
    (kitti / TEXT).write_text(lines)
    _, tracks, _ = served(kitti_set(kitti), "test")
    assert tracks.classes[0, 0].tolist() == [1, 0, 0, 1]
    assert tracks.ignored[0, 0].all()
    assert (tracks.classes[0, 1:] == -1).all()
