import math

import numpy as np
import pytest
import torch

from common.errors import InputError
from mimic.supervised.data.factors import FactorData, factors_of
from mimic.supervised.data.labelled import Labelled

SPLITS = ("train", "val", "test")
SIZES = [(7,), (3, 2, 5, 4), (10, 10, 10, 8, 4, 15), (3, 6, 40, 32, 32)]


class Numbered(FactorData):
    """Image k is [k // 256, k % 256], so that it tells its index."""

    shape = (1, 1, 2)
    factor_names = ("a", "b", "c", "d")
    factor_sizes = (3, 2, 25, 4)

    def read(self, indices):
        assert (indices.diff() > 0).all()
        return torch.stack([indices // 256, indices % 256], -1).byte().reshape(-1, 1, 1, 2)


def made(n_train=100, n_val=30, n_test=50, **settings):
    return Numbered(n_train, n_val, n_test, **settings)


def shown(images):
    return (images[..., 0].long() * 256 + images[..., 1].long()).flatten().tolist()


# Indices ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_factors_are_the_digits_of_the_index(sizes):
    indices = torch.randint(math.prod(sizes), (500,))
    expected = np.stack(np.unravel_index(indices.numpy(), sizes), 1)
    assert (factors_of(indices, sizes).numpy() == expected).all()


def test_every_combination_has_an_index_of_its_own():
    sizes = (3, 2, 5, 4)
    everything = torch.arange(120)
    factors = factors_of(everything, sizes)
    assert len(factors.unique(dim=0)) == 120
    assert (factors == torch.cartesian_prod(*map(torch.arange, sizes))).all()


def test_no_images_have_no_factors():
    assert factors_of(torch.tensor([], dtype=torch.int64), (3, 2)).shape == (0, 2)


@pytest.mark.parametrize("bad", [-1, 120])
def test_indices_that_cannot_be_are_refused(bad):
    with pytest.raises(InputError, match=rf"{bad}.* 0 to 119"):
        factors_of(torch.tensor([3, bad]), (3, 2, 5, 4))


# Splits -------------------------------------------------------------------------------------


def test_every_image_is_served_with_its_factors():
    data = made(batch_size=10)
    for stage, split in (("fit", "train"), ("fit", "val"), ("test", "test")):
        data.setup(stage)
        batches = list(getattr(data, f"{split}_dataloader")())
        assert all(isinstance(batch, Labelled) for batch in batches)
        images, labels = (torch.cat(part) for part in zip(*batches, strict=True))
        assert labels.dtype == torch.int64
        expected = np.stack(np.unravel_index(shown(images), data.factor_sizes), 1)
        assert (labels.numpy() == expected).all()
        assert sorted(shown(images)) == sorted(data.indices(split).tolist())


def test_splits_are_disjoint_and_as_large_as_asked_for():
    data = made()
    chosen = [data.indices(split).tolist() for split in SPLITS]
    assert [len(part) for part in chosen] == [100, 30, 50]
    assert len(set().union(*chosen)) == 180


def test_all_images_may_be_used():
    data = made(400, 100, 100)
    together = torch.cat([data.indices(split) for split in SPLITS])
    assert together.sort().values.tolist() == list(range(600))


def test_the_choice_depends_on_the_split_seed_alone():
    torch.manual_seed(5)
    first = made().dataset("train")
    torch.manual_seed(6)
    again = made().dataset("train")
    assert (again.images.images == first.images.images).all()
    assert (again.labels == first.labels).all()
    assert made(split_seed=1).indices("train").tolist() != made().indices("train").tolist()


@pytest.mark.parametrize("split", ["val", "test"])
def test_more_training_images_leave_the_others_as_they_are(split):
    assert (made(100).indices(split) == made(300).indices(split)).all()


def test_more_images_than_there_are_are_refused():
    data = made(500, 60, 41)
    with pytest.raises(InputError, match=r"n_train 500 = 601, Numbered has 600 images"):
        data.setup("fit")


@pytest.mark.parametrize("bad", [{"n_train": 0}, {"n_val": -1}, {"n_test": 0}])
def test_counts_below_one_are_refused(bad):
    with pytest.raises(InputError, match=f"got {next(iter(bad))}"):
        made(**bad)


def test_mirror_images_are_refused():
    with pytest.raises(TypeError, match="flip"):
        made(flip=True)
