"""Semantic segmentation: features of frames, and the class of each pixel from these features."""

import abc
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchmetrics.classification import MulticlassJaccardIndex

from common.data.driving.tracks import TrackedClip
from common.errors import InputError
from video_ode.objects.drawing import paint_classes
from video_ode.objects.extractor import FeatureExtractor, ReadingScores


class Segmenter(FeatureExtractor):
    """Abstract network for semantic segmentation in two parts: predicted features can be read.

    A reading is a class map, the number of the class of each pixel, `uint8 [h w]`.

    Attributes:
        classes: Names of the classes.
    """

    classes: tuple[str, ...]

    @abc.abstractmethod
    def logits(self, features: Sequence[Tensor]) -> Tensor:
        """Logits of the classes of all pixels, `[n k h w]`, from feature maps."""

    @torch.no_grad()
    def readings(self, features: Sequence[Tensor]) -> list[Tensor]:
        return list(self.logits(features).argmax(1).to(torch.uint8))

    def reading_loss(self, features: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
        """Cross-entropy in nats, a mean over the pixels, against the probabilities of `wanted`."""
        return cross_entropy(self.logits(features), self.logits(wanted).softmax(1))

    def truths(self, videos: TrackedClip, frame: int) -> list[Tensor]:
        if videos.labels is None:
            raise InputError(
                "got videos without the classes of their pixels; give data of segmented frames, "
                "such as DrivingScenes with labels: true"
            )
        labels = videos.labels[:, frame]
        if int(labels.max()) >= len(self.classes):
            raise InputError(
                f"got labels up to {int(labels.max())}, but the network has the classes 0 to "
                f"{len(self.classes) - 1}; give another network, or other labels"
            )
        return list(labels)

    def scores(self) -> "SegmentationScores":
        return SegmentationScores(len(self.classes))

    def drawn(self, frame: Tensor, reading: Tensor) -> Tensor:
        return paint_classes(frame, reading.long())


class SegmentationScores(ReadingScores):
    """Mean intersection over union (mIoU) of class maps, against two references.

    `miou` compares with the true class maps. `agreement` compares with the class maps that the
    network reads from the true frames. Both are means over the classes; intersection and union
    are counted over all frames, and classes that occur in neither map are left out.

    Args:
        n_classes: Number of classes.
    """

    names = ("miou", "agreement")

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.miou = MulticlassJaccardIndex(n_classes, validate_args=False)
        self.agreement = MulticlassJaccardIndex(n_classes, validate_args=False)

    def update(
        self, found: Sequence[Tensor], truths: Sequence[Tensor], own: Sequence[Tensor]
    ) -> None:
        sizes = {tuple(x.shape) for x in (*found, *truths, *own)}
        if len(sizes) > 1:
            raise InputError(f"got class maps of the sizes {sorted(sizes)}; give one size")
        maps = torch.stack(list(found)).long()
        self.miou.update(maps, torch.stack(list(truths)).long())
        self.agreement.update(maps, torch.stack(list(own)).long())

    def compute(self) -> dict[str, float]:
        return {"miou": float(self.miou.compute()), "agreement": float(self.agreement.compute())}
