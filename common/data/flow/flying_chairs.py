"""FlyingChairs: optical flow of rendered chairs before photographs."""

from pathlib import Path
from typing import Any

from common.data.base import Split
from common.data.flow.pairs import FlowFiles, Pair
from common.data.videos.windows import videos_of_split
from common.errors import InputError
from common.files import is_file, shown

SPLIT = "FlyingChairs_train_val.txt"


class FlyingChairs(FlowFiles):
    """FlyingChairs (Dosovitskiy et al. 2015): chairs before photographs, 512 x 384 pixels.

    The set reads `data/00001_img1.ppm`, `data/00001_img2.ppm` and `data/00001_flow.flo` under
    `root`, and the split file `FlyingChairs_train_val.txt`, whose line k is 1 if pair k is for
    training, and 2 otherwise. The published validation pairs are the test pairs here; validation
    pairs are chosen from the training pairs. Occluded points aren't known, so that each point
    that stays inside the window counts as visible.

    Args:
        root: Folder that holds `data` and the split file.
        size: Height and width of the window of a frame in pixels. (384, 512): whole frames.
        val_fraction: Share of the training pairs for validation.
    """

    layout = f"data/00001_img1.ppm, data/00001_img2.ppm, data/00001_flow.flo, …, and {SPLIT}"

    def __init__(
        self,
        root: str | Path,
        size: tuple[int, int] = (320, 448),
        val_fraction: float = 0.02,
        **serving: Any,
    ) -> None:
        super().__init__(root, size=size, val_fraction=val_fraction, **serving)

    def pairs(self, split: Split) -> list[Pair]:
        file, wanted = self.root / SPLIT, "2" if split == "test" else "1"
        if not is_file(file):
            raise InputError(f"there is no file {shown(file)}; {self.wanted()}")
        words = file.read_text(errors="replace").split()
        if set(words) != {"1", "2"}:
            raise InputError(
                f"{shown(file)} must hold a line 1 or 2 for each pair, and both of them; download "
                "it again"
            )
        mine = [self._pair(k) for k, word in enumerate(words, 1) if word == wanted]
        return videos_of_split(mine, split, self.val_fraction, self.split_seed)

    def _pair(self, number: int) -> Pair:
        endings = ("img1.ppm", "img2.ppm", "flow.flo")
        return Pair(*(self.root / "data" / f"{number:05d}_{ending}" for ending in endings))
