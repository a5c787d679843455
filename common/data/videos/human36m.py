"""Human3.6M, as SRVP stores it."""

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.data.base import Split
from common.data.formats.arrays import ArrayFile
from common.data.formats.footage import Footage
from common.data.videos.windows import (
    SRVP_CLIPS,
    ClipStart,
    VideoOpener,
    WindowData,
    check_val_fraction,
    span_of,
    srvp_random_integers,
    videos_of_split,
)
from common.errors import InputError

TRAIN, TEST = (1, 5, 6, 7, 8), (9, 11)  # numbers of the subjects


class Human36M(WindowData):
    """Human3.6M (Ionescu et al. 2014) as SRVP stores it: one npz file per video.

    The script `preprocessing/human/convert.py` of github.com/edouardelasalles/srvp makes the
    files: `S*-….npz` with `image` `uint8 [t 64 64 3]`, all frames, 50 a second. By default every
    8th frame is taken (6.25 a second). The unit of time is 8 frames of the file.

    Subjects 9 and 11 are for testing, with SRVP's 1,000 clips (`make_test_set.py`, seed 42);
    subjects 1, 5, 6, 7 and 8 are for training and validation.

    Args:
        root: Folder of the files, at any depth.
        val_fraction: Share of the training videos for validation.
        split_seed: Random seed of the validation videos, independent of the training seed.
        n_frames: Number of frames of a training video.
        n_eval_frames: Number of frames of a validation or test video. None: `n_frames`.
        every: Take every `every`-th frame of a video. For example, 4 gives the times 0, 0.5, 1, ….
    """

    shape, unit = (3, 64, 64), 8

    def __init__(
        self,
        root: str | Path,
        val_fraction: float = 0.05,
        split_seed: int = 0,
        n_frames: int = 16,
        n_eval_frames: int | None = 53,
        every: int = 8,
        **serving: Any,
    ) -> None:
        super().__init__(n_frames=n_frames, n_eval_frames=n_eval_frames, every=every, **serving)
        self.root, self.split_seed = Path(root).expanduser(), split_seed
        check_val_fraction(val_fraction)
        self.val_fraction = val_fraction

    def openers(self, split: Split) -> Sequence[VideoOpener]:
        wanted = TEST if split == "test" else TRAIN
        files = {path.name: path for path in self.root.rglob("S*-*.npz")}
        mine = [files[name] for name in sorted(files) if _subject(name) in wanted]
        if not mine:
            raise InputError(
                f"found no S…-….npz of subjects {wanted} in {self.root}; make them with SRVP's "
                "preprocessing/human/convert.py"
            )
        mine = videos_of_split(mine, split, self.val_fraction, self.split_seed)
        return [functools.partial(ArrayFile, path) for path in mine]

    def clip_starts(self, split: Split, footage: list[Footage]) -> list[ClipStart]:
        if split != "test":
            return super().clip_starts(split, footage)
        if len(footage) < len(self.openers("test")):
            raise InputError(
                f"only {len(footage)} test videos in {self.root} can be used; without the others "
                "the test clips would not be SRVP's, so repair them"
            )
        span, draw = span_of(self.n_eval_frames, self.every), srvp_random_integers()
        starts: list[ClipStart] = []
        for _ in range(SRVP_CLIPS):
            video = draw(len(footage))
            starts.append(ClipStart(video, draw(len(footage[video]) - span + 1)))
        return starts


def _subject(name: str) -> int:
    """Number of the subject in the name of a file. 0: the name has no subject."""
    match = re.match(r"S(\d+)-", name)
    return int(match[1]) if match else 0
