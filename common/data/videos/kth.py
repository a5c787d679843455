"""KTH human actions."""

import re
from pathlib import Path
from typing import Any, Literal

from common.data.base import Split
from common.data.formats.footage import Footage
from common.data.formats.video_paths import videos_under
from common.data.videos.folder import VideoFolder
from common.data.videos.windows import (
    SRVP_CLIPS,
    ClipStart,
    held_out,
    span_of,
    srvp_random_integers,
)
from common.errors import InputError

CLASSES = ("boxing", "handclapping", "handwaving", "jogging", "running", "walking")
TEST = {"srvp": range(21, 26), "predrnn": range(17, 26)}  # numbers of the persons


class KTH(VideoFolder):
    """KTH human actions (Schuldt et al. 2004): 25 persons, 6 actions, 4 scenes, 25 frames/s.

    The set reads the original files `personXX_action_dY_uncomp.avi`, or SRVP's folders of frames
    `processed_64/action/personXX_action_dY`. It prefers the folders if their frames have the
    wanted size. `in_memory` needs 1.2 GB at 64×64.

    Args:
        root: Folder of the videos, at any depth.
        persons: Protocol of the split. `srvp`: persons 21 to 25 are for testing, and the 1,000
            test clips are drawn in the same way as SRVP's (`preprocessing/kth/make_test_set.py`,
            seed 42; the same frames if the folders are SRVP's own). `predrnn`: persons 17 to 25
            are for testing, with the clips that `clips_per_video` gives.
        size: Height and width of a frame, in px.
        channels: 1: grey; 3: colour.
        val_fraction: Share of the training videos for validation.
        n_eval_frames: Number of frames of a validation or test video. None: `n_frames`.
    """

    def __init__(
        self,
        root: str | Path,
        persons: Literal["srvp", "predrnn"] = "srvp",
        size: int = 64,
        channels: Literal[1, 3] = 1,
        val_fraction: float = 0.05,
        n_eval_frames: int | None = 40,
        **serving: Any,
    ) -> None:
        super().__init__(
            root=root,
            size=size,
            channels=channels,
            crop="none",
            timing="frames",
            val_fraction=val_fraction,
            test_fraction=0.0,
            n_eval_frames=n_eval_frames,
            **serving,
        )
        if persons not in TEST:
            raise InputError(f"got persons {persons}; give {' or '.join(TEST)}")
        self.persons = persons

    def videos(self) -> dict[str, Path]:
        found: dict[str, list[Path]] = {}
        for path in videos_under(self.root).values():
            if name := _name(str(path)):
                found.setdefault(name, []).append(path)
        ready = f"processed_{self.frame_format.height}"
        # SRVP's folder holds both the original files and the folders of frames.
        best = lambda path: (ready not in path.parts, path.is_dir(), str(path))
        if not found:
            raise InputError(
                f"found no video of KTH in {self.root}; unpack personXX_action_dY_uncomp.avi there"
            )
        return {name: min(paths, key=best) for name, paths in sorted(found.items())}

    def _split(self, names: list[str]) -> dict[Split, list[str]]:
        test = [name for name in names if _person(name) in TEST[self.persons]]
        rest = [name for name in names if name not in test]
        val = held_out(len(rest), self.fractions["val"], self.split_seed)
        return {
            "train": [name for k, name in enumerate(rest) if k not in val],
            "val": [name for k, name in enumerate(rest) if k in val],
            "test": test,
        }

    def clip_starts(self, split: Split, footage: list[Footage]) -> list[ClipStart]:
        if split != "test" or self.persons != "srvp":
            return super().clip_starts(split, footage)
        numbers = {_name(video.name): k for k, video in enumerate(footage)}
        span, draw = span_of(self.n_eval_frames, self.every), srvp_random_integers()
        starts: list[ClipStart] = []
        for _ in range(SRVP_CLIPS):
            action = CLASSES[draw(len(CLASSES))]
            name = f"person{21 + draw(5)}_{action}_d{1 + draw(4)}"
            if name not in numbers:
                raise InputError(
                    f"SRVP's test clips need {name}, which isn't among the {len(footage)} test "
                    f"videos in {self.root}; put it there, or set data.persons to predrnn"
                )
            video = numbers[name]
            starts.append(ClipStart(video, draw(len(footage[video]) - span + 1)))
        return starts


def _name(path: str) -> str:
    """Name `personXX_action_dY` of the video at a path; empty: no video of KTH."""
    match = re.match(r"person\d\d_[a-z]+_d\d", Path(path).name)
    return match[0] if match else ""


def _person(name: str) -> int:
    return int(name[len("person") :][:2])
