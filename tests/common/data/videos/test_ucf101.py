"""UCF101: its lists, the size and the crops of its frames, and the files that keep them."""

import json

import numpy as np
import pytest
import torch

from common.data.videos.ucf101 import UCF101
from common.errors import InputError
from tests.common.cubic import cubic
from tests.common.data.small_files import noise, write_ucf101

TRAIN = [f"v_{a}_g{g:02}_c{c:02}" for a in ("Dive", "YoYo") for g in (8, 9, 10) for c in (1, 2)]
TEST = ["v_Dive_g01_c01", "v_YoYo_g02_c01"]


def ramp(length=8, height=24, width=32):
    """Columns whose grey level is 8 times their number, the same in all frames."""
    row = (8 * np.arange(width)).astype(np.uint8)
    return np.broadcast_to(row[None, None, :, None], (length, height, width, 3)).copy()


@pytest.fixture
def root(tmp_path):
    train = {name: noise(7, 24, 32, 3, seed=k) for k, name in enumerate(TRAIN)}
    test = {name: noise(6 + k, 30, 40, 3, seed=50 + k) for k, name in enumerate(TEST)}
    return write_ucf101(tmp_path / "data", train, test)


def build(root, **options):
    small = {"n_frames": 4, "batch_size": 2, "val_fraction": 0.2}
    return UCF101(root, cache=root.parent / "cache", **(small | options))


def test_frames_are_scaled_as_by_opencv_and_the_middle_is_shown(root):
    video = build(root).clips("test").frames([0, 1])
    for k in range(2):
        pixels = noise(6 + k, 30, 40, 3, seed=50 + k)[:4].transpose(0, 3, 1, 2).astype(float)
        whole = cubic(30, 64) @ pixels @ cubic(40, 85).T
        expected = whole.round().clip(0, 255)[..., 10:74]
        assert abs(video[k].numpy() - expected).max() <= 1


def test_large_frames_are_192_of_256(root):
    data = build(root, size=192)
    assert data.shape == (3, 192, 192)
    video = data.clips("test").frames([0])
    pixels = noise(6, 30, 40, 3, seed=50)[:4].transpose(0, 3, 1, 2).astype(float)
    expected = cubic(30, 192) @ pixels @ cubic(40, 256)[32:224].T
    assert abs(video[0].numpy() - expected.round().clip(0, 255)).max() <= 1


def test_large_videos_are_made_smaller_without_smoothing(tmp_path):
    frames = noise(5, 240, 320, 3)
    root = write_ucf101(tmp_path / "data", {TRAIN[0]: frames}, {TEST[0]: frames})
    video = build(root).clips("test").frames([0])
    pixels = frames[:4].transpose(0, 3, 1, 2).astype(float)
    expected = cubic(240, 64) @ pixels @ cubic(320, 85)[10:74].T
    assert abs(video[0].numpy() - expected.round().clip(0, 255)).max() <= 1


def lefts(clip, whole):
    """First columns of clips `[b t c h w]` in the whole frames `[c h w]`."""
    side = clip.shape[-1]
    rooms = range(whole.shape[-1] - side + 1)
    return [
        next(x for x in rooms if np.array_equal(one[0].numpy(), whole[..., x : x + side]))
        for one in clip
    ]


@pytest.mark.parametrize(("crop", "expected"), [("centre", {10}), ("random", set(range(4, 18)))])
def test_crops_of_training_are_those_of_the_papers(tmp_path, crop, expected):
    root = write_ucf101(tmp_path / "data", {TRAIN[0]: ramp()}, {TEST[0]: ramp()})
    data = build(root, crop=crop, val_fraction=0.0)
    frames = data.folder("train") / "frames.bin"
    whole = np.fromfile(frames, np.uint8).reshape(8, 3, 64, 85)[0]
    assert set(lefts(data.clips("train").frames(list(range(200))), whole)) == expected
    assert set(lefts(data.clips("test").frames([0]), whole)) == {10}


def test_training_clips_are_consecutive_frames_from_every_place(tmp_path):
    frames = [np.full((24, 32, 3), 10 * k, np.uint8) for k in range(9)]
    root = write_ucf101(tmp_path / "data", {TRAIN[0]: frames}, {TEST[0]: frames})
    video = build(root, val_fraction=0.0).clips("train").frames(list(range(100)))
    levels = video[:, :, 0, 0, 0] // 10
    assert set(levels[:, 0].tolist()) == set(range(6))
    assert (levels.diff(dim=1) == 1).all()


def test_validation_holds_out_whole_recordings(root):
    data = build(root)
    names = {}
    for split in ("train", "val", "test"):
        names[split] = [opener().name.removesuffix(".avi") for opener in data.openers(split)]
    assert sorted(names["train"] + names["val"]) == TRAIN
    assert names["test"] == TEST
    group = lambda name: name.rpartition("_c")[0]
    assert len(set(map(group, names["val"]))) == 1
    assert not set(map(group, names["val"])) & set(map(group, names["train"]))


def test_frames_are_decoded_once_and_again_if_they_or_the_videos_change(root):
    data = build(root)
    data.prepare_data()
    folder = data.folder("test")
    first = (folder / "frames.bin").stat().st_mtime_ns
    assert build(root).folder("test") == folder
    assert (folder / "frames.bin").stat().st_mtime_ns == first
    assert json.loads((folder / "lengths.json").read_text()) == [6, 7]
    assert build(root, size=192).folder("test") != folder
    before = data.clips("test").frames([0])
    (folder / "lengths.json").unlink()  # as if the decoding had been killed
    assert torch.equal(build(root).clips("test").frames([0]), before)
    (folder / "frames.bin").write_bytes(b"123")
    assert torch.equal(build(root).clips("test").frames([0]), before)
    write_ucf101(root, {}, {name: noise(9, 24, 32, 3) for name in TEST})
    assert build(root).folder("test") != folder


def test_lists_and_videos_that_are_missing_are_named(root, tmp_path):
    with pytest.raises(InputError, match=r"found no trainlist02\.txt in .*data"):
        build(root, fold=2).prepare_data()
    (gone,) = root.rglob(f"{TRAIN[3]}.avi")
    gone.unlink()
    with pytest.raises(InputError, match=rf"12 videos, of which 1 aren't .*{TRAIN[3]}\.avi"):
        build(root).prepare_data()
    (root / "ucfTrainTestlist" / "trainlist01.txt").write_text("\n")
    with pytest.raises(InputError, match="0 videos"):
        build(root).prepare_data()
    with pytest.raises(InputError, match=r"found no trainlist01\.txt"):
        build(tmp_path / "nowhere").setup("fit")


def test_broken_and_short_videos_are_named(root):
    (path,) = root.rglob(f"{TEST[1]}.avi")
    whole = path.read_bytes()
    path.write_bytes(b"no video")
    with pytest.raises(InputError, match=rf"{TEST[1]}\.avi can't be decoded"):
        build(root).setup("test")
    assert not list((root.parent / "cache").rglob("*.json"))
    path.write_bytes(whole)
    with pytest.raises(InputError, match=rf"{TEST[0]}\.avi has 6 frames, .*n_frames 7"):
        build(root, n_frames=7).setup("test")
    with pytest.warns(UserWarning, match="left out 1 of 2 test videos"):
        assert len(build(root, n_frames=7, strict=False).clips("test")) == 1


def test_a_share_of_one_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"got val_fraction 1\.0"):
        UCF101(tmp_path, val_fraction=1.0)
