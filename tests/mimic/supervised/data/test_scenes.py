import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier

from common.data.streets import STREET_CLASSES
from common.errors import InputError
from mimic.supervised.data.labelled import Labelled
from mimic.supervised.data.scenes import RenderedScenes

ROAD, PAVEMENT, BUILDING, TREE, SKY, PERSON, CAR = range(7)
FEW = {"n_train": 100, "n_val": 20, "n_test": 40, "batch_size": 10}


def served(split, *domains, **settings):
    """All scenes of a split as one batch."""
    data = RenderedScenes(*domains, **{**FEW, **settings})
    stack = data.dataset(split)
    return stack.__getitems__(list(range(len(stack))))


@pytest.fixture(scope="module")
def day():
    return served("train", "day")


@pytest.fixture(scope="module")
def night():
    return served("train", "night")


@pytest.mark.parametrize("size", [(48, 64), (32, 64), (40, 30)])
def test_every_pixel_has_a_class(size):
    data = RenderedScenes(size=size, **FEW)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert isinstance(batch, Labelled)
    assert data.shape == (3, *size)
    assert batch.images.shape == (10, *data.shape)
    assert batch.images.dtype == torch.uint8
    assert batch.labels.shape == (10, *size)
    assert batch.labels.dtype == torch.int64
    assert 0 <= batch.labels.min() <= batch.labels.max() < data.n_classes


def test_every_class_is_seen_often(day):
    shares = day.labels.flatten().bincount(minlength=7) / day.labels.numel()
    assert RenderedScenes.n_classes == len(RenderedScenes.class_names) == len(STREET_CLASSES) == 7
    assert shares.min() > 0.01
    seen = torch.stack([(day.labels == c).flatten(1).any(1) for c in range(7)]).double().mean(1)
    assert seen.min() > 0.75


def test_a_scene_is_fixed_by_split_and_number(day):
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002  the state that nothing should depend on
    again = served("train", "day")
    fewer = served("train", "day", n_train=7)
    assert (again.images == day.images).all()
    assert (fewer.images == day.images[:7]).all()
    assert (fewer.labels == day.labels[:7]).all()
    others = served("val"), served("test")
    assert all((other.labels != day.labels[: len(other.labels)]).any() for other in others)


def test_no_two_scenes_are_alike(day):
    assert len({labels.numpy().tobytes() for labels in day.labels}) == len(day.labels)


def test_domains_share_layouts_but_not_looks(day, night):
    assert (night.labels == day.labels).all()
    assert night.images.double().mean() < 0.7 * day.images.double().mean()


def test_the_test_domain_changes_the_test_split_alone():
    for split in ("train", "val"):
        assert (served(split, "day", "night").images == served(split, "day").images).all()
    crossed = served("test", "day", "night")
    assert (crossed.images == served("test", "night").images).all()
    assert (crossed.labels == served("test", "day").labels).all()
    assert (crossed.images != served("test", "day").images).any()


def test_streets_are_the_right_way_up(day):
    height = day.labels.shape[1]
    rows = torch.arange(height).reshape(1, -1, 1).expand_as(day.labels)
    middle = [rows[day.labels == c].double().mean().item() / height for c in range(7)]
    assert middle[SKY] < middle[BUILDING] < middle[CAR] < middle[ROAD]
    assert middle[TREE] < middle[PERSON] < middle[PAVEMENT]
    assert (day.labels[:, -1] != SKY).all()


def test_sky_is_brightest_by_day_and_lamps_by_night(day, night):
    light = [batch.images.double().mean(1) for batch in (day, night)]
    sky, rest = (light[0][day.labels == SKY].mean(), light[0][day.labels != SKY].mean())
    assert sky > 1.4 * rest
    lamps = (light[1] > 150) & ((night.labels == BUILDING) | (night.labels == CAR))
    assert lamps.sum() > 0.8 * (light[1] > 150).sum() > 0


def test_a_pixel_has_the_class_that_covers_most_of_it():
    """Each pixel of a scene against the sixteen of the same scene drawn four times as large."""
    coarse, fine = (served("val", n_val=8, size=size).labels for size in ((48, 64), (192, 256)))
    blocks = fine.reshape(-1, 48, 4, 64, 4).permute(0, 1, 3, 2, 4).flatten(3)
    shares = torch.nn.functional.one_hot(blocks, 7).double().mean(3)
    clear = shares.amax(-1) > 0.65
    assert (shares.argmax(-1) == coarse)[clear].double().mean() > 0.998
    assert (shares.gather(-1, coarse[..., None]) > 0.3).double().mean() > 0.99


def features(batch):
    """Of each pixel its colour, that of what surrounds it, and its place; and its class."""
    images = batch.images.float()
    around = torch.nn.functional.avg_pool2d(images, 5, stride=1, padding=2)
    y, x = (g.expand(len(images), 1, -1, -1) for g in torch.meshgrid(
        torch.arange(images.shape[2]), torch.arange(images.shape[3]), indexing="ij"))  # fmt: skip
    pixels = torch.cat([images, around, y, x], 1).movedim(1, -1).reshape(-1, 8)[::17]
    return pixels.numpy(), batch.labels.reshape(-1)[::17].numpy()


def test_what_is_learnt_in_one_domain_fails_in_the_other(day):
    learnt = RandomForestClassifier(20, max_depth=12, random_state=0).fit(*features(day))
    same, other = (learnt.score(*features(served("test", domain))) for domain in ("day", "night"))
    assert same > 0.8
    assert other < same - 0.2


def test_mirror_images_come_with_mirrored_labels():
    data = RenderedScenes(flip=True, **{**FEW, "batch_size": 100})
    stack = data.dataset("train")
    plain, mirrored = stack.__getitems__([4, 9]), stack.__getitems__([104, 109])
    assert (mirrored.images == plain.images.flip(-1)).all()
    assert (mirrored.labels == plain.labels.flip(-1)).all()
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    known = {
        image.numpy().tobytes(): labels
        for image, labels in zip(stack.images.images, stack.labels, strict=True)
    }
    kept = sum(image.numpy().tobytes() in known for image in batch.images)
    assert 20 < kept < 80


@pytest.mark.parametrize(
    "bad",
    [
        {"domain": "dusk"},
        {"test_domain": "dusk"},
        {"size": (8, 64)},
        {"n_train": 0},
        {"n_test": -1},
    ],
)
def test_settings_that_cannot_be_are_refused(bad):
    build = getattr(RenderedScenes.__init__, "__wrapped__", RenderedScenes.__init__)
    with pytest.raises(InputError, match=r"got (domain dusk|size|n_)"):
        build(object.__new__(RenderedScenes), **bad)
