"""KITTI: recorded drives with tracked objects, in the layout of its tracking benchmark."""

from collections import defaultdict
from pathlib import Path
from typing import Any

from common.data.base import Split
from common.data.driving.recordings import RecordedDrives, frame_objects
from common.data.driving.tracks import FrameObjects
from common.errors import InputError

CLASSES = ("pedestrian", "car")
# Types that are evaluated, types that resemble them and are ignored, and others.
COUNTED = {"Pedestrian": 0, "Car": 1}
SIMILAR = {"Person_sitting": 0, "Person": 0, "Van": 1}
OTHERS = ("Truck", "Cyclist", "Tram", "Misc")
TEST = ("0016", "0017", "0018", "0019", "0020")


class KITTITracking(RecordedDrives):
    """KITTI tracking set (Geiger et al. 2012): 10 frames a second, pedestrians and cars.

    The set reads `image_02/{sequence}/{frame}.png` and `label_02/{sequence}.txt` under `root`, the
    folder `training` of the download. The labels of the published test sequences are not public,
    so some training sequences are for testing. As in the benchmark, vans, sitting people and the
    areas `DontCare` are ignored, and objects of other types are no objects.

    Args:
        root: Folder that holds `image_02` and `label_02`.
        test_sequences: Names of the sequences for testing; the others are for training.
        size: Height and width of a frame in pixels.
    """

    classes = CLASSES

    def __init__(
        self,
        root: str | Path,
        test_sequences: tuple[str, ...] = TEST,
        size: tuple[int, int] = (64, 208),
        **serving: Any,
    ) -> None:
        super().__init__(root, size=size, **serving)
        self.test_sequences = test_sequences

    def videos(self, split: Split) -> list[tuple[Path, Path]]:
        files = sorted((self.root / "label_02").glob("*.txt"))
        if not files:
            raise InputError(
                f"found no labels in {self.root / 'label_02'}; give data.root as the folder "
                "training of KITTI's tracking set"
            )
        if unknown := sorted(set(self.test_sequences) - {file.stem for file in files}):
            raise InputError(
                f"found no labels of the test sequence {unknown[0]} in {self.root}; change "
                "data.test_sequences"
            )
        test = split == "test"
        mine = [file for file in files if (file.stem in self.test_sequences) == test]
        return [(self.root / "image_02" / file.stem, file) for file in mine]

    def labels(self, file: Path, frames: list[Path]) -> list[FrameObjects]:
        rows: dict[str, list[tuple[list[float], int, int, bool]]] = defaultdict(list)
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
            if line.strip():
                frame, found = _row(line, f"{file}, line {number}")
                rows[f"{frame:06d}"] += found
        # By name, because a sequence may lack pictures in its middle.
        names = [path.stem for path in frames]
        if missing := sorted(set(rows) - set(names)):
            raise InputError(
                f"{file} labels frame {int(missing[0])}, but its folder holds {len(frames)} "
                f"pictures and not {missing[0]}.png; copy the video again"
            )
        return [frame_objects(rows[name]) for name in names]


def _row(line: str, place: str) -> tuple[int, list[tuple[list[float], int, int, bool]]]:
    """Number of the frame, and the objects of one line."""
    words = line.split()
    try:
        frame, identity, kind = int(words[0]), int(words[1]), words[2]
        box = [float(word) for word in words[6:10]]
        if len(words) not in (17, 18) or frame < 0:
            raise ValueError(f"{len(words)} words")
    except (ValueError, IndexError) as error:
        raise InputError(
            f"{place} isn't a label of KITTI's tracking set ({error}); download it again"
        ) from error
    if kind == "DontCare":
        return frame, [(box, k, identity, True) for k in range(len(CLASSES))]
    if kind in OTHERS:
        return frame, []
    if kind not in COUNTED and kind not in SIMILAR:
        known = ", ".join((*COUNTED, *SIMILAR, *OTHERS, "DontCare"))
        raise InputError(f"{place}: unknown type {kind!r}; known are {known}")
    ignored = kind in SIMILAR
    return frame, [(box, SIMILAR[kind] if ignored else COUNTED[kind], identity, ignored)]
