import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import InputError
from mimic.supervised.data.folders import SegmentationFolders
from mimic.supervised.data.labelled import Labelled

LAYOUTS = ("cityscapes", "bdd100k")
SHAPE = (8, 16)
CITIES = {"train": ("aachen", "bremen"), "val": ("lindau",)}


def paths(root, layout, split, k):
    if layout == "cityscapes":
        city = CITIES[split][k % len(CITIES[split])]
        name = f"{city}/{city}_{k:06d}_000019"
        image = root / "leftImg8bit" / split / f"{name}_leftImg8bit.png"
        return image, root / "gtFine" / split / f"{name}_gtFine_labelTrainIds.png"
    masks = root / "labels" / "sem_seg" / "masks"
    return root / "images" / "10k" / split / f"{k:08x}.jpg", masks / split / f"{k:08x}.png"


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, quality=100)


def pixels(split, k):
    """A grey image, which JPEG keeps to a level or two, that tells its split and number."""
    return np.full((*SHAPE, 3), 10 * k + (100 if split == "val" else 0), np.uint8)


def classes(split, k):
    labels = np.random.default_rng((len(split), k)).integers(0, 19, SHAPE, np.uint8)
    labels[0, :3] = 255
    labels[1, 0] = k
    return labels


def write(root, layout, n_train=10, n_val=4):
    for split, n in (("train", n_train), ("val", n_val)):
        for k in range(n):
            image, label = paths(root, layout, split, k)
            save(image, pixels(split, k))
            save(label, classes(split, k))
    return root


@pytest.fixture(params=LAYOUTS)
def layout(request):
    return request.param


@pytest.fixture
def root(layout, tmp_path):
    return write(tmp_path, layout)


def read(data, split):
    files = data.dataset(split)
    return files.__getitems__(list(range(len(files))))


def numbers(batch):
    return batch.labels[:, 1, 0].tolist()


def test_files_come_back_as_written(layout, root):
    data = SegmentationFolders(root, layout, size=SHAPE, val_fraction=0.3)
    for split, official, count in (("train", "train", 7), ("val", "train", 3), ("test", "val", 4)):
        batch = read(data, split)
        assert isinstance(batch, Labelled)
        assert batch.images.dtype == torch.uint8
        assert batch.labels.dtype == torch.int64
        assert len(batch.images) == count
        for image, labels, k in zip(*batch, numbers(batch), strict=True):
            expected = pixels(official, k).transpose(2, 0, 1)
            assert np.abs(image.numpy().astype(int) - expected).max() <= 2
            assert (labels.numpy() == classes(official, k)).all()


def test_the_training_images_are_split_and_the_official_validation_set_is_for_testing(
    layout, root
):
    data = SegmentationFolders(root, layout, size=SHAPE, val_fraction=0.3)
    parts = {split: set(numbers(read(data, split))) for split in ("train", "val", "test")}
    assert parts["train"] | parts["val"] == set(range(10))
    assert not parts["train"] & parts["val"]
    assert parts["test"] == set(range(4))
    test = read(data, "test").images.double().mean((1, 2, 3))
    assert (test > 98).all()


def test_the_held_out_images_depend_on_the_split_seed_alone(layout, root):
    chosen = lambda seed: SegmentationFolders(root, layout, SHAPE, 0.5, seed).pairs("val")
    torch.manual_seed(5)
    first = chosen(0)
    torch.manual_seed(6)
    assert chosen(0) == first
    assert any(chosen(seed) != first for seed in (1, 2))


def test_the_loader_serves_batches(layout, root):
    data = SegmentationFolders(root, layout, size=SHAPE, val_fraction=0.3, batch_size=2)
    data.setup("fit")
    batches = list(data.train_dataloader())
    assert [tuple(batch.images.shape) for batch in batches] == [(2, 3, *SHAPE)] * 3
    assert data.shape == (3, *SHAPE)
    assert data.n_classes == len(data.class_names) == 19


def test_mirror_images_come_with_mirrored_labels(layout, root):
    ramp = np.tile(np.arange(16, dtype=np.uint8)[None, :, None] * 10, (8, 1, 3))
    image, label = paths(root, layout, "val", 0)
    save(image, ramp)
    files = SegmentationFolders(root, layout, size=SHAPE).dataset("test")
    n = files.pairs.index((image, label))
    plain, mirrored = files.__getitems__([n]), files.__getitems__([n + len(files)])
    assert (mirrored.images == plain.images.flip(-1)).all()
    assert (mirrored.labels == plain.labels.flip(-1)).all()
    assert (mirrored.images != plain.images).any()


@pytest.mark.parametrize("size", [(4, 8), (16, 32), (5, 11)])
def test_scaled_labels_are_classes_that_were_there_and_stay_on_their_pixels(layout, size, root):
    """Left half dark and class 3, right half bright and class 12."""
    right = np.arange(16) >= 8
    image, label = paths(root, layout, "val", 0)
    save(image, np.tile((right * 200).astype(np.uint8)[None, :, None], (8, 1, 3)))
    save(label, np.tile(np.where(right, 12, 3).astype(np.uint8), (8, 1)))
    batch = read(SegmentationFolders(root, layout, size=size), "test")
    k = [files for files, _ in SegmentationFolders(root, layout).pairs("test")].index(image)
    assert batch.images.shape == (4, 3, *size)
    assert set(batch.labels[k].unique().tolist()) == {3, 12}
    bright = batch.images[k].double().mean((0, 1))
    columns = (torch.arange(size[1]) + 0.5) / size[1]
    clear = (columns - 0.5).abs() > 1 / 8
    assert ((bright > 100) == (columns > 0.5))[clear].all()
    assert ((batch.labels[k] == 12) == (columns > 0.5)).all() or size == (5, 11)
    assert ((batch.labels[k] == 12) == (columns > 0.5))[:, clear].all()


def test_labels_of_older_bdd_releases_are_found(tmp_path):
    write(tmp_path, "bdd100k")
    for path in list(tmp_path.glob("labels/**/*.png")):
        path.rename(path.with_name(f"{path.stem}_train_id.png"))
    batch = read(SegmentationFolders(tmp_path, "bdd100k", size=SHAPE), "test")
    assert sorted(numbers(batch)) == [0, 1, 2, 3]


def test_labels_may_have_a_palette(layout, root):
    _, label = paths(root, layout, "val", 0)
    coloured = Image.fromarray(classes("val", 0))
    coloured.putpalette(list(range(255, -1, -1)) * 3)
    coloured.save(label)
    files = SegmentationFolders(root, layout, size=SHAPE).dataset("test")
    k = [label for _, label in files.pairs].index(label)
    assert (files[k].labels[0].numpy() == classes("val", 0)).all()


def test_files_are_read_when_they_are_asked_for(layout, root):
    files = SegmentationFolders(root, layout, size=SHAPE).dataset("test")
    files.pairs[2][0].write_bytes(b"broken")
    assert len(files.__getitems__([0, 1, 3]).images) == 3
    with pytest.raises(InputError, match="isn't a whole image") as error:
        files.__getitems__([1, 2])
    assert str(files.pairs[2][0]) in str(error.value)


# Errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [0, 1])
def test_files_that_are_cut_short_are_named(layout, side, root):
    path = paths(root, layout, "val", 1)[side]
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"isn't a whole image .*unpack it again") as error:
        read(SegmentationFolders(root, layout, size=SHAPE), "test")
    assert str(path) in str(error.value)


def test_missing_images_say_what_goes_where(layout, tmp_path):
    folder = {"cityscapes": "leftImg8bit/train", "bdd100k": "images/10k/train"}[layout]
    with pytest.raises(InputError, match=f"found no .* in .*{folder}; unpack .*data.root"):
        SegmentationFolders(tmp_path, layout).setup("fit")


def test_missing_labels_are_named(layout, root):
    image, label = paths(root, layout, "train", 3)
    label.unlink()
    with pytest.raises(InputError, match=rf"no {label.name}.* in {label.parent}") as error:
        SegmentationFolders(root, layout).setup("fit")
    assert str(image) in str(error.value)
    assert ("csCreateTrainIdLabelImgs" in str(error.value)) == (layout == "cityscapes")


WRONG = {
    "other classes": (np.full(SHAPE, 33, np.uint8), r"classes \[33\].*trainIds"),
    "colours": (np.zeros((*SHAPE, 3), np.uint8), "mode RGB.*not those of colours"),
    "another size": (np.zeros((8, 15), np.uint8), "16x8 pixels, its labels .* 15x8"),
}


@pytest.mark.parametrize(("labels", "says"), WRONG.values(), ids=WRONG)
def test_labels_that_are_wrong_are_refused(layout, labels, says, root):
    _, path = paths(root, layout, "val", 1)
    save(path, labels)
    with pytest.raises(InputError, match=says) as error:
        read(SegmentationFolders(root, layout, size=SHAPE), "test")
    assert str(path) in str(error.value)


def test_a_fraction_that_leaves_one_side_empty_is_refused(layout, root):
    with pytest.raises(InputError, match=r"val_fraction 0\.01 of 10 training images"):
        SegmentationFolders(root, layout, val_fraction=0.01).setup("fit")


@pytest.mark.parametrize(
    "bad", [{"layout": "kitti"}, {"size": (0, 5)}, {"val_fraction": 0.0}, {"val_fraction": 1.0}]
)
def test_settings_that_cannot_be_are_refused(bad, tmp_path):
    build = getattr(SegmentationFolders.__init__, "__wrapped__", SegmentationFolders.__init__)
    with pytest.raises(InputError, match=f"got {next(iter(bad))}"):
        build(object.__new__(SegmentationFolders), tmp_path, **bad)
