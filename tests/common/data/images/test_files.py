"""Labels of the official files; their images are tested in test_images.py."""

import pickle

import numpy as np
import pytest
import torch

from common.data.images.files import CIFAR10, MNIST
from common.errors import InputError
from tests.common.data.small_files import (
    classes,
    idx_images,
    idx_labels,
    write_cifar,
    write_mnist,
)

SPLITS = ("train", "val", "test")


def numbered(n, *shape):
    """Image k has all pixels k."""
    return np.broadcast_to(
        np.arange(n, dtype=np.uint8).reshape(-1, *(1 for _ in shape)), (n, *shape)
    )


def mnist(folder, zipped=False):
    return write_mnist(folder, numbered(60, 28, 28), numbered(9, 28, 28), zipped)


def cifar(folder):
    return write_cifar(folder, numbered(60, 3072), numbered(9, 3072))


WRITERS = {MNIST: mnist, CIFAR10: cifar}


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("kind", WRITERS)
def test_every_image_keeps_its_label(kind, split, tmp_path):
    WRITERS[kind](tmp_path)
    data = kind(tmp_path, val_fraction=0.25, split_seed=3)
    labels, numbers = data.labels(split), data.images(split)[:, 0, 0, 0].long()
    assert labels.dtype == torch.int64
    assert len(labels) == {"train": 45, "val": 15, "test": 9}[split]
    assert (labels == 7 * numbers % 10).all()


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("where", [".", "MNIST/raw"])
def test_mnist_labels_are_found_plain_or_gzipped(where, zipped, tmp_path):
    mnist(tmp_path / where, zipped=zipped)
    assert MNIST(tmp_path).labels("test").tolist() == classes(9)


def test_cifar_labels_are_found_in_its_own_folder(tmp_path):
    cifar(tmp_path / "cifar-10-batches-py")
    assert CIFAR10(tmp_path).labels("test").tolist() == classes(9)


def test_missing_labels_say_what_goes_where(tmp_path):
    mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    says = r"no t10k-labels-idx1-ubyte or .*\.gz in .*; download train-labels-idx1-ubyte\.gz"
    with pytest.raises(InputError, match=says):
        MNIST(tmp_path).labels("test")


BAD_IDX = {
    "a header cut short": (idx_labels(classes(9))[:6], "6 bytes, but its header alone needs 8"),
    "labels cut short": (idx_labels(classes(9))[:-2], "17 bytes for its 9 labels and has 15"),
    "bytes left over": (idx_labels(classes(9)) + b"x", "17 bytes.* 18"),
    "images": (idx_images(numbered(9, 28, 28)), "2051, but .*labels starts with 2049"),
    "no label": (idx_labels([]), "0 labels"),
    "an eleventh class": (idx_labels([0, 10, 3]), "label 10, but those of MNIST are 0 to 9"),
    "fewer than images": (idx_labels(classes(8)), "8 labels for 9 images"),
}


@pytest.mark.parametrize(("content", "says"), BAD_IDX.values(), ids=BAD_IDX)
def test_idx_labels_that_are_wrong_are_refused(content, says, tmp_path):
    mnist(tmp_path)
    path = tmp_path / "t10k-labels-idx1-ubyte"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says) as error:
        MNIST(tmp_path).labels("test")
    assert str(path) in str(error.value)


def test_gzipped_labels_that_are_broken_are_refused(tmp_path):
    mnist(tmp_path, zipped=True)
    path = tmp_path / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"labels-idx1-ubyte\.gz isn't a whole gzip file"):
        MNIST(tmp_path).labels("test")


BAD_LABELS = {
    "none": (None, "no list of numbers under 'labels'"),
    "an array": (np.zeros(9, np.int64), "no list of numbers under 'labels'"),
    "fractions": ([0.5] * 9, "no list of numbers under 'labels'"),
    "too few": (classes(8), "8 labels from 0 to 9 for 9 images"),
    "an eleventh class": ([10] * 9, "from 10 to 10 .* 0 to 9"),
    "a class below the first": ([-1] + [0] * 8, "from -1 to 0"),
    "empty": ([], "0 labels"),
}


@pytest.mark.parametrize(("labels", "says"), BAD_LABELS.values(), ids=BAD_LABELS)
def test_batches_with_wrong_labels_are_refused(labels, says, tmp_path):
    batch = {b"data": np.zeros((9, 3072), np.uint8)}
    if labels is not None:
        batch[b"labels"] = labels
    path = tmp_path / "test_batch"
    path.write_bytes(pickle.dumps(batch))
    with pytest.raises(InputError, match=says) as error:
        CIFAR10(tmp_path).labels("test")
    assert str(path) in str(error.value)
    assert len(CIFAR10(tmp_path).images("test")) == 9  # which need no labels
