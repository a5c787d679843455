"""Sets of optical flow that are files."""

import itertools
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from common.data.flow.flying_chairs import FlyingChairs
from common.data.flow.kitti import KITTIFlow
from common.data.flow.sintel import Sintel
from common.errors import InputError
from tests.common.data.flow_files import (
    save_flow,
    save_picture,
    write_flying_chairs,
    write_kitti_flow,
    write_sintel,
)

SIZE, SPLITS = (16, 20), ("train", "val", "test")
MASKS = {Sintel: "masks", KITTIFlow: "unoccluded"}  # files that may be missing
KINDS = {Sintel: write_sintel, FlyingChairs: write_flying_chairs, KITTIFlow: write_kitti_flow}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return {kind: write(tmp_path_factory.mktemp(kind.__name__)) for kind, write in KINDS.items()}


@pytest.fixture
def copied(written, tmp_path):
    """Function that copies the files of a set, which a test may damage."""
    return lambda kind: shutil.copytree(written[kind], tmp_path / "copy")


def served(kind, root, split, count=None, **arguments):
    data = kind(root=root, size=SIZE, **arguments).dataset(split)
    return data.__getitems__(list(range(count or len(data))))


def columns_and_rows(batch):
    """Of the pixels in the whole pictures, as the first frames tell, `[b h w]` each."""
    return batch.clip.frames[:, 0, 0].long(), batch.clip.frames[:, 0, 1].long()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("flip", [False, True])
def test_frames_and_flow_show_the_same_window(kind, split, flip, written):
    batch = served(kind, written[kind], split, 30, flip=flip)
    columns, rows = columns_and_rows(batch)
    mirrored = columns[:, 0, 0] > columns[:, 0, 1]
    assert mirrored.any() == (flip and split == "train")
    assert not mirrored.all()
    assert torch.equal(batch.clip.times, torch.tensor([0.0, 1.0]))
    assert torch.equal(batch.clip.frames[:, 0, :2], batch.clip.frames[:, 1, :2])
    assert torch.equal(batch.clip.frames[:, 0, 2] + 1, batch.clip.frames[:, 1, 2])
    sign = 1 - 2 * mirrored[:, None, None].float()
    true = torch.stack([sign * (columns / 8 - 2), rows / 8 - 1], 1)
    assert torch.equal(batch.flow, torch.where(batch.valid[:, None], true, 0))
    corners = set(zip(columns.amin((1, 2)).tolist(), rows[:, 0, 0].tolist(), strict=True))
    if split == "train":
        assert len(corners) > 15
        assert corners <= {(x, y) for x in range(9) for y in range(5)}
    else:
        assert corners == {(4, 2)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masks", [False, True])
def test_known_and_visible_pixels(kind, masks, tmp_path):
    root = tmp_path / "set"
    KINDS[kind](root, **({MASKS[kind]: masks} if kind in MASKS else {}))
    batch = served(kind, root, "train", 8)
    columns, rows = columns_and_rows(batch)
    valid, seen = torch.ones_like(columns).bool(), torch.ones_like(columns).bool()
    if kind is Sintel and masks:
        valid, seen = rows != 7, columns != 9
    if kind is KITTIFlow:
        valid = (columns + rows) % 2 == 0
        seen = columns < 15 if masks else seen
    assert torch.equal(batch.valid, valid)
    y, x = (torch.arange(n) for n in SIZE)
    right, down = x + batch.flow[:, 0], y[:, None] + batch.flow[:, 1]
    inside = (right >= 0) & (right <= 19) & (down >= 0) & (down <= 15)
    assert torch.equal(batch.visible, valid & seen & inside)
    assert not (inside | ~valid).all()


@pytest.mark.parametrize("kind", KINDS)
def test_each_pair_belongs_to_one_split(kind, written):
    def numbers(split, **arguments):
        return served(kind, written[kind], split, **arguments).clip.frames[:, 0, 2, 0, 0].tolist()

    some = {"val_fraction": 0.3} | ({} if kind is FlyingChairs else {"test_fraction": 0.2})
    found = {split: numbers(split, **some) for split in SPLITS}
    everything = sorted(itertools.chain(*found.values()))
    per_scene = {Sintel: [100 + 10 * s + k for s in range(4) for k in (1, 2, 3)]}
    per_scene |= {FlyingChairs: list(range(11, 111, 10)), KITTIFlow: list(range(10, 130, 10))}
    assert everything == per_scene[kind]
    assert found == {split: numbers(split, **some) for split in SPLITS}
    if kind is FlyingChairs:
        assert found["test"] == [31, 51, 91]  # lines of the split file that say 2
    if kind is Sintel:
        scenes = [{number // 10 for number in numbers} for numbers in found.values()]
        assert [len(scene) for scene in scenes] == [2, 1, 1]
    others = [numbers("val", split_seed=seed, **some) for seed in range(8)]
    assert len({tuple(found) for found in others}) > 2


def test_sintel_has_two_renderings(written):
    final, clean = (
        served(Sintel, written[Sintel], "test", render=render).clip.frames
        for render in ("final", "clean")
    )
    assert torch.equal(final[:, :, 2], clean[:, :, 2] + 100)


# Errors -------------------------------------------------------------------------------------

FIRST = {
    Sintel: ("training/final/alley/frame_0002.png", "training/flow/alley/frame_0001.flo"),
    FlyingChairs: ("data/00001_img2.ppm", "data/00001_flow.flo"),
    KITTIFlow: ("training/image_2/000001_11.png", "training/flow_occ/000001_10.png"),
}


def paths_of(kind, root):
    """A picture and a flow that belong together."""
    return [root / name for name in FIRST[kind]]


def refused(kind, root, told, **arguments):
    """Message of the error that reading the whole set raises."""
    with pytest.raises(InputError, match=told) as error:
        [served(kind, root, split, **arguments) for split in SPLITS]
    return str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_another_layout_is_refused(kind, tmp_path, written):
    for root in (
        tmp_path,
        tmp_path / "nothing",
        written[kind] / "training",
        written[kind] / "data",
    ):
        told = refused(kind, root, "give data.root as the folder that holds")
        assert all(name in told for name in (str(root), kind.layout))


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_picture_is_named_with_its_flow(kind, copied):
    root = copied(kind)
    picture, flow = paths_of(kind, root)
    picture.unlink()
    told = refused(kind, root, "there is no file")
    assert str(picture) in told
    assert str(flow.parent) in told


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damaged", ["picture", "flow"])
def test_another_size_than_that_of_the_flow_is_refused(kind, damaged, copied):
    root = copied(kind)
    picture, flow = paths_of(kind, root)
    if damaged == "picture":
        save_picture(picture, 1, (20, 29))
    else:
        save_flow(flow, size=(20, 29))
    told = refused(kind, root, "20 x 2[89] pixels.* has 20 x 2[89]")
    assert flow.name in told


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_refused(kind, copied):
    root = copied(kind)
    picture, flow = paths_of(kind, root)
    whole = picture.read_bytes()
    picture.write_bytes(whole[:40])
    assert str(picture) in refused(kind, root, "isn't a whole picture")
    picture.write_bytes(whole)
    flow.write_bytes(flow.read_bytes()[:40])
    assert str(flow) in refused(kind, root, "isn't a whole .* file of optical flow")


def test_a_flow_of_8_bits_is_refused(copied):
    root = copied(KITTIFlow)
    flow = paths_of(KITTIFlow, root)[1]
    Image.fromarray(np.zeros((20, 28, 3), np.uint8)).save(flow)
    refused(KITTIFlow, root, "8 bits")


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_that_are_smaller_than_the_window_are_refused(kind, written):
    for size in ((21, 20), (16, 29)):
        with pytest.raises(InputError, match=r"20 x 28 pixels.*lower data.size"):
            kind(root=written[kind], size=size).dataset("train")[0]


def test_a_missing_mask_is_refused(copied):
    root = copied(Sintel)
    (root / "training" / "occlusions" / "cave" / "frame_0001.png").unlink()
    refused(Sintel, root, "there is no file .*occlusions/cave/frame_0001.png")


def test_a_stray_flow_is_refused(copied):
    root = copied(Sintel)
    (root / "training" / "flow" / "cave" / "frame_0001.flo").rename(
        root / "training" / "flow" / "cave" / "first.flo"
    )
    refused(Sintel, root, r"first.flo, whose name isn't like")


@pytest.mark.parametrize("content", ["", "1 1 1", "1 2 3", "1\n2\nx"])
def test_another_split_file_is_refused(content, copied):
    root = copied(FlyingChairs)
    (root / "FlyingChairs_train_val.txt").write_text(content)
    refused(FlyingChairs, root, "must hold a line 1 or 2 for each pair")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"val_fraction": 1.0}, "val_fraction 1"),
        ({"test_fraction": 1.5}, "test_fraction"),
        ({"test_fraction": 0.0}, "leaves none for test"),
        ({"test_fraction": 1.0}, "leaves none for train"),
        ({"val_fraction": 0.0}, "leaves none for val"),
    ],
)
def test_fractions_that_leave_a_split_empty_are_refused(wrong, told, written):
    refused(KITTIFlow, written[KITTIFlow], told, **wrong)
