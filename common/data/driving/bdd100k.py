"""BDD100K: recorded drives with tracked objects, in the layout of its tracking challenge."""

import json
from pathlib import Path
from typing import Any

from common.data.base import Split
from common.data.driving.recordings import RecordedDrives, frame_objects
from common.data.driving.tracks import FrameObjects
from common.errors import InputError

CLASSES = ("pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
# Other names of the labels, and the classes that they count as.
OTHER = {
    "person": "pedestrian",
    "other person": "pedestrian",
    "other vehicle": "car",
    "trailer": "truck",
    "motor": "motorcycle",
    "bike": "bicycle",
}
UNTRACKED = ("traffic light", "traffic sign")


class BDD100K(RecordedDrives):
    """BDD100K tracking set (Yu et al. 2020): 5 frames a second, boxes and ids of eight classes.

    The set reads `images/track/{train,val}/{video}/{video}-0000001.jpg` and
    `labels/box_track_20/{train,val}/{video}.json` under `root`. The test videos are the published
    validation videos, because the labels of the published test videos are not public. Crowds are
    ignored.

    The videos are for education, research and not-for-profit purposes only (The Regents of the
    University of California); download them after accepting these conditions.

    Args:
        root: Folder that holds `images` and `labels`.
    """

    classes = CLASSES

    def videos(self, split: Split) -> list[tuple[Path, Path]]:
        part = "val" if split == "test" else "train"
        folder = self.root / "labels" / "box_track_20" / part
        images = self.root / "images" / "track" / part
        files = sorted(folder.glob("*.json"))
        if not files:
            raise InputError(
                f"found no labels in {folder}; give data.root as the folder that holds images "
                "and labels of BDD100K"
            )
        return [(images / file.stem, file) for file in files]

    def labels(self, file: Path, frames: list[Path]) -> list[FrameObjects]:
        try:
            rows = json.loads(file.read_text())
            by_name = {row["name"]: row.get("labels") or [] for row in rows}
            found = {name: self._objects(labels, file) for name, labels in by_name.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{file} isn't a label file of BDD100K ({type(error).__name__}: {error}); "
                "download it again"
            ) from error
        names = [path.name for path in frames]
        if missing := sorted(set(found) ^ set(names)):
            raise InputError(
                f"{file} labels {len(found)} frames, but its folder holds {len(names)} pictures; "
                f"{missing[0]} is in one of them only: copy the video again"
            )
        return [found[name] for name in names]

    def _objects(self, labels: list[dict[str, Any]], file: Path) -> FrameObjects:
        rows = []
        for label in labels:
            name = OTHER.get(label["category"], label["category"])
            if name in UNTRACKED:
                continue
            if name not in CLASSES:
                raise InputError(
                    f"{file}: unknown category {name!r}; known are "
                    f"{', '.join((*CLASSES, *OTHER, *UNTRACKED))}"
                )
            box = [float(label["box2d"][key]) for key in ("x1", "y1", "x2", "y2")]
            crowd = bool(label.get("attributes", {}).get("crowd", False))
            rows.append((box, CLASSES.index(name), int(label["id"]), crowd))
        return frame_objects(rows)
