import math

import h5py
import numpy as np
import pytest
import torch

from common.errors import InputError
from mimic.supervised.data import array_rows
from mimic.supervised.data.factor_files import MPI3D, DSprites, Shapes3D


class FewSprites(DSprites):
    factor_sizes = (3, 2, 4, 2, 3)


class FewRooms(Shapes3D):
    factor_sizes = (2, 3, 2, 2, 4, 2)


class FewArms(MPI3D):
    releases = ((3, 2, 2, 1, 3, 2, 3), (2, 2, 2, 1, 3, 2, 3))


KINDS = [FewSprites, FewRooms, FewArms]
COUNTS = {FewSprites: 144, FewRooms: 192, FewArms: 216}
FEW = {"n_train": 50, "n_val": 20, "n_test": 30, "batch_size": 10}


class Trap:
    """Unpickled, it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def numbered(n, *shape):
    """Images of noise, whose first two pixels tell their number."""
    pixels = np.random.default_rng(0).integers(0, 256, (n, *shape), np.uint8)
    pixels.reshape(n, -1)[:, 0] = np.arange(n) // 256
    pixels.reshape(n, -1)[:, 1] = np.arange(n) % 256
    return pixels


def sprite_arrays(folder):
    sizes = FewSprites.factor_sizes
    classes = np.stack(np.unravel_index(np.arange(144), (1, *sizes)), 1).astype(np.int64)
    bits = np.unpackbits(np.arange(144, dtype=np.uint8)[:, None], axis=1)
    pixels = np.random.default_rng(0).integers(0, 2, (144, 64, 64), np.uint8)
    pixels[:, 0, :8] = bits  # the image's number
    metadata = np.array({"title": "dSprites", "trap": Trap(folder / "ran")}, dtype=object)
    return {
        "metadata": metadata,
        "imgs": pixels,
        "latents_classes": classes,
        "latents_values": classes / 7,
    }


def room_arrays():
    steps = [np.linspace(0.0, 0.9, m) for m in FewRooms.factor_sizes[:3]]
    steps += [np.linspace(0.75, 1.25, 2), np.arange(4.0), np.linspace(-30.0, 30.0, 2)]
    labels = np.stack([g.ravel() for g in np.meshgrid(*steps, indexing="ij")], 1)
    return {"images": numbered(192, 64, 64, 3), "labels": labels}


def arrays_of(kind, folder):
    if kind is FewSprites:
        return sprite_arrays(folder)
    return room_arrays() if kind is FewRooms else {"images": numbered(216, 64, 64, 3)}


def write(kind, folder, arrays=None, packed=True):
    folder.mkdir(exist_ok=True)
    arrays = arrays_of(kind, folder) if arrays is None else arrays
    path = folder / (kind(folder).file)
    if path.suffix == ".npz":
        (np.savez_compressed if packed else np.savez)(path, **arrays)
        return path
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            how = (
                {"chunks": (min(7, len(array)), *array.shape[1:]), "compression": "gzip"}
                if packed
                else {}
            )
            file.create_dataset(key, data=array, **how)
    return path


def number(kind, images):
    """The number that each image tells, as its file's writer put it there."""
    if kind is FewSprites:
        return np.packbits(images[:, 0, 0, :8].numpy() // 255, axis=1)[:, 0].astype(int)
    rows = images.permute(0, 2, 3, 1).flatten(1).long().numpy()
    return rows[:, 0] * 256 + rows[:, 1]


# Reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [16, 4096])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_images_come_with_their_factors(kind, packed, block, tmp_path, monkeypatch):
    monkeypatch.setattr(array_rows, "ROWS_AT_ONCE", block)
    path = write(kind, tmp_path, packed=packed)
    data = kind(tmp_path, **FEW)
    for split, count in (("train", 50), ("val", 20), ("test", 30)):
        batch = data.dataset(split).__getitems__(list(range(count)))
        assert batch.images.shape == (count, *data.shape)
        found = number(kind, batch.images)
        expected = np.stack(np.unravel_index(found, data.factor_sizes), 1)
        assert (batch.labels.numpy() == expected).all()
        assert len(set(found)) == count
    if kind is not FewSprites:
        written = numbered(COUNTS[kind], 64, 64, 3)[found]
        assert (batch.images.permute(0, 2, 3, 1).numpy() == written).all()
    assert path.is_file()


def test_sprites_are_black_and_white(tmp_path):
    path = write(FewSprites, tmp_path)
    images = FewSprites(tmp_path, **FEW).dataset("test").images.images
    assert images.unique().tolist() == [0, 255]
    with np.load(path) as arrays:
        expected = 255 * arrays["imgs"][number(FewSprites, images)]
    assert (images[:, 0].numpy() == expected).all()


def test_the_pickle_in_the_sprites_is_not_opened(tmp_path):
    path = write(FewSprites, tmp_path)
    data = FewSprites(tmp_path, **FEW)
    data.setup("fit")
    data.setup("test")
    assert not (tmp_path / "ran").exists()
    with np.load(path, allow_pickle=True) as arrays:
        arrays["metadata"]
    assert (tmp_path / "ran").exists()  # so it would have been


def test_a_file_is_read_once(tmp_path):
    path = write(FewRooms, tmp_path)
    data = FewRooms(tmp_path, **FEW)
    data.setup("fit")
    path.unlink()
    data.setup("test")
    assert len(next(iter(data.test_dataloader())).images) == 10


@pytest.mark.parametrize("k", [0, 1])
def test_the_release_follows_from_the_number_of_images(k, tmp_path):
    sizes = FewArms.releases[k]
    write(FewArms, tmp_path, {"images": numbered(math.prod(sizes), 64, 64, 3)})
    data = FewArms(tmp_path, **FEW)
    assert data.factor_sizes == sizes
    batch = data.dataset("train").__getitems__([0, 1, 2])
    expected = np.stack(np.unravel_index(number(FewArms, batch.images), sizes), 1)
    assert (batch.labels.numpy() == expected).all()


def test_the_versions_are_files_of_their_own(tmp_path):
    for version in ("toy", "realistic", "real"):
        assert MPI3D(tmp_path, version).file == f"mpi3d_{version}.npz"


def test_the_sets_have_their_published_sizes(tmp_path):
    assert math.prod(DSprites.factor_sizes) == 737280
    assert math.prod(Shapes3D.factor_sizes) == 480000
    assert [math.prod(sizes) for sizes in MPI3D.releases] == [1036800, 460800]
    for kind in (DSprites, Shapes3D):
        assert len(kind.factor_names) == len(kind.factor_sizes)
    assert all(len(MPI3D.factor_names) == len(sizes) for sizes in MPI3D.releases)


# Errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_file_says_what_goes_where(kind, tmp_path):
    data = kind(tmp_path / "nowhere", **FEW)
    with pytest.raises(InputError, match=f"found no {data.file} in .*nowhere; download.*https"):
        data.setup("fit")


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("spoil", [lambda d: d[: len(d) // 2], lambda d: b"", lambda d: b"no"])
@pytest.mark.parametrize("kind", KINDS)
def test_files_that_are_broken_are_named(kind, spoil, packed, tmp_path):
    path = write(kind, tmp_path, packed=packed)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InputError, match=r"isn't a whole array file .*again") as error:
        kind(tmp_path, **FEW).setup("fit")
    assert str(path) in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_pixels_are_noticed(kind, tmp_path):
    path = write(kind, tmp_path)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(255 - byte for byte in content[middle : middle + 64])
    path.write_bytes(content)
    with pytest.raises(InputError, match="isn't a whole array file"):
        kind(tmp_path, n_train=COUNTS[kind] - 2, n_val=1, n_test=1).setup("fit")


def without(key):
    return lambda arrays: {k: a for k, a in arrays.items() if k != key}


def changed(key, change):
    return lambda arrays: {**arrays, key: change(arrays[key])}


def swapped(labels):
    return labels[np.r_[1, 0, 2 : len(labels)]]


WRONG = {
    "sprites, no images": (FewSprites, without("imgs"), "lacks an array: .*imgs"),
    "sprites, too few": (FewSprites, changed("imgs", lambda a: a[:-1]), r"\(143, 64, 64\)"),
    "sprites, another size": (
        FewSprites,
        changed("imgs", lambda a: a[:, ::2]),
        r"\(144, 32, 64\)",
    ),
    "sprites, floats": (FewSprites, changed("imgs", lambda a: a * 1.0), "float64"),
    "sprites, grey": (FewSprites, changed("imgs", lambda a: 2 * a), "a pixel 2"),
    "sprites, other order": (FewSprites, changed("latents_classes", swapped), "in their order"),
    "rooms, no images": (FewRooms, without("images"), "lacks an array: .*images"),
    "rooms, no labels": (FewRooms, without("labels"), "lacks an array: .*labels"),
    "rooms, too few": (FewRooms, changed("images", lambda a: a[:5]), r"\(5, 64, 64, 3\)"),
    "rooms, grey": (FewRooms, changed("images", lambda a: a[..., :1]), r"\(192, 64, 64, 1\)"),
    "rooms, other order": (FewRooms, changed("labels", swapped), "in their order"),
    "rooms, factor lost": (FewRooms, changed("labels", lambda a: a[:, 1:]), r"\(192, 5\)"),
    "arms, no images": (FewArms, without("images"), "lacks an array: .*images"),
    "arms, too few": (
        FewArms,
        changed("images", lambda a: a[:9]),
        "9 images, MPI3D has 216 or 144",
    ),
    "arms, grey": (FewArms, changed("images", lambda a: a[..., 0]), r"\(216, 64, 64\)"),
}


@pytest.mark.parametrize(("kind", "change", "says"), WRONG.values(), ids=WRONG)
def test_arrays_that_are_wrong_are_refused(kind, change, says, tmp_path):
    arrays = change(arrays_of(kind, tmp_path))
    path = write(kind, tmp_path, arrays or {"other": np.zeros(3)})
    # All of them, so that those that changed places are among them.
    count = COUNTS[kind]
    with pytest.raises(InputError, match=says) as error:
        kind(tmp_path, n_train=count - 2, n_val=1, n_test=1).setup("fit")
    assert str(path) in str(error.value)


def test_arrays_stored_column_by_column_are_refused(tmp_path):
    write(FewArms, tmp_path, {"images": np.asfortranarray(numbered(216, 64, 64, 3))})
    with pytest.raises(InputError, match="column by column"):
        FewArms(tmp_path, **FEW).setup("fit")


def test_labels_of_the_batches_are_tensors_of_their_own(tmp_path):
    write(FewRooms, tmp_path)
    stack = FewRooms(tmp_path, **FEW).dataset("train")
    before = stack.labels.clone()
    stack.__getitems__([0, 1]).labels.zero_()
    assert (stack.labels == before).all()
    assert stack.images.images.is_contiguous(memory_format=torch.contiguous_format)
