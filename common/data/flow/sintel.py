"""MPI Sintel: optical flow of an animated film."""

from pathlib import Path
from typing import Any, Literal

from common.data.base import Split
from common.data.flow.pairs import Pair, TrainingFiles
from common.errors import InputError, check_words
from common.files import shown

Render = Literal["clean", "final"]


class Sintel(TrainingFiles):
    """MPI Sintel (Butler et al. 2012): 23 scenes of an animated film, 1024 x 436 pixels.

    The set reads `training/{clean,final}/{scene}/frame_0001.png` and
    `training/flow/{scene}/frame_0001.flo` under `root`, and, where there are these folders, the
    masks `training/occlusions` and `training/invalid` of the same names as the pictures. The
    splits are by scene.

    Args:
        root: Folder that holds `training`.
        render: `clean`: with shading; `final`: with blur of motion and focus, and mist, too.
        size: Height and width of the window of a frame in pixels. (436, 1024): whole frames.
    """

    layout = "training/flow/SCENE/frame_0001.flo and the other files of MPI Sintel"

    def __init__(
        self,
        root: str | Path,
        render: Render = "final",
        size: tuple[int, int] = (368, 768),
        **serving: Any,
    ) -> None:
        super().__init__(root, size=size, **serving)
        check_words((render, Render))
        self.render: Render = render

    def pairs(self, split: Split) -> list[Pair]:
        folder = self.root / "training" / "flow"
        scenes = sorted({file.parent.name for file in folder.glob("*/*.flo")})
        chosen = self.chosen(scenes, split)
        return [self._pair(f) for scene in chosen for f in sorted((folder / scene).glob("*.flo"))]

    def _pair(self, flow: Path) -> Pair:
        name, _, number = flow.stem.partition("_")
        if name != "frame" or not number.isdecimal():
            raise InputError(
                f"got the file {shown(flow)}, whose name isn't like frame_0001.flo; remove it"
            )
        pictures, scene = self.root / "training" / self.render, flow.parent.name
        following = f"frame_{int(number) + 1:04d}.png"
        return Pair(
            pictures / scene / f"{flow.stem}.png",
            pictures / scene / following,
            flow,
            self._mask("occlusions", flow),
            self._mask("invalid", flow),
        )

    def _mask(self, kind: str, flow: Path) -> Path | None:
        folder = self.root / "training" / kind
        return folder / flow.parent.name / f"{flow.stem}.png" if folder.is_dir() else None
