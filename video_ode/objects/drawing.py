"""Drawings on frames: boxes of objects, and classes of pixels."""

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from common.typing import Boxes
from video_ode.evaluation.pictures import enlarged

ZOOM = 2

# Colours of classes, in their order: distinct also for people with colour-blindness (Okabe, Ito).
COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (255, 255, 255),
)


def draw_boxes(frame: Tensor, boxes: Boxes, classes: Tensor) -> Tensor:
    """Enlarged frame, `uint8 [3 2h 2w]`, with boxes in the colours of their classes.

    Args:
        frame: Frame `uint8 [3 h w]`.
        boxes: Boxes in pixels of the frame, `[n 4]`.
        classes: Number of each class, `[n]`.
    """
    big = enlarged(frame.cpu(), ZOOM).movedim(0, -1)
    picture = Image.fromarray(np.ascontiguousarray(big.numpy()))
    pen = ImageDraw.Draw(picture)
    for box, name in zip((ZOOM * boxes).tolist(), classes.tolist(), strict=True):
        pen.rectangle(box, outline=COLOURS[name % len(COLOURS)], width=ZOOM)
    return torch.from_numpy(np.array(picture)).movedim(-1, 0)


def paint_classes(frame: Tensor, classes: Tensor, share: float = 0.6) -> Tensor:
    """Enlarged frame, `uint8 [3 2h 2w]`, under a transparent layer of its pixels' classes.

    Args:
        frame: Frame `uint8 [3 h w]`.
        classes: Number of the class of each pixel, `[h w]`.
        share: Share of the layer, from 0 to 1.
    """
    palette = torch.tensor(COLOURS, dtype=torch.float32)
    layer = palette[classes.cpu() % len(COLOURS)].movedim(-1, 0)
    mixed = (1 - share) * frame.cpu() + share * layer
    return enlarged(mixed.round().to(torch.uint8), ZOOM)
