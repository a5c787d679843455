"""FCOS of torchvision (Tian et al. 2019), a detector of COCO's classes for real videos."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from common.errors import InputError
from common.files import read_torch
from common.metrics.detection import Detections
from common.typing import Image
from video_ode.objects.detection.detector import Detector


class FCOS(Detector):
    """FCOS with a ResNet-50 and a feature pyramid, whose five scales are the features.

    It needs torchvision, in the release that belongs to the installed PyTorch. 128 must divide the
    sides of a frame.

    Args:
        weights: File of torchvision's weights, `fcos_resnet50_fpn_coco-99b0c9b7.pth`. A checkpoint
            names it, so that it must stay there. None: random weights.
        classes: Names of the classes to detect, those of the data in their order. COCO's "person"
            counts as "pedestrian" too; a class that COCO lacks is never detected. None: the 80
            classes of COCO.

    Raises:
        InputError: torchvision is missing or doesn't fit, or the file holds other weights.
    """

    def __init__(
        self, weights: str | Path | None = None, classes: tuple[str, ...] | None = None
    ) -> None:
        super().__init__()
        try:
            from torchvision.models.detection import (
                FCOS_ResNet50_FPN_Weights,
                fcos_resnet50_fpn,
            )
        except (ImportError, RuntimeError) as error:  # the second one: it is for another PyTorch
            raise InputError(
                f"FCOS needs torchvision ({error}); install the release that belongs to PyTorch "
                f"{torch.__version__}, or take another detector"
            ) from error
        names = FCOS_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
        known = [name for name in names if name not in ("__background__", "N/A")]
        self.classes = tuple(known) if classes is None else classes
        numbers = [_number(name, self.classes) for name in names]
        self.numbers: Tensor
        self.register_buffer("numbers", torch.tensor(numbers), persistent=False)
        self.channels, self.strides = (256,) * 5, (8, 16, 32, 64, 128)
        self.net: Any = fcos_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=len(names)
        ).eval()
        if weights is not None:
            try:
                self.net.load_state_dict(read_torch(weights))
            except (RuntimeError, AttributeError) as error:
                raise InputError(
                    f"{weights} holds no weights of FCOS; give another file"
                ) from error

    def features(self, frames: Image) -> list[Tensor]:
        self.check_size(frames)
        of = self.net.transform
        mean, std = (frames.new_tensor(x)[:, None, None] for x in (of.image_mean, of.image_std))
        return list(self.net.backbone((frames - mean) / std).values())

    @torch.no_grad()
    def detections(
        self, features: Sequence[Tensor], score: float = 0.05, overlap: float = 0.5
    ) -> list[Detections]:
        from torchvision.models.detection.image_list import ImageList

        n, _, h, w = features[0].shape
        size = h * self.strides[0], w * self.strides[0]
        frames = ImageList(features[0].new_empty(n, 3, *size), [size] * n)
        places = [x.shape[-2] * x.shape[-1] for x in features]
        outputs = {
            name: list(x.split(places, 1)) for name, x in self.net.head(list(features)).items()
        }
        anchors = [list(x.split(places)) for x in self.net.anchor_generator(frames, features)]
        self.net.score_thresh, self.net.nms_thresh = score, overlap
        found = self.net.postprocess_detections(outputs, anchors, [size] * n)
        numbered = [(x["boxes"], x["scores"], self.numbers[x["labels"]]) for x in found]
        return [Detections(*(x[part[2] >= 0] for x in part)) for part in numbered]

    def reading_loss(self, features: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
        """Cross-entropy of the classes, and squared errors of boxes where there is an object."""
        found, true = (self.net.head(list(x)) for x in (features, wanted))
        sure = true["cls_logits"].sigmoid()
        classes = binary_cross_entropy_with_logits(found["cls_logits"], sure)
        errors = [
            (found[k] - true[k]).square().mean(-1) for k in ("bbox_regression", "bbox_ctrness")
        ]
        return classes + (torch.stack(errors).sum(0) * sure.amax(-1)).mean()


def _number(name: str, classes: tuple[str, ...]) -> int:
    """Number of a class of COCO among other classes; -1: it isn't among them."""
    names = (name, "pedestrian") if name == "person" else (name,)
    return next((classes.index(x) for x in names if x in classes), -1)
