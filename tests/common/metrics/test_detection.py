import contextlib
import io
import math
import time

import pytest
import torch
import torch.distributed as dist
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch.multiprocessing import start_processes

from common.errors import InputError
from common.metrics.detection import (
    AveragePrecision,
    Detections,
    Truths,
    box_iou,
    non_maximum_suppression,
)

NO_BOX = torch.zeros(0, 4)
NO_CLASS = torch.zeros(0, dtype=torch.int64)
NOTHING = Detections(NO_BOX, torch.zeros(0), NO_CLASS)
EMPTY = Truths(NO_BOX, NO_CLASS, torch.zeros(0, dtype=torch.bool))


def boxes(count, side=60, whole=False):
    """Random boxes; of whole pixels, so that equal IoUs are frequent, or of real numbers."""
    corner = torch.rand(count, 2) * side
    both = torch.cat([corner, corner + torch.rand(count, 2) * 20], 1)
    return both.round() if whole else both


def picture(n_boxes, n_found, n_classes=3, whole=False):
    """A random picture: moved boxes, wrong ones, ignored ones, and equal scores if `whole`."""
    n = int(torch.randint(n_boxes + 1, ()))
    truths = Truths(boxes(n, whole=whole), torch.randint(n_classes, (n,)), torch.rand(n) < 0.2)
    d = int(torch.randint(n_found + 1, ()))
    found, classes = boxes(d, whole=whole), torch.randint(n_classes + 1, (d,))
    if n:
        source = torch.randint(n, (d,))
        near = (torch.rand(d) < 0.7)[:, None]
        moved = truths.boxes[source] + (1.5 * torch.randn(d, 2)).repeat(1, 2)
        found = torch.where(near, moved.round() if whole else moved, found)
        classes = torch.where(near[:, 0], truths.classes[source], classes)
    scores = torch.rand(d)
    return Detections(found, (4 * scores).round() / 4 if whole else scores, classes), truths


def coco(pictures, side):
    """COCO's data set of one side, 0: detections, 1: ground truth; ids are from 1 on."""
    rows = []
    for image, pair in enumerate(pictures):
        both = pair[side].boxes.double()
        sizes = torch.cat([both[:, :2], both[:, 2:] - both[:, :2]], 1).tolist()
        extra = pair[1].ignored.int() if side else pair[0].scores.double()
        for box, k, more in zip(sizes, pair[side].classes.tolist(), extra.tolist(), strict=True):
            row = {"id": len(rows) + 1, "image_id": image, "category_id": k, "bbox": box}
            row["area"] = box[2] * box[3]
            rows.append(row | ({"iscrowd": more} if side else {"iscrowd": 0, "score": more}))
    data = COCO()
    data.dataset = {
        "images": [{"id": image} for image in range(len(pictures))],
        "categories": [{"id": k} for k in range(5)],
        "annotations": rows,
    }
    data.createIndex()
    return data


def by_pycocotools(pictures):
    """map, map50 and AP50 of the five classes, by pycocotools; -1 without an object."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(coco(pictures, 1), coco(pictures, 0), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ap50 = evaluation.eval["precision"][0, :, :, 0, -1].mean(0)
    return [*evaluation.stats[:2].tolist(), *ap50.tolist()]


def ours(pictures):
    metric = AveragePrecision()
    for detections, truths in pictures:
        metric.update(detections, truths)
    return numbers(metric)


def numbers(metric):
    got = metric.compute()
    every = [got["map"], got["map50"], *(got["ap50"].get(k, math.nan) for k in range(5))]
    return [-1.0 if math.isnan(number) else number for number in every]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_average_precision_is_that_of_pycocotools(seed, whole):
    torch.manual_seed(seed)
    n_pictures, n_boxes, n_found = (int(torch.randint(top, ())) for top in (12, 15, 25))
    pictures = [picture(n_boxes, n_found, whole=whole) for _ in range(n_pictures + 1)]
    assert ours(pictures) == pytest.approx(by_pycocotools(pictures), abs=1e-9)


@pytest.mark.parametrize("n_classes", [1, 3])
def test_only_100_detections_of_a_class_in_a_picture_count(n_classes):
    pictures = [picture(40, 600, n_classes, whole=True) for _ in range(4)]
    assert max(len(detections.boxes) for detections, _ in pictures) > 100 * (n_classes + 1)
    assert ours(pictures) == pytest.approx(by_pycocotools(pictures), abs=1e-9)


@pytest.mark.parametrize(
    "empty", [lambda d, t: (NOTHING, t), lambda d, t: (d, EMPTY), lambda d, t: (NOTHING, EMPTY)]
)
def test_sides_without_boxes_are_scored_as_by_pycocotools(empty):
    pictures = [empty(*picture(10, 10)) for _ in range(6)]
    assert ours(pictures) == pytest.approx(by_pycocotools(pictures), abs=1e-9)
    mixed = pictures + [picture(10, 10) for _ in range(3)]
    assert ours(mixed) == pytest.approx(by_pycocotools(mixed), abs=1e-9)


@pytest.mark.parametrize(("height", "thresholds"), [(9, 0), (10, 1), (15, 6), (16, 7), (20, 10)])
def test_an_iou_at_the_threshold_is_enough(height, thresholds):
    box = torch.tensor([[0.0, 0, 10, 20]])
    truth = Truths(box, NO_CLASS.new_zeros(1), torch.zeros(1).bool())
    part = torch.tensor([[0.0, 0, 10, height]])  # its IoU is height / 20
    pictures = [(Detections(part, torch.ones(1), truth.classes), truth)]
    assert ours(pictures)[0] == pytest.approx(thresholds / 10, abs=1e-12)
    assert ours(pictures) == pytest.approx(by_pycocotools(pictures), abs=1e-9)


@pytest.mark.parametrize(("last", "map50"), [("left", 0.5), ("right", 1.0)])
def test_of_two_objects_of_equal_iou_the_last_one_is_taken(last, map50):
    # The first detection lies between both objects, the second one fits the left one only.
    left, between, right = ([x, 0.0, x + 10, 10] for x in (0.0, 3.0, 6.0))
    objects = torch.tensor([left, right] if last == "right" else [right, left])
    truths = Truths(objects, NO_CLASS.new_zeros(2), torch.zeros(2).bool())
    found = torch.tensor([between, left])
    pictures = [(Detections(found, torch.tensor([0.9, 0.8]), truths.classes), truths)]
    assert ours(pictures) == pytest.approx(by_pycocotools(pictures), abs=1e-9)
    assert ours(pictures)[1] == pytest.approx(map50, abs=0.01)


def test_precision_is_nan_without_objects():
    metric = AveragePrecision()
    metric.update(picture(9, 9)[0], EMPTY)
    got = metric.compute()
    assert math.isnan(got["map"])
    assert math.isnan(got["map50"])
    assert got["ap50"]
    assert all(math.isnan(ap) for ap in got["ap50"].values())


@pytest.mark.filterwarnings("ignore:.*before the ``update`` method")
def test_precision_without_pictures_is_nan():
    got = AveragePrecision().compute()
    assert math.isnan(got["map"])
    assert got["ap50"] == {}


def test_parts_merge_to_the_whole():
    pictures = [picture(10, 20, whole=True) for _ in range(9)]
    parts = [AveragePrecision(), AveragePrecision()]
    whole = AveragePrecision()
    for k, pair in enumerate(pictures):
        parts[k < 4].update(*pair)
        whole.update(*pair)
    parts[0].merge_state(parts[1])
    assert numbers(parts[0]) == numbers(whole)
    whole.reset()
    whole.update(*pictures[0])
    assert numbers(whole) == ours(pictures[:1])


def process(rank, store, share):
    """One of two processes: the first one has `share` of nine pictures, the other one the rest."""
    dist.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    pictures = [picture(10, 20) for _ in range(9)]
    metric = AveragePrecision()
    for pair in pictures[:share] if rank == 0 else pictures[share:]:
        metric.update(*pair)
    got = numbers(metric)
    dist.destroy_process_group()
    assert got == ours(pictures)


@pytest.mark.filterwarnings("ignore:.*before the ``update`` method")
@pytest.mark.parametrize("share", [4, 9])
def test_two_processes_score_their_pictures_together(share, tmp_path):
    arguments = (tmp_path / "store", share)
    start_processes(process, arguments, nprocs=2, start_method="fork")


def test_500_pictures_of_20_boxes_take_a_moment():
    pictures = [picture(20, 40) for _ in range(500)]
    start = time.process_time()
    ours(pictures)
    assert time.process_time() - start < 5  # about 1 s


# IoU ----------------------------------------------------------------------------------------


def areas(box):
    return (box[2] - box[0]) * (box[3] - box[1])


@pytest.mark.usefixtures("double")
def test_iou_is_shared_by_covered_area():
    a, b, ignored = boxes(20, whole=True), boxes(15, whole=True), torch.rand(15) < 0.5
    a[3, 2:], b[:2] = a[3, :2], a[3].repeat(2, 1)  # a point, and the same point
    b[1, 2:] += 3
    iou, part = box_iou(a, b), box_iou(a, b, ignored)
    for i, p in enumerate(a.tolist()):
        for j, q in enumerate(b.tolist()):
            x, y = (min(p[k + 2], q[k + 2]) - max(p[k], q[k]) for k in (0, 1))
            shared = max(x, 0) * max(y, 0)
            covered = areas(p) + areas(q) - shared
            assert iou[i, j] == (shared / covered if covered else 0)
            covered = areas(p) if ignored[j] else covered
            assert part[i, j] == (shared / covered if covered else 0)


def test_iou_of_half_precision_does_not_overflow():
    box = torch.tensor([[0, 0, 640, 480]]).half()
    assert box_iou(box, box) == 1


def test_iou_has_a_finite_gradient_also_without_area():
    a, b = torch.zeros(2, 4, requires_grad=True), torch.zeros(3, 4)
    box_iou(a, b).sum().backward()
    assert a.grad.isfinite().all()


# NMS ----------------------------------------------------------------------------------------


def naive(both, scores, classes, threshold):
    """Kept indices by the definition, box by box."""
    kept = []
    for k in sorted(range(len(scores)), key=lambda k: -scores[k]):
        rivals = [j for j in kept if classes[j] == classes[k]]
        if all(box_iou(both[[j]], both[[k]]) <= threshold for j in rivals):
            kept.append(k)
    return kept


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 1.0])
def test_suppression_is_that_of_the_definition(seed, threshold):
    torch.manual_seed(seed)
    n = int(torch.randint(50, ()))
    both, classes = boxes(n, side=20, whole=True), torch.randint(3, (n,))
    scores = (8 * torch.rand(n)).round() / 8
    kept = non_maximum_suppression(both, scores, classes, threshold)
    assert kept.tolist() == naive(both, scores.tolist(), classes.tolist(), threshold)


def test_suppression_of_a_suppressed_box_does_not_count():
    row = torch.tensor([[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]])
    scores, classes = torch.tensor([0.7, 0.8, 0.9]), torch.zeros(3, dtype=torch.int64)
    assert non_maximum_suppression(row, scores, classes, 0.3).tolist() == [2, 0]
    assert non_maximum_suppression(row, scores, torch.arange(3), 0.3).tolist() == [2, 1, 0]


# Mistakes -----------------------------------------------------------------------------------

ONE = torch.tensor([[0.0, 0, 1, 1]])
ZERO = torch.zeros(1, dtype=torch.int64)


@pytest.mark.parametrize(
    ("detections", "message"),
    [
        (Detections(ONE[0], torch.ones(1), ZERO), r"boxes of torch.float32 \(4,\)"),
        (Detections(ONE.long(), torch.ones(1), ZERO), "boxes of torch.int64"),
        (Detections(ONE * math.nan, torch.ones(1), ZERO), "boxes that are NaN"),
        (Detections(ONE[:, [2, 1, 0, 3]], torch.ones(1), ZERO), r"the box \[1.0, 0.0, 0.0, 1.0\]"),
        (Detections(ONE[:, [0, 3, 2, 1]], torch.ones(1), ZERO), "y1 <= y2"),
        (Detections(ONE, torch.ones(2), ZERO), r"scores of torch.float32 \(2,\) for 1 boxes"),
        (Detections(ONE, ZERO, ZERO), "give float"),
        (Detections(ONE, torch.tensor([math.inf]), ZERO), "scores that are NaN"),
        (Detections(ONE, torch.ones(1), ZERO.int()), "give int64"),
        (Detections(ONE, torch.ones(1), ZERO[None]), r"classes of torch.int64 \(1, 1\)"),
    ],
)
def test_wrong_detections_are_refused(detections, message):
    with pytest.raises(InputError, match=message):
        AveragePrecision().update(detections, EMPTY)


@pytest.mark.parametrize(
    ("truths", "message"),
    [
        (Truths(ONE[:, :3], ZERO, torch.zeros(1).bool()), r"give float \[n 4\]"),
        (Truths(ONE, ZERO[:0], torch.zeros(1).bool()), r"classes of torch.int64 \(0,\)"),
        (Truths(ONE, ZERO, ZERO), "ignored of torch.int64"),
    ],
)
def test_wrong_truths_are_refused(truths, message):
    with pytest.raises(InputError, match=message):
        AveragePrecision().update(NOTHING, truths)


@pytest.mark.parametrize("threshold", [-0.1, 1.5, math.nan])
def test_wrong_thresholds_of_suppression_are_refused(threshold):
    with pytest.raises(InputError, match="threshold"):
        non_maximum_suppression(ONE, torch.ones(1), ZERO, threshold)


def test_suppression_refuses_wrong_boxes():
    with pytest.raises(InputError, match="the box"):
        non_maximum_suppression(ONE.flip(1), torch.ones(1), ZERO)
