"""KITTI flow 2015: optical flow of recorded drives."""

from pathlib import Path
from typing import Any

from common.data.base import Split
from common.data.flow.pairs import Pair, TrainingFiles


class KITTIFlow(TrainingFiles):
    """KITTI flow 2015 (Menze and Geiger 2015): 200 street scenes of about 1242 x 375 pixels.

    The set reads `training/image_2/000000_10.png`, `training/image_2/000000_11.png` and
    `training/flow_occ/000000_10.png` under `root`. The flow is sparse. Where there is the folder
    `training/flow_noc`, it tells which points are seen in both pictures.

    Args:
        root: Folder that holds `training`.
        size: Height and width of the window of a frame in pixels.
    """

    layout = (
        "training/image_2/000000_10.png, training/image_2/000000_11.png, "
        "training/flow_occ/000000_10.png, …"
    )

    def __init__(
        self, root: str | Path, size: tuple[int, int] = (288, 960), **serving: Any
    ) -> None:
        super().__init__(root, size=size, **serving)

    def pairs(self, split: Split) -> list[Pair]:
        files = sorted((self.root / "training" / "flow_occ").glob("*_10.png"))
        return [self._pair(file) for file in self.chosen(files, split)]

    def _pair(self, flow: Path) -> Pair:
        training = self.root / "training"
        second = flow.name.replace("_10.png", "_11.png")
        seen = training / "flow_noc"
        return Pair(
            training / "image_2" / flow.name,
            training / "image_2" / second,
            flow,
            unoccluded=seen / flow.name if seen.is_dir() else None,
        )
