"""Detectors that predict boxes from anchors at every place, as YOLO (Redmon & Farhadi 2018)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from common.errors import InputError
from common.metrics.detection import Detections, Truths, box_iou, non_maximum_suppression
from common.typing import Boxes, Integers
from video_ode.objects.detection.detector import Detector

MOST_CANDIDATES = 300  # boxes of a frame that go into the non-maximum suppression
MATCHING = 0.35  # IoU of the sizes of object and anchor from which the anchor predicts the object
TOLERATED = 0.5  # IoU with an object from which another box is no wrong one
Anchors = Sequence[Sequence[tuple[float, float]]]  # width and height; three a scale, finest first


class Predictions(NamedTuple):
    """Predictions of all anchors at all places of all scales, `[n a …]`.

    Attributes:
        boxes: Left, upper, right and lower edge in pixels, `[n a 4]`.
        objectness: Logit that there is an object, `[n a]`.
        classes: Logits of the classes, `[n a k]`.
    """

    boxes: Tensor
    objectness: Tensor
    classes: Tensor


class AnchorDetector(Detector):
    """Base of detectors with three anchors at each place of three scales.

    Each anchor predicts one box: its centre within the place, its size as a multiple of the
    anchor's, whether there is an object, and its class, by a 1 × 1 convolution of the features. As
    in later detectors, several anchors may predict one object, and boxes are trained by
    generalised IoU (Rezatofighi et al. 2019).

    Args:
        classes: Names of the classes.
        channels: Number of channels of the features at each scale, finest first.
        strides: Pixels of a frame for a place of the features at each scale, finest first.
        anchors: Sizes of the anchors, three a scale.

    Raises:
        InputError: Another number of anchors, or no class.
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        channels: tuple[int, int, int],
        strides: tuple[int, int, int],
        anchors: Anchors,
    ) -> None:
        super().__init__()
        if not classes or [len(scale) for scale in anchors] != [3, 3, 3]:
            raise InputError(
                f"got classes {classes} and anchors {anchors}; give one class or more, and three "
                "scales of three anchors"
            )
        self.classes, self.channels, self.strides = classes, channels, strides
        self.anchors: Tensor
        self.register_buffer("anchors", torch.tensor(anchors, dtype=torch.float32))
        self.heads = nn.ModuleList(nn.Conv2d(c, 3 * (5 + len(classes)), 1) for c in channels)
        for bias in (head.get_parameter("bias") for head in self.heads):
            bias.data.view(3, -1)[:, 4] = -4  # few places have an object

    def predictions(self, features: Sequence[Tensor]) -> Predictions:
        """Predictions of all anchors from feature maps, finest scale first."""
        parts = []
        for x, head, stride, sizes in zip(
            features, self.heads, self.strides, self._sizes(features), strict=True
        ):
            n, _, h, w = x.shape
            # In single precision: half of it would move boxes by several pixels.
            out = head(x).float().unflatten(1, (3, -1)).permute(0, 3, 4, 1, 2)  # [n h w 3 5+k]
            rows, columns = (torch.arange(k, device=x.device) for k in (h, w))
            corner = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)[:, :, None]
            centre = (out[..., :2].sigmoid() + corner) * stride
            half = sizes * out[..., 2:4].clamp(-4, 4).exp() / 2
            boxes = torch.cat([centre - half, centre + half], -1)
            parts.append(
                Predictions(
                    boxes.reshape(n, -1, 4),
                    out[..., 4].reshape(n, -1),
                    out[..., 5:].reshape(n, -1, len(self.classes)),
                )
            )
        return Predictions(*(torch.cat(part, 1) for part in zip(*parts, strict=True)))

    @torch.no_grad()
    def detections(
        self, features: Sequence[Tensor], score: float = 0.05, overlap: float = 0.5
    ) -> list[Detections]:
        boxes, objectness, classes = self.predictions(features)
        h, w = (k * self.strides[0] for k in features[0].shape[-2:])
        limits = boxes.new_tensor([w, h, w, h])
        scores, names = (objectness.sigmoid()[..., None] * classes.sigmoid()).max(-1)
        found = []
        for box, likely, name in zip(boxes, scores, names, strict=True):
            best = likely.topk(min(MOST_CANDIDATES, len(likely)))
            chosen = best.indices[best.values >= score]
            box, likely, name = box[chosen], likely[chosen], name[chosen]
            box = box.clamp(min=0).minimum(limits)
            kept = non_maximum_suppression(box, likely, name, overlap)
            found.append(Detections(box[kept], likely[kept], name[kept]))
        return found

    def loss(self, features: Sequence[Tensor], truths: Sequence[Truths]) -> Tensor:
        """Training loss, a mean over the frames: boxes, objectness and classes.

        Args:
            features: Feature maps of the frames.
            truths: Objects of each frame.
        """
        predictions = self.predictions(features)
        sizes, places = self._sizes(features), [x.shape[-2:] for x in features]
        losses = [
            _frame_loss(
                Predictions(*(x[i] for x in predictions)), truth, sizes, places, self.strides
            )
            for i, truth in enumerate(truths)
        ]
        return torch.stack(losses).mean()

    def reading_loss(self, features: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
        """Cross-entropy of the objectness, and squared errors of boxes and classes where it is.

        Both are means over all anchors, times 10, so that they are of the order of 1.
        """
        loss = features[0].new_zeros(())
        for x, y, head in zip(features, wanted, self.heads, strict=True):
            found, true = (head(z).float().unflatten(1, (3, -1)) for z in (x, y))
            sure = true[:, :, 4].sigmoid()
            objectness = binary_cross_entropy_with_logits(found[:, :, 4], sure)
            errors = (found - true).square()
            rest = torch.cat([errors[:, :, :4], errors[:, :, 5:]], 2)
            loss = loss + 10 * (objectness + (rest * sure[:, :, None]).mean())
        return loss

    def sizes(self, height: int) -> Tensor:
        """Sizes of the anchors in pixels, `[3 3 2]`, in frames of this height."""
        return self.anchors

    def _sizes(self, features: Sequence[Tensor]) -> Tensor:
        return self.sizes(features[0].shape[-2] * self.strides[0])


def _frame_loss(
    predictions: Predictions,
    truth: Truths,
    sizes: Tensor,
    places: Sequence[torch.Size],
    strides: Sequence[int],
) -> Tensor:
    boxes, objectness, classes = predictions
    objects = truth.boxes[~truth.ignored]
    anchor, which = matches(objects, sizes, places, strides)
    wanted = torch.zeros_like(objectness)
    wanted[anchor] = 1
    tolerated = (box_iou(boxes.detach(), truth.boxes, truth.ignored) > TOLERATED).any(1)
    counted = wanted.bool() | ~tolerated
    each = binary_cross_entropy_with_logits(objectness, wanted, reduction="none")
    loss = (each * counted).sum()
    if len(anchor):
        loss = loss + 3 * (1 - generalized_iou(boxes[anchor], objects[which])).sum()
        names = torch.zeros_like(classes[anchor])
        names[torch.arange(len(anchor)), truth.classes[~truth.ignored][which]] = 1
        loss = loss + binary_cross_entropy_with_logits(classes[anchor], names, reduction="sum")
    return loss / max(1, len(anchor))


def matches(
    objects: Boxes, sizes: Tensor, places: Sequence[torch.Size], strides: Sequence[int]
) -> tuple[Integers, Integers]:
    """Predictions that are responsible for objects, and the object of each, `[m]` both.

    These are the anchors at the place of an object's centre whose size is like the object's, and
    always the most similar one. A prediction is responsible for the last of several objects.

    Args:
        objects: Boxes `[k 4]`.
        sizes: Sizes of the anchors in pixels, `[3 3 2]`.
        places: Height and width of the feature maps.
        strides: Pixels for a place of each map.
    """
    centres, size = (objects[:, :2] + objects[:, 2:]) / 2, objects[:, 2:] - objects[:, :2]
    shared = torch.minimum(size[:, None], sizes.reshape(-1, 2)).prod(-1)
    iou = shared / (size.prod(-1)[:, None] + sizes.reshape(-1, 2).prod(-1) - shared)
    fits = iou > MATCHING
    if len(objects):
        fits[torch.arange(len(objects)), iou.argmax(1)] = True
    first, owner = 0, dict[int, int]()
    for scale, (stride, (h, w)) in enumerate(zip(strides, places, strict=True)):
        column = (centres[:, 0] / stride).long().clamp(0, w - 1)
        row = (centres[:, 1] / stride).long().clamp(0, h - 1)
        for anchor in range(3):
            for k in fits[:, 3 * scale + anchor].nonzero().flatten().tolist():
                owner[first + int(row[k] * w + column[k]) * 3 + anchor] = k
        first += 3 * h * w
    device = objects.device
    return (
        torch.tensor(list(owner), dtype=torch.int64, device=device),
        torch.tensor(list(owner.values()), dtype=torch.int64, device=device),
    )


def generalized_iou(a: Boxes, b: Boxes) -> Tensor:
    """Generalised intersection over union of pairs of boxes, from -1 to 1, `[n]`.

    `IoU - (|C| - |A ∪ B|) / |C|`, where C is the smallest box around both (Rezatofighi et al.
    2019, algorithm 1).
    """
    inner = torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])
    outer = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])
    shared, around = inner.clamp(min=0).prod(1), outer.prod(1).clamp(min=1e-9)
    covered = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - shared
    return shared / covered.clamp(min=1e-9) - (around - covered) / around
