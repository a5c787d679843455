"""Boxes that go straight on, in closed form."""

import pytest
import torch

from common.errors import InputError
from common.metrics.detection import Detections
from video_ode.objects.detection.tracking import constant_velocity, matched

TIMES = torch.tensor([0.0, 1, 3])
SIZE = (100, 200)


def found(*boxes, classes=None):
    n = len(boxes)
    names = torch.zeros(n, dtype=torch.int64) if classes is None else torch.tensor(classes)
    return Detections(torch.tensor(boxes).reshape(n, 4), torch.linspace(0.9, 0.5, n), names)


def moving(t):
    """A box that moves by 2 pixels a frame and grows by 1."""
    return [10.0 + 2 * t, 20.0, 40.0 + 3 * t, 50.0 + t]


def standing():
    return [100.0, 30.0, 130.0, 60.0]


def test_boxes_go_straight_on():
    frames = [
        found(moving(0), standing()),
        found(standing(), moving(1)),  # in another order
        found(moving(3), standing()),
    ]
    later = constant_velocity(frames, TIMES, torch.tensor([4, 6.5]), SIZE)
    for time, one in zip((4, 6.5), later, strict=True):
        torch.testing.assert_close(one.boxes, torch.tensor([moving(time), standing()]))
        assert torch.equal(one.scores, frames[-1].scores)


def test_an_object_seen_once_stays():
    frames = [found(), found(standing()), found(moving(3), standing())]
    (later,) = constant_velocity(frames, TIMES, torch.tensor([5.0]), SIZE)
    torch.testing.assert_close(later.boxes, torch.tensor([moving(3), standing()]))


def test_an_object_that_is_lost_keeps_the_velocity_so_far():
    frames = [found(), found(moving(1)), found(moving(3))]
    (later,) = constant_velocity(frames, TIMES, torch.tensor([5.0]), SIZE)
    torch.testing.assert_close(later.boxes, torch.tensor([moving(5)]))


def test_boxes_end_at_the_edges_of_the_frame():
    frames = [found([176.0, 10, 186, 20], standing()), found([180.0, 10, 190, 20], standing())]
    targets = torch.tensor([4.0, 20.0])
    near, far = constant_velocity(frames, torch.tensor([0.0, 1]), targets, SIZE)
    assert near.boxes.tolist() == [[192.0, 10, 200, 20], standing()]
    assert far.boxes.tolist() == [standing()]  # the other one has left


def test_pairs_are_of_one_class_and_each_box_has_one_partner():
    one = found(standing(), standing(), [0.0, 0.0, 9.0, 9.0], classes=[0, 1, 0])
    other = found(standing(), [101.0, 30.0, 131.0, 60.0], classes=[1, 1])
    assert matched(one, other).tolist() == [-1, 0, -1]
    assert matched(one, found()).tolist() == [-1, -1, -1]
    assert matched(found(), one).tolist() == []


def test_other_numbers_of_frames_are_refused():
    with pytest.raises(InputError, match="got 1 frames and 3 times"):
        constant_velocity([found()], TIMES, torch.tensor([5.0]), SIZE)
    with pytest.raises(InputError, match="got 0 frames"):
        constant_velocity([], TIMES[:0], torch.tensor([5.0]), SIZE)
