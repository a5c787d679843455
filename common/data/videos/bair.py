"""BAIR robot pushing."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from common.data.base import Split
from common.data.formats.footage import Footage
from common.data.formats.records import example_bytes, record_places
from common.data.videos.windows import (
    VideoOpener,
    WindowData,
    check_val_fraction,
    videos_of_split,
)
from common.errors import InputError

N_FRAMES = 30  # number of frames of every video


class BAIR(WindowData):
    """BAIR robot pushing (Ebert et al. 2017): videos of 30 frames of 64×64, from TFRecord files.

    The set reads `{train,test}/*.tfrecords` in `root/softmotion30_44k` or in `root`. Use
    `VideoFolder` for SRVP's `processed_data`. Validation and test clips begin at the first frame
    of a video.

    Args:
        root: Folder of the files.
        camera: Name of the camera; published results use `aux1`.
        val_fraction: Share of the training videos for validation.
        split_seed: Random seed of the validation videos, independent of the training seed.
        n_frames: Number of frames of a training video, at most 30.
        n_eval_frames: Number of frames of a validation or test video, at most 30. None:
            `n_frames`.
    """

    shape = (3, 64, 64)

    def __init__(
        self,
        root: str | Path,
        camera: Literal["aux1", "main"] = "aux1",
        val_fraction: float = 0.05,
        split_seed: int = 0,
        n_frames: int = 12,
        n_eval_frames: int | None = 30,
        **serving: Any,
    ) -> None:
        super().__init__(
            n_frames=n_frames,
            n_eval_frames=n_eval_frames,
            every=1,
            clips_per_video=1,
            in_memory=False,
            strict=True,
            **serving,
        )
        if max(self.n_frames, self.n_eval_frames) > N_FRAMES:
            raise InputError(
                f"got n_frames {self.n_frames} and n_eval_frames {self.n_eval_frames}; give "
                f"{N_FRAMES} or less, because a video of BAIR has {N_FRAMES} frames"
            )
        self.root, self.camera, self.split_seed = Path(root).expanduser(), camera, split_seed
        check_val_fraction(val_fraction)
        self.val_fraction = val_fraction

    def openers(self, split: Split) -> Sequence[VideoOpener]:
        place = "test" if split == "test" else "train"
        folders = [self.root / "softmotion30_44k" / place, self.root / place]
        files = [file for folder in folders for file in sorted(folder.glob("*.tfrecords"))]
        if not files:
            raise InputError(
                f"found no *.tfrecords in {folders[0]} or {folders[1]}; unpack "
                "bair_robot_pushing_dataset_v0.tar there"
            )
        records = [
            functools.partial(RecordVideo, file, number, *found, self.camera)
            for file in files
            for number, found in enumerate(record_places(file))
        ]
        return videos_of_split(records, split, self.val_fraction, self.split_seed)


class RecordVideo(Footage):
    """Video of BAIR: one record of a TFRecord file.

    Args:
        path: The file.
        number: Number of the record, used in error messages.
        offset: Position of the content of the record in the file, in bytes.
        length: Length of the content, in bytes.
        camera: Name of the camera.
    """

    def __init__(self, path: Path, number: int, offset: int, length: int, camera: str) -> None:
        self.name, self.path, self.camera = f"record {number} of {path}", path, camera
        self.offset, self.length = offset, length

    def __len__(self) -> int:
        return N_FRAMES

    def read(self, frames: range) -> np.ndarray:
        with self.path.open("rb") as file:
            file.seek(self.offset)
            example = file.read(self.length)
        try:
            images = example_bytes(example)
        except ValueError as error:
            raise InputError(f"{self.name} is damaged ({error}); download it again") from error
        pixels = [self._image(images.get(f"{k}/image_{self.camera}/encoded"), k) for k in frames]
        return np.stack(pixels)

    def _image(self, found: bytes | None, number: int) -> np.ndarray:
        """Frame `uint8 [3 64 64]` from its bytes."""
        if found is None or len(found) != 64 * 64 * 3:
            got = "none" if found is None else f"{len(found)} bytes"
            raise InputError(
                f"{self.name} should have {64 * 64 * 3} bytes of camera {self.camera} for frame "
                f"{number} and has {got}; download it again"
            )
        return np.frombuffer(found, np.uint8).reshape(64, 64, 3).transpose(2, 0, 1)
