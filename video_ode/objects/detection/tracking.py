"""Tracking of detections by their overlap, and boxes that go straight on."""

from collections.abc import Sequence

import torch
from torch import Tensor

from common.errors import InputError
from common.metrics.detection import Detections, box_iou
from common.typing import Integers, Times

SAME = 0.2  # IoU from which detections of a class in two neighbouring frames are one object


def matched(boxes: Detections, others: Detections) -> Integers:
    """Index of the detection in another frame that is the same object, `[n]`; -1: none.

    Pairs of a class are taken in the order of their IoU, each detection once.
    """
    iou = box_iou(boxes.boxes, others.boxes)
    iou = iou.where(boxes.classes[:, None] == others.classes, 0)
    partner = torch.full_like(boxes.classes, -1)
    for place in iou.flatten().argsort(descending=True).tolist():
        i, j = divmod(place, iou.shape[1])
        if iou[i, j] < SAME:
            break
        if partner[i] < 0 and not bool((partner == j).any()):
            partner[i] = j
    return partner


def constant_velocity(
    found: Sequence[Detections], times: Times, targets: Times, size: tuple[int, int]
) -> list[Detections]:
    """Detections at later times: each box of the last frame goes on as it did in the given frames.

    The velocity of each edge is the mean one since the first frame in which the object was
    followed; an object that was seen once stays where it is.

    Args:
        found: Detections in the given frames of a video.
        times: Times of these frames, `[t]`.
        targets: Later times, `[k]`.
        size: Height and width of a frame in pixels, at which boxes are cut.

    Raises:
        InputError: No frame, or another number of times.
    """
    if not len(found) or len(found) != len(times):
        raise InputError(
            f"got {len(found)} frames and {len(times)} times; give one or more of both"
        )
    last = found[-1]
    velocity = torch.zeros_like(last.boxes)
    place = torch.arange(len(last.classes), device=velocity.device)
    for k in reversed(range(len(found) - 1)):
        step = matched(found[k + 1], found[k])
        place = torch.where(place >= 0, _taken(step, place), place)
        seen = place >= 0
        moved = last.boxes[seen] - found[k].boxes[place[seen]]
        velocity[seen] = moved / float(times[-1] - times[k])
    limits = last.boxes.new_tensor([size[1], size[0]] * 2)
    later = []
    for time in targets:
        boxes = (last.boxes + velocity * float(time - times[-1])).clamp(min=0).minimum(limits)
        there = (boxes[:, 2:] > boxes[:, :2]).all(1)
        later.append(Detections(boxes[there], last.scores[there], last.classes[there]))
    return later


def _taken(values: Tensor, places: Tensor) -> Tensor:
    """Values at these places; at places below 0 any."""
    return values[places.clamp(min=0)] if len(values) else torch.full_like(places, -1)
