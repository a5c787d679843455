"""Object detection: intersection over union, non-maximum suppression, average precision."""

from typing import Any, NamedTuple, TypedDict

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from common.errors import InputError, check_shares
from common.typing import Boxes, Flags, Integers, PerSample

# By numpy, as pycocotools: those of torch differ in the last bit, which decides at equality.
IOU_THRESHOLDS = torch.from_numpy(np.linspace(0.5, 0.95, 10))
RECALLS = torch.from_numpy(np.linspace(0, 1, 101))
MOST_DETECTIONS = 100  # of one class in one picture

RIGHT, WRONG, UNCOUNTED = 1, 0, -1  # what a detection is at one threshold


class Detections(NamedTuple):
    """Objects that a detector found in one picture.

    Attributes:
        boxes: Boxes `[n 4]` as `x1, y1, x2, y2`, in pixels, with `x1 <= x2` and `y1 <= y2`.
        scores: Confidences `[n]`; only their order counts.
        classes: Class indices `[n]`, int64.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor

    def check(self) -> None:
        """Raises an `InputError` for wrong shapes, types or boxes, or a NaN or infinite number."""
        _check_boxes(self.boxes)
        _check_column("scores", self.scores, "float", self.boxes)
        _check_column("classes", self.classes, "int64", self.boxes)
        if not self.scores.isfinite().all():
            raise InputError("got scores that are NaN or infinite; give finite numbers")


class Truths(NamedTuple):
    """Ground truth of one picture: its annotated objects.

    Attributes:
        boxes: Boxes `[n 4]` as `x1, y1, x2, y2`, in pixels, with `x1 <= x2` and `y1 <= y2`.
        classes: Class indices `[n]`, int64.
        ignored: Whether a box is an area to ignore, `[n]`, bool: a crowd (`iscrowd` of COCO,
            `crowd` of BDD100K) or an area without labels (`DontCare` of KITTI). Detections of its
            class in it are neither right nor wrong, and nobody has to find it.
    """

    boxes: Tensor
    classes: Tensor
    ignored: Tensor

    def check(self) -> None:
        """Raises an `InputError` for wrong shapes, types or boxes, or a NaN or infinite number."""
        _check_boxes(self.boxes)
        _check_column("classes", self.classes, "int64", self.boxes)
        _check_column("ignored", self.ignored, "bool", self.boxes)


class Precisions(TypedDict):
    """Results of `AveragePrecision`, from 0 to 1; NaN where there is no object to find.

    Attributes:
        map: Mean average precision (mAP) of COCO: the mean over classes and IoU thresholds.
        map50: Mean average precision at an IoU of 0.5: the mean over classes.
        ap50: Average precision at an IoU of 0.5, by class index.
    """

    map: float
    map50: float
    ap50: dict[int, float]


class AveragePrecision(Metric):
    """Mean average precision (mAP) as COCO defines it, for boxes of all sizes (Lin 2014).

    In each picture and class, detections take objects in the order of their scores: each takes the
    free object of the highest IoU if that reaches the threshold. The precision at 101 recalls from
    0 to 1 is the highest one at that recall or above it; its mean is the average precision (AP).
    `map` is its mean over the IoU thresholds 0.50, 0.55, … 0.95 and over all classes with objects.
    At most 100 detections of each class in a picture count: those of the highest scores.

    Results are those of pycocotools, but NaN where it gives -1. Detections of equal score count in
    the order in which they were added; over several devices, in the order of the devices.
    """

    full_state_update = False
    scores: list[Tensor]
    classes: list[Tensor]
    verdicts: list[Tensor]
    objects: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("scores", [], "cat")  # of all detections
        self.add_state("classes", [], "cat")
        self.add_state("verdicts", [], "cat")  # RIGHT, WRONG or UNCOUNTED, at each threshold
        self.add_state("objects", [], "cat")  # classes of the objects to find

    def update(self, detections: Detections, truths: Truths) -> None:
        """Adds one picture.

        Raises:
            InputError: Wrong shapes, types or boxes, or a NaN or infinite number.
        """
        detections.check()
        truths.check()
        self._add(detections, truths)

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gathers the pictures of all processes."""
        if not len(self.scores):  # the others expect tensors of the right types and shapes
            none = torch.zeros(0, dtype=torch.int64)
            boxes = torch.zeros(0, 4)
            self._add(Detections(boxes, none.float(), none), Truths(boxes, none, none.bool()))
        super().sync(*args, **kwargs)

    def compute(self) -> Precisions:
        """Precisions over all pictures that were added."""
        scores, classes, verdicts, objects = (
            dim_zero_cat(x).cpu() for x in (self.scores, self.classes, self.verdicts, self.objects)
        )
        order = scores.argsort(descending=True, stable=True)
        classes, verdicts = classes[order], verdicts[order]
        names = torch.cat([classes, objects]).unique().tolist()
        by_class = [
            _average_precision(verdicts[classes == k], int((objects == k).sum())) for k in names
        ]
        # A first row of NaN, so that without classes the means are NaN.
        table = torch.stack([torch.full((len(IOU_THRESHOLDS),), torch.nan).double(), *by_class])
        return {
            "map": table.nanmean().item(),
            "map50": table[:, 0].nanmean().item(),
            "ap50": dict(zip(names, table[1:, 0].tolist(), strict=True)),
        }

    def _add(self, detections: Detections, truths: Truths) -> None:
        # On the CPU, because objects are taken one after the other in many small steps.
        boxes, scores, classes = (x.detach().cpu() for x in detections)
        truths = Truths(*(x.cpu() for x in truths))
        order = scores.argsort(descending=True, stable=True)
        kept = [order[classes[order] == k][:MOST_DETECTIONS] for k in classes.unique()]
        order = torch.cat([order[:0], *kept])
        boxes, scores, classes = boxes[order], scores[order], classes[order]
        self.scores.append(scores.double().to(self.device))
        self.classes.append(classes.to(self.device))
        self.verdicts.append(_verdicts(boxes, classes, truths).to(self.device))
        self.objects.append(truths.classes[~truths.ignored].to(self.device))


def box_iou(a: Boxes, b: Boxes, ignored: Flags | None = None) -> Tensor:
    """Intersection over union (IoU) of all pairs of boxes: shared area by covered area, 0 to 1.

    Args:
        a: Boxes `[n 4]` as `x1, y1, x2, y2`.
        b: Boxes `[m 4]`.
        ignored: Which boxes of `b` are areas to ignore, `[m]`. Their number is the part of box `a`
            that lies in them, the rule of COCO for crowds. None: no box.

    Returns:
        `[n m]`, in float32 or, of boxes in float64, in float64; 0 where both boxes have no area.
    """
    a, b = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (a, b))
    sides = torch.minimum(a[:, None, 2:], b[:, 2:]) - torch.maximum(a[:, None, :2], b[:, :2])
    shared = sides.clamp(min=0).prod(2)
    area_a, area_b = ((x[:, 2:] - x[:, :2]).prod(1) for x in (a, b))
    covered = area_a[:, None] + area_b - shared
    if ignored is not None:
        covered = torch.where(ignored, area_a[:, None], covered)
    return shared / covered.where(covered > 0, 1)


def non_maximum_suppression(
    boxes: Boxes, scores: PerSample, classes: Integers, threshold: float = 0.5
) -> Tensor:
    """Non-maximum suppression (NMS) by class: of boxes that overlap, the best one is kept.

    Boxes are taken in the order of their scores, and those of equal score in the given order. Each
    box that is kept removes all later ones of its class whose IoU with it is above the threshold.
    The memory grows with n²: give some thousands of boxes at most.

    Args:
        boxes: Boxes `[n 4]` as `x1, y1, x2, y2`.
        scores: Confidences `[n]`.
        classes: Class indices `[n]`, int64.
        threshold: Largest IoU of two boxes that are both kept, 0 to 1.

    Returns:
        Indices of the kept boxes, from the highest score to the lowest.

    Raises:
        InputError: Wrong shapes, types, boxes or threshold, or a NaN or infinite number.
    """
    check_shares(threshold=threshold)
    Detections(boxes, scores, classes).check()
    order = scores.argsort(descending=True, stable=True)
    boxes, classes = boxes[order], classes[order]
    overlaps = (box_iou(boxes, boxes) > threshold) & (classes[:, None] == classes)
    overlaps = overlaps.triu(1).cpu()  # one transfer instead of one for each box
    kept = torch.ones(len(boxes), dtype=torch.bool)
    for k in overlaps.any(1).nonzero().flatten().tolist():
        if kept[k]:
            kept &= ~overlaps[k]
    return order[kept.to(order.device)]


def _verdicts(boxes: Tensor, classes: Tensor, truths: Truths) -> Tensor:
    """Verdicts on detections `[n, thresholds]`; those of the highest score come first."""
    # In float64, because equality with a threshold decides.
    iou = box_iou(boxes.double(), truths.boxes.double(), truths.ignored)
    iou = iou.where(classes[:, None] == truths.classes, 0)
    areas = iou[:, truths.ignored]
    # Of equal IoUs pycocotools takes the last one, `max` the first one: hence the flip.
    iou = iou[:, ~truths.ignored].flip(1)
    reached = (areas[:, :, None] >= IOU_THRESHOLDS).any(1)
    verdicts = torch.where(reached, UNCOUNTED, WRONG).to(torch.int8)
    free = torch.ones(len(IOU_THRESHOLDS), iou.shape[1], dtype=torch.bool)
    for k in (iou >= IOU_THRESHOLDS[0]).any(1).nonzero().flatten().tolist():
        best, place = iou[k].where(free, -1).max(1)
        right = best >= IOU_THRESHOLDS
        verdicts[k, right] = RIGHT
        free[right, place[right]] = False
    return verdicts


def _average_precision(verdicts: Tensor, n_objects: int) -> Tensor:
    """AP at each threshold, from verdicts `[n, thresholds]` in the order of the scores."""
    if not n_objects:
        return torch.full((len(IOU_THRESHOLDS),), torch.nan).double()
    right, wrong = ((verdicts == kind).T.cumsum(1).double() for kind in (RIGHT, WRONG))
    precision = right / (right + wrong).clamp(min=1)
    highest = precision.flip(1).cummax(1).values.flip(1)
    # A recall that is never reached has the place after the last one, and precision 0.
    highest = torch.cat([highest, highest.new_zeros(len(highest), 1)], 1)
    places = torch.searchsorted(right / n_objects, RECALLS.expand(len(highest), -1).contiguous())
    return highest.gather(1, places).mean(1)


def _check_boxes(boxes: Tensor) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not boxes.is_floating_point():
        raise InputError(
            f"got boxes of {boxes.dtype} {tuple(boxes.shape)}; give float [n 4] as x1, y1, x2, y2"
        )
    if not boxes.isfinite().all():
        raise InputError("got boxes that are NaN or infinite; give finite numbers")
    turned = (boxes[:, 2:] < boxes[:, :2]).any(1)
    if turned.any():
        raise InputError(
            f"got the box {boxes[turned][0].tolist()}; give x1, y1, x2, y2 with x1 <= x2 and "
            "y1 <= y2"
        )


def _check_column(name: str, column: Tensor, wanted: str, boxes: Tensor) -> None:
    kind = "float" if column.is_floating_point() else str(column.dtype).removeprefix("torch.")
    if column.shape != boxes.shape[:1] or kind != wanted:
        raise InputError(
            f"got {name} of {column.dtype} {tuple(column.shape)} for {len(boxes)} boxes; give "
            f"{wanted} [{len(boxes)}]"
        )
