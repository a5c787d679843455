"""Driving scenes: boxes, masks and optical flow agree with the pictures at any real time."""

import itertools

import numpy as np
import pytest
import torch

from common.data.driving.scene import EMPTY, OBJECT_CLASSES, DrivingScene
from common.data.streets import NIGHT, STREET_CLASSES
from common.errors import InputError


@pytest.fixture(scope="module")
def scenes():
    return [DrivingScene(number, seed=3) for number in range(6)]


def same(one, other):
    parts = zip((*one[:4], *one.objects), (*other[:4], *other.objects), strict=True)
    return all(np.array_equal(a, b) for a, b in parts)


def test_number_seed_and_time_alone_determine_a_picture(scenes):
    again = DrivingScene(1, seed=3)
    again.at(7.25)
    assert same(again.at(2.5), scenes[1].at(2.5))
    assert not same(DrivingScene(1, seed=4).at(2.5), scenes[1].at(2.5))
    assert not same(scenes[2].at(2.5), scenes[1].at(2.5))


def test_lighting_changes_the_picture_alone(scenes):
    night, day = DrivingScene(0, seed=3, lighting=NIGHT).at(4.0), scenes[0].at(4.0)
    assert night.image.mean() < 0.7 * day.image.mean()
    assert same(night._replace(image=day.image), day)


@pytest.mark.parametrize("size", [(128, 128), (48, 96), (16, 16)])
def test_pictures_have_the_size_asked_for(size):
    picture = DrivingScene(0, size=size).at(-3.5)
    assert (picture.image.shape, picture.image.dtype) == ((3, *size), np.uint8)
    assert (picture.labels.shape, picture.labels.dtype) == (size, np.uint8)
    assert (picture.depth.shape, picture.depth.dtype) == (size, np.float32)
    assert picture.instances.shape == size
    assert (np.isinf(picture.depth) == (picture.labels == STREET_CLASSES.index("sky"))).all()
    with pytest.raises(InputError, match="16 pixels or more"):
        DrivingScene(0, size=(8, 64))


def test_boxes_enclose_the_pixels_of_their_objects(scenes):
    whole = 0
    for scene in scenes:
        for time in (0.0, 3.3, 11.0):
            picture = scene.at(time)
            objects = picture.objects
            assert (np.diff(objects.depth) >= 0).all()
            for box, seen, inside, identity in zip(
                objects.boxes, objects.visible, objects.inside, objects.ids, strict=True
            ):
                rows, columns = (picture.instances == identity).nonzero()
                left, top, right, bottom = box
                if len(rows):
                    assert left - 1 <= columns.min() <= columns.max() + 1 <= right + 1
                    assert top - 1 <= rows.min() <= rows.max() + 1 <= bottom + 1
                if seen > 0.97 and inside == 1:
                    whole += 1
                    edges = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
                    np.testing.assert_allclose(box, edges, atol=1.5)
    assert whole > 10


def test_classes_of_objects_are_those_of_their_pixels(scenes):
    kinds = {"pedestrian": "person", "car": "car"}
    for scene in scenes:
        picture = scene.at(5.0)
        objects = zip(picture.objects.ids, picture.objects.classes, strict=True)
        names = {identity: kinds[OBJECT_CLASSES[k]] for identity, k in objects}
        for identity in np.unique(picture.instances[picture.instances != EMPTY]):
            labels = picture.labels[picture.instances == identity]
            assert (labels == STREET_CLASSES.index(names[identity])).all()


def test_an_object_before_another_hides_it(scenes):
    hidden = [
        (objects.visible[0], objects.visible.min())
        for objects in (scene.at(t).objects for scene in scenes for t in (0.0, 4.0, 8.0))
        if len(objects.ids) and objects.inside[0] == 1
    ]
    assert all(nearest > 0.9 for nearest, _ in hidden)
    assert min(least for _, least in hidden) < 0.5


def warped(image, flow):
    """Picture sampled where the flow points to, bilinearly."""
    h, w = image.shape[1:]
    rows, columns = np.indices((h, w))
    at = np.stack([(columns + 0.5 + flow[0]) / w, (rows + 0.5 + flow[1]) / h], -1) * 2 - 1
    return torch.nn.functional.grid_sample(
        torch.from_numpy(image / 255).double()[None],
        torch.from_numpy(at)[None].double(),
        align_corners=False,
    )[0].numpy()


@pytest.mark.parametrize(("start", "end"), [(2.0, 3.0), (2.0, 2.25), (5.5, 3.0), (0.0, 4.0)])
def test_flow_leads_to_the_same_points_of_the_other_picture(start, end, scenes):
    with_flow, without = [], []
    for scene in scenes:
        flow, _, visible = scene.flow(start, end)
        first, last = scene.at(start).image, scene.at(end).image
        moved = visible & (np.abs(flow).max(0) > 1)
        with_flow.append(np.abs(warped(last, flow) - first / 255)[:, moved])
        without.append(np.abs(last / 255.0 - first / 255)[:, moved])
    with_flow, without = np.concatenate(with_flow, 1), np.concatenate(without, 1)
    assert with_flow.shape[1] > 500
    assert with_flow.mean() < 0.55 * without.mean()
    assert np.median(with_flow) < 0.02


def test_flow_is_linear_over_short_times_and_returns(scenes):
    for scene in scenes[:3]:
        short, long = (scene.flow(4.0, 4.0 + dt) for dt in (1e-3, 2e-3))
        np.testing.assert_allclose(2 * short.flow, long.flow, rtol=0.02, atol=1e-4)
        there, _, visible = scene.flow(4.0, 4.5)
        back = scene.flow(4.5, 4.0).flow
        returned = there + np.stack([warped(255.0 * back[k : k + 1], there)[0] for k in (0, 1)])
        assert np.median(np.abs(returned[:, visible])) < 0.05
        assert np.abs(scene.flow(4.0, 4.0).flow).max() < 1e-5


def test_ids_follow_objects_and_new_objects_have_new_ones(scenes):
    for scene in scenes[:3]:
        times = np.arange(0.0, 120.0, 0.5)
        places = [scene.world.at(t) for t in times]
        for before, after in itertools.pairwise(places):
            stays = before.ids == after.ids
            assert (np.abs(after.depth - before.depth)[stays] < 1).all()
            assert (np.abs(after.depth - before.depth)[~stays] > 10).all()
        ids = np.stack([place.ids for place in places])
        for thing in range(ids.shape[1]):
            others = np.delete(ids, thing, 1)
            assert not np.isin(ids[:, thing], others).any()
