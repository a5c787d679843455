"""KTH actions."""

import re
from pathlib import Path
from typing import Literal

from common.data.base import Split
from common.data.formats.footage import Footage, videos_under
from common.data.videos.folder import VideoFolder
from common.data.videos.windows import SRVP_CLIPS, Place, held_out, span_of, srvp_draws
from common.errors import InputError

CLASSES = ("boxing", "handclapping", "handwaving", "jogging", "running", "walking")
TEST = {"srvp": range(21, 26), "predrnn": range(17, 26)}  # persons


class KTH(VideoFolder):
    """KTH actions (Schuldt et al. 2004): 25 persons, 6 actions, 4 scenes, 25 frames a second.

    Reads the original files `personXX_action_dY_uncomp.avi` or SRVP's folders of frames
    `processed_64/action/personXX_action_dY`, which it prefers where they have the size wanted.

    With `srvp`, persons 21 to 25 are for testing, and the test clips are SRVP's 1,000, drawn in
    the same way (`preprocessing/kth/make_test_set.py`, seed 42; the same frames if the folders are
    its own). With `predrnn`, persons 17 to 25 are, and clips are placed by `clips_per_video`.

    Args:
        root: Folder of the videos, at any depth.
        persons: Whose split.
        size: Height and width of a frame.
        channels: 1 (grey) or 3.
        val_fraction: Part of the training videos for validation.
        split_seed: Seed of that choice, kept apart from the training seed.
        n_frames: Frames of a training clip.
        n_eval_frames: Frames of a validation or test clip.
        every: Take every n-th frame.
        clips_per_video: As in `VideoFolder`.
        in_memory: Keep all frames in memory: 1.2 GB at 64×64. Much faster.
        strict: Stop at a video that is broken or too short; otherwise name and skip it.
        batch_size: Clips per device and step.
        num_workers: Loader processes.
        flip: Mirror training clips left to right at random.
        observed: Share of the frames that a model may see.
        pattern: Which: `random` or `regular` ones.
    """

    def __init__(
        self,
        root: str | Path,
        persons: Literal["srvp", "predrnn"] = "srvp",
        size: int = 64,
        channels: Literal[1, 3] = 1,
        val_fraction: float = 0.05,
        split_seed: int = 0,
        n_frames: int = 20,
        n_eval_frames: int | None = 40,
        every: int = 1,
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
            root,
            size,
            channels,
            "none",
            val_fraction,
            0.0,
            split_seed,
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
        if persons not in TEST:
            raise InputError(f"got persons {persons}; give {' or '.join(TEST)}")
        self.persons = persons

    def videos(self) -> dict[str, Path]:
        found: dict[str, list[Path]] = {}
        for path in videos_under(self.root).values():
            if name := _name(str(path)):
                found.setdefault(name, []).append(path)
        ready = f"processed_{self.look.height}"
        # SRVP's root holds both the originals and what it made of them.
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

    def places(self, split: Split, footage: list[Footage]) -> list[Place]:
        if split != "test" or self.persons != "srvp":
            return super().places(split, footage)
        numbers = {_name(video.name): k for k, video in enumerate(footage)}
        span, draw = span_of(self.n_eval_frames, self.every), srvp_draws()
        places: list[Place] = []
        for _ in range(SRVP_CLIPS):
            action = CLASSES[draw(len(CLASSES))]
            name = f"person{21 + draw(5)}_{action}_d{1 + draw(4)}"
            if name not in numbers:
                raise InputError(
                    f"SRVP's test clips need {name}, which isn't among the {len(footage)} test "
                    f"videos in {self.root}; put it there, or set data.persons to predrnn"
                )
            video = numbers[name]
            places.append((video, draw(len(footage[video]) - span + 1)))
        return places


def _name(path: str) -> str:
    match = re.match(r"person\d\d_[a-z]+_d\d", Path(path).name)
    return match[0] if match else ""


def _person(name: str) -> int:
    return int(name[len("person") :][:2])
