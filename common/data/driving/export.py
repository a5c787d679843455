"""Driving scenes as files in the layouts of BDD100K and of KITTI."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from common.data.driving.scene import OBJECT_CLASSES, DrivingScene, Objects

HIDDEN, CUT = 0.7, 0.95  # shares below which an object counts as occluded, or as truncated


def write_bdd100k(
    root: str | Path, split: str, scenes: Sequence[DrivingScene], times: Sequence[float]
) -> None:
    """Writes scenes as videos of BDD100K's tracking set (`images/track`, `labels/box_track_20`).

    Args:
        root: Folder that shall hold `images` and `labels`.
        split: `train` or `val`.
        scenes: The scenes, a video each.
        times: Times of the frames.
    """
    labels = Path(root) / "labels" / "box_track_20" / split
    labels.mkdir(parents=True, exist_ok=True)
    for k, scene in enumerate(scenes):
        video, rows = f"{k:08d}", []
        folder = Path(root) / "images" / "track" / split / video
        folder.mkdir(parents=True, exist_ok=True)
        for frame, time in enumerate(times):
            picture, name = scene.at(time), f"{video}-{frame + 1:07d}.jpg"
            _image(picture.image).save(folder / name, quality=95)
            found = [_bdd(picture.objects, i) for i in _seen(picture.objects)]
            row = {"name": name, "videoName": video, "frameIndex": frame, "labels": found}
            rows.append(row)
        (labels / f"{video}.json").write_text(json.dumps(rows))


def write_kitti(root: str | Path, scenes: Sequence[DrivingScene], times: Sequence[float]) -> None:
    """Writes scenes as sequences of KITTI's tracking set (`image_02`, `label_02`).

    Lengths in space are in heights of the camera.

    Args:
        root: Folder that shall hold `image_02` and `label_02`.
        scenes: The scenes, a sequence each.
        times: Times of the frames.
    """
    labels = Path(root) / "label_02"
    labels.mkdir(parents=True, exist_ok=True)
    for k, scene in enumerate(scenes):
        folder, lines = Path(root) / "image_02" / f"{k:04d}", []
        folder.mkdir(parents=True, exist_ok=True)
        for frame, time in enumerate(times):
            picture = scene.at(time)
            _image(picture.image).save(folder / f"{frame:06d}.png")
            lines += [f"{frame} {_kitti(picture.objects, i)}" for i in _seen(picture.objects)]
        (labels / f"{k:04d}.txt").write_text("\n".join(lines) + "\n")


def _seen(objects: Objects) -> Iterator[int]:
    """Objects of which something is seen."""
    return iter(np.flatnonzero(objects.visible > 0).tolist())


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def _bdd(objects: Objects, i: int) -> dict[str, object]:
    box = dict(zip(("x1", "y1", "x2", "y2"), objects.boxes[i].tolist(), strict=True))
    occluded, truncated = objects.visible[i] < HIDDEN * objects.inside[i], objects.inside[i] < CUT
    attributes = {"crowd": False, "occluded": bool(occluded), "truncated": bool(truncated)}
    return {
        "id": str(int(objects.ids[i])),
        "category": OBJECT_CLASSES[objects.classes[i]],
        "attributes": attributes,
        "box2d": box,
    }


def _kitti(objects: Objects, i: int) -> str:
    kind = OBJECT_CLASSES[objects.classes[i]].capitalize()
    cut, hidden = 1 - objects.inside[i], int(objects.visible[i] < HIDDEN * objects.inside[i])
    box = " ".join(f"{edge:.3f}" for edge in objects.boxes[i])
    unknown = "-1 -1 -1 -1000 -1000"  # height, width and length; two of the three coordinates
    return (
        f"{objects.ids[i]} {kind} {cut:.2f} {hidden} -10 {box} {unknown} "
        f"{objects.depth[i]:.3f} -10"
    )
