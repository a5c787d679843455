"""Human3.6M."""

import functools
import re
from pathlib import Path
from typing import Literal

from common.data.base import Split
from common.data.formats.arrays import ArrayFile
from common.data.formats.footage import Footage
from common.data.videos.windows import (
    SRVP_CLIPS,
    Place,
    Source,
    WindowData,
    part,
    share,
    span_of,
    srvp_draws,
)
from common.errors import InputError

TRAIN, TEST = (1, 5, 6, 7, 8), (9, 11)  # subjects


class Human36M(WindowData):
    """Human3.6M (Ionescu et al. 2014) as SRVP keeps it: an npz file a video, 50 frames a second.

    Made by `preprocessing/human/convert.py` of github.com/edouardelasalles/srvp: `S*-….npz` with
    `image` `uint8 [t 64 64 3]`, all frames. Every 8th is taken (6.25 a second); times count
    those.

    Subjects 9 and 11 are for testing, by SRVP's 1,000 clips (`make_test_set.py`, seed 42); 1, 5,
    6, 7 and 8 for training.

    Args:
        root: Folder of the files, at any depth.
        val_fraction: Part of the training videos for validation.
        split_seed: Seed of that choice, kept apart from the training seed.
        n_frames: Frames of a training clip.
        n_eval_frames: Frames of a validation or test clip.
        every: Take every n-th frame; with 4, say, times are 0, 0.5, 1, …
        clips_per_video: As in `VideoFolder`, for training and validation.
        in_memory: Keep all frames in memory.
        strict: Stop at a video that is broken or too short; otherwise name and skip it.
        batch_size: Clips per device and step.
        num_workers: Loader processes.
        flip: Mirror training clips left to right at random.
        observed: Share of the frames that a model may see.
        pattern: Which: `random` or `regular` ones.
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
        clips_per_video: int | None = None,
        in_memory: bool = False,
        strict: bool = True,
        batch_size: int = 32,
        num_workers: int = 0,
        flip: bool = False,
        observed: float = 1.0,
        pattern: Literal["random", "regular"] = "random",
    ) -> None:
        super().__init__(
            n_frames,
            n_eval_frames,
            every,
            clips_per_video,
            in_memory,
            strict,
            batch_size,
            num_workers,
            flip,
            observed,
            pattern,
        )
        self.root, self.split_seed = Path(root).expanduser(), split_seed
        self.val_fraction = share(val_fraction)

    def sources(self, split: Split) -> list[Source]:
        wanted = TEST if split == "test" else TRAIN
        files = {path.name: path for path in self.root.rglob("S*-*.npz")}
        mine = [files[name] for name in sorted(files) if _subject(name) in wanted]
        if not mine:
            raise InputError(
                f"found no S…-….npz of subjects {wanted} in {self.root}; make them with SRVP's "
                "preprocessing/human/convert.py"
            )
        mine = part(mine, split, self.val_fraction, self.split_seed)
        return [functools.partial(ArrayFile, path) for path in mine]

    def places(self, split: Split, footage: list[Footage]) -> list[Place]:
        if split != "test":
            return super().places(split, footage)
        if len(footage) < len(self.sources("test")):
            raise InputError(
                f"only {len(footage)} test videos in {self.root} can be used, without the others "
                "the test clips would not be SRVP's: mend them"
            )
        span, draw = span_of(self.n_eval_frames, self.every), srvp_draws()
        places: list[Place] = []
        for _ in range(SRVP_CLIPS):
            video = draw(len(footage))
            places.append((video, draw(len(footage[video]) - span + 1)))
        return places


def _subject(name: str) -> int:
    match = re.match(r"S(\d+)-", name)
    return int(match[1]) if match else 0
