"""One-stage detectors: a small one, and YOLOv3 (Redmon & Farhadi 2018) with its own weights."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from common.errors import InputError, check_counts
from common.files import is_file, shown
from common.nn.shipped import with_weights
from common.typing import Image
from video_ode.objects.detection.anchors import AnchorDetector, Anchors

WEIGHTS = Path(__file__).with_name("yolo.safetensors")
# Shares of the frame's height.
ANCHORS: Anchors = (
    ((0.05, 0.12), (0.09, 0.1), (0.1, 0.24)),
    ((0.15, 0.15), (0.22, 0.23), (0.16, 0.4)),
    ((0.32, 0.34), (0.45, 0.55), (0.75, 0.8)),
)
# Pixels, of the published weights.
YOLOV3_ANCHORS: Anchors = (
    ((10.0, 13.0), (16.0, 30.0), (33.0, 23.0)),
    ((30.0, 61.0), (62.0, 45.0), (59.0, 119.0)),
    ((116.0, 90.0), (156.0, 198.0), (373.0, 326.0)),
)
COCO = """person bicycle car motorcycle airplane bus train truck boat traffic_light fire_hydrant
stop_sign parking_meter bench bird cat dog horse sheep cow elephant bear zebra giraffe backpack
umbrella handbag tie suitcase frisbee skis snowboard sports_ball kite baseball_bat baseball_glove
skateboard surfboard tennis_racket bottle wine_glass cup fork knife spoon bowl banana apple
sandwich orange broccoli carrot hot_dog pizza donut cake chair couch potted_plant bed dining_table
toilet tv laptop mouse remote keyboard cell_phone microwave oven toaster sink refrigerator book
clock vase scissors teddy_bear hair_drier toothbrush"""
COCO_CLASSES = tuple(name.replace("_", " ") for name in COCO.split())


class YOLO(AnchorDetector):
    """Small one-stage detector: a residual backbone and a top-down path.

    Args:
        classes: Names of the classes.
        width: Number of channels of the first convolution.
        anchors: Sizes of the anchors, three a scale, as shares of the frame's height.

    Raises:
        InputError: A width below 1, another number of anchors, or no class.
    """

    @classmethod
    def pretrained(cls) -> "YOLO":
        """Detector of the pedestrians and cars of `DrivingScenes`, with the weights that ship.

        `python -m video_ode.objects.detection.train_detector` makes them again. It is in
        evaluation mode.
        """
        return with_weights(cls(), WEIGHTS)

    def __init__(
        self,
        classes: tuple[str, ...] = ("pedestrian", "car"),
        width: int = 16,
        anchors: Anchors = ANCHORS,
    ) -> None:
        check_counts(1, width=width)
        w = width
        super().__init__(classes, (4 * w, 4 * w, 8 * w), (4, 8, 16), anchors)
        self.stem = nn.Sequential(_conv(3, w, 3, 2), _conv(w, 2 * w, 3, 2), _Residual(2 * w))
        self.middle = nn.Sequential(_conv(2 * w, 4 * w, 3, 2), _Residual(4 * w))
        self.top = nn.Sequential(_conv(4 * w, 8 * w, 3, 2), _Residual(8 * w))
        self.lateral = nn.ModuleList([_conv(8 * w, 4 * w, 1), _conv(8 * w, 2 * w, 1)])
        self.outputs = nn.ModuleList(
            [_conv(4 * w, 4 * w, 3), _conv(8 * w, 4 * w, 3), _conv(8 * w, 8 * w, 3)]
        )

    def features(self, frames: Image) -> list[Tensor]:
        self.check_size(frames)
        fine = self.stem(2 * frames - 1)
        middle = self.middle(fine)
        coarse = self.top(middle)
        middle = torch.cat([_doubled(self.lateral[0](coarse)), middle], 1)
        fine = torch.cat([_doubled(self.lateral[1](middle)), fine], 1)
        pairs = zip(self.outputs, (fine, middle, coarse), strict=True)
        return [output(x) for output, x in pairs]

    def sizes(self, height: int) -> Tensor:
        return self.anchors * height


class YOLOv3(AnchorDetector):
    """YOLOv3 in its full size, for frames whose sides 32 divides, such as 416×416.

    `load_darknet` reads the published weights of 80 classes (`yolov3.weights`, 248,007,048 bytes).

    Args:
        classes: Names of the classes.
        width: Number of channels of the first convolution; 32 is the published network.
    """

    def __init__(self, classes: tuple[str, ...] = COCO_CLASSES, width: int = 32) -> None:
        check_counts(1, width=width)
        w = width
        super().__init__(classes, (8 * w, 16 * w, 32 * w), (8, 16, 32), YOLOV3_ANCHORS)
        self.stem = _conv(3, w, 3)
        widths, counts = [w * 2**k for k in range(6)], (1, 2, 8, 8, 4)
        self.stages = nn.ModuleList(
            nn.Sequential(_conv(a, b, 3, 2), *(_Residual(b) for _ in range(n)))
            for (a, b), n in zip(pairwise(widths), counts, strict=True)
        )
        self.coarse, self.middle, self.fine = (
            _Neck(n_in, n) for n_in, n in ((32 * w, 32 * w), (24 * w, 16 * w), (12 * w, 8 * w))
        )
        self.lateral = nn.ModuleList([_conv(16 * w, 8 * w, 1), _conv(8 * w, 4 * w, 1)])

    def features(self, frames: Image) -> list[Tensor]:
        self.check_size(frames)
        x, maps = self.stem(frames), []
        for stage in self.stages:
            maps.append(x := stage(x))
        inner, coarse = self.coarse(maps[4])
        joined = torch.cat([_doubled(self.lateral[0](inner)), maps[3]], 1)
        inner, middle = self.middle(joined)
        joined = torch.cat([_doubled(self.lateral[1](inner)), maps[2]], 1)
        return [self.fine(joined)[1], middle, coarse]

    def load_darknet(self, path: str | Path) -> None:
        """Reads weights in darknet's format.

        Raises:
            InputError: There is no such file, or it holds another number of weights.
        """
        path = Path(path).expanduser()
        if not is_file(path):
            raise InputError(f"found no file {shown(path)}; download yolov3.weights")
        layers = list(self._layers())
        wanted = sum(x.numel() for layer in layers for x in layer)
        size = path.stat().st_size
        # Three integers, then the number of seen pictures: 8 bytes since version 0.2.
        version = np.fromfile(path, np.int32, 3) if size >= 12 else np.zeros(3, np.int32)
        head = 20 if int(version[0]) * 10 + int(version[1]) >= 2 else 16
        if size != head + 4 * wanted:
            raise InputError(
                f"{shown(path)} holds {size} bytes, but a network of {len(self.classes)} classes "
                f"needs {head + 4 * wanted}; give the weights of this network"
            )
        numbers, place = torch.from_numpy(np.fromfile(path, np.float32, offset=head)), 0
        for layer in layers:
            for x in layer:
                x.data.copy_(numbers[place : place + x.numel()].view_as(x))
                place += x.numel()

    def _layers(self) -> Iterator[list[Tensor]]:
        """Weights of each convolution in the order of the file."""
        parts = [self.stem, *self.stages]
        for k, neck in enumerate((self.coarse, self.middle, self.fine)):
            parts += [neck, self.heads[2 - k], *self.lateral[k : k + 1]]
        for part in parts:
            convs = [x for x in part.modules() if isinstance(x, nn.Conv2d | nn.BatchNorm2d)]
            for conv, norm in zip(convs, [*convs[1:], None], strict=True):
                if isinstance(conv, nn.BatchNorm2d):
                    continue
                if isinstance(norm, nn.BatchNorm2d):
                    first = [norm.bias, norm.weight, norm.running_mean, norm.running_var]
                else:
                    first = [conv.bias]
                yield [x for x in first if x is not None] + [conv.weight]


class _Neck(nn.Module):
    """Five convolutions, and the last one before the head: inner and final features."""

    def __init__(self, n_in: int, n: int) -> None:
        super().__init__()
        half = n // 2
        pairs = ((n_in, half, 1), (half, n, 3), (n, half, 1), (half, n, 3), (n, half, 1))
        self.inner = nn.Sequential(*(_conv(*pair) for pair in pairs))
        self.last = _conv(half, n, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        inner = self.inner(x)
        return inner, self.last(inner)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            _conv(channels, channels // 2, 1), _conv(channels // 2, channels, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.net(x)


def _conv(n_in: int, n_out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(n_out), nn.LeakyReLU(0.1))


def _doubled(x: Tensor) -> Tensor:
    return interpolate(x, scale_factor=2.0, mode="nearest")
