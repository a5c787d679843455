import gzip
import pickle
import struct

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from torch.nn import functional

from common.errors import InputError
from mimic.supervised.data import labelled
from mimic.supervised.data.labelled import (
    Labelled,
    LabelledCIFAR10,
    LabelledDigits,
    LabelledMNIST,
    LabelledStack,
    SmallDigits,
)

SPLITS = ("train", "val", "test")


# Serving ------------------------------------------------------------------------------------


def stack(labels):
    """Image k is [k, 100 + k]."""
    k = torch.arange(len(labels))
    return LabelledStack(torch.stack([k, 100 + k], -1).byte().reshape(-1, 1, 1, 2), labels)


def test_a_batch_has_images_and_labels_in_the_order_asked_for():
    batch = stack(torch.tensor([5, 6, 7, 8])).__getitems__([2, 0, 2])
    assert isinstance(batch, Labelled)
    assert batch.images[:, 0, 0, 0].tolist() == [2, 0, 2]
    assert batch.labels.tolist() == [7, 5, 7]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_labels_are_served_as_int64(dtype):
    served = stack(torch.tensor([3, 255]).to(dtype))
    assert served[1].labels.tolist() == [255]
    assert served[1].labels.dtype == torch.int64


@pytest.mark.parametrize(
    "labels", [torch.tensor([1, 2, 3]), torch.tensor([[1, 4], [2, 5], [3, 6]])]
)
def test_mirror_images_keep_their_classes(labels):
    batch = stack(labels).__getitems__([1, 3 + 1])
    assert batch.images[:, 0, 0].tolist() == [[1, 101], [101, 1]]
    assert (batch.labels[0] == batch.labels[1]).all()
    assert (batch.labels[0] == labels[1]).all()


def test_classes_of_pixels_are_mirrored_with_them():
    labels = torch.arange(3 * 4).reshape(3, 1, 4)
    images = labels.byte()[:, None]
    served = LabelledStack(images, labels)
    batch = served.__getitems__([0, 3 + 1, 2])
    assert (batch.images[:, 0] == batch.labels).all()
    assert batch.labels[1, 0].tolist() == [7, 6, 5, 4]
    assert (served.labels == torch.arange(12).reshape(3, 1, 4)).all()


def test_a_label_must_be_there_for_every_image():
    with pytest.raises(InputError, match="4 images and 3 labels"):
        LabelledStack(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.zeros(3).long())


# Sets ---------------------------------------------------------------------------------------


def write_mnist(folder):
    for name, n in (("train", 40), ("t10k", 20)):
        pixels = np.random.default_rng(n).integers(0, 256, (n, 28, 28), np.uint8)
        labels = np.arange(n, dtype=np.uint8) % 10
        data = {"images-idx3": (2051, pixels), "labels-idx1": (2049, labels)}
        for part, (magic, array) in data.items():
            content = struct.pack(f">{1 + array.ndim}I", magic, *array.shape) + array.tobytes()
            (folder / f"{name}-{part}-ubyte.gz").write_bytes(gzip.compress(content))


def write_cifar(folder):
    for k, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        pixels = np.random.default_rng(k).integers(0, 256, (20, 3072), np.uint8)
        batch = {b"data": pixels, b"labels": [(k + i) % 10 for i in range(20)]}
        (folder / name).write_bytes(pickle.dumps(batch))


@pytest.fixture(params=[LabelledDigits, SmallDigits, LabelledMNIST, LabelledCIFAR10])
def data(request, tmp_path):
    if request.param in (LabelledDigits, SmallDigits):
        return request.param(batch_size=20)
    {LabelledMNIST: write_mnist, LabelledCIFAR10: write_cifar}[request.param](tmp_path)
    return request.param(tmp_path, val_fraction=0.5, batch_size=20)


def test_a_set_serves_its_images_with_its_labels(data):
    for stage, split in (("validate", "val"), ("test", "test")):
        data.setup(stage)
        batches = list(getattr(data, f"{split}_dataloader")())
        assert all(isinstance(batch, Labelled) for batch in batches)
        images, labels = (torch.cat(part) for part in zip(*batches, strict=True))
        assert images.dtype == torch.uint8
        assert labels.dtype == torch.int64
        assert (images == data.images(split)).all()
        assert (labels == data.labels(split)).all()


def test_a_set_says_how_many_classes_there_are(data):
    assert data.n_classes == 10
    assert data.labels("train").unique().tolist() == list(range(10))


def test_no_set_mirrors_unless_asked(data):
    assert not data.flip


class Trained(LightningModule):
    """Classifies by one linear map of the pixels."""

    def __init__(self):
        super().__init__()
        self.map = torch.nn.Linear(784, 10)

    def forward(self, images):
        return self.map(images.flatten(1) / 255)

    def training_step(self, batch):
        return functional.cross_entropy(self(batch.images), batch.labels)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 3e-3)


def test_a_trainer_takes_the_batches():
    model, data = Trained(), LabelledDigits(num_workers=0)
    Trainer(barebones=True, accelerator="cpu", max_epochs=2).fit(model, datamodule=data)
    right = model(data.images("test")).argmax(1) == data.labels("test")
    assert right.double().mean() > 0.8


@pytest.mark.parametrize("kind", [LabelledDigits, SmallDigits])
def test_labels_agree_with_what_is_seen(kind):
    data = kind()
    seen = {split: data.images(split).flatten(1).numpy() for split in SPLITS}
    classifier = KNeighborsClassifier(3).fit(seen["train"], data.labels("train"))
    assert classifier.score(seen["test"], data.labels("test")) > 0.85


# Small digits -------------------------------------------------------------------------------


def test_small_digits_are_those_of_scikit_learn_scaled_up():
    data = SmallDigits()
    ours = torch.cat([data.images(s) for s in SPLITS]).float()
    labels = torch.cat([data.labels(s) for s in SPLITS])
    theirs = load_digits()
    small = torch.from_numpy(theirs.images).float()[:, None] * 255 / 16
    large = functional.interpolate(small, size=(28, 28), mode="bilinear")
    nearest = torch.cdist(large.flatten(1), ours.flatten(1)).argmin(1)
    assert nearest.sort().values.tolist() == list(range(1797))
    assert (ours[nearest] - large).abs().max() <= 1
    assert (labels[nearest] == torch.from_numpy(theirs.target)).all()


def test_small_digits_come_in_three_splits_whose_order_never_changes():
    first = [SmallDigits().images(s) for s in SPLITS]
    assert [tuple(images.shape) for images in first] == [(n, 1, 28, 28) for n in (1000, 297, 500)]
    assert [images.max() for images in first] == [255] * 3
    torch.manual_seed(99)
    labelled._small_digits.cache_clear()
    assert all(
        (SmallDigits().images(s) == images).all() for s, images in zip(SPLITS, first, strict=True)
    )
    assert all(SmallDigits().labels(s).bincount(minlength=10).min() > 15 for s in SPLITS)
