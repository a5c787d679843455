"""BAIR robot pushing."""

import functools
from pathlib import Path
from typing import Literal

import numpy as np

from common.data.base import Split
from common.data.formats.footage import Footage
from common.data.formats.records import example_bytes, record_places
from common.data.videos.windows import Source, WindowData, part, share
from common.errors import InputError

N_FRAMES = 30  # of every video


class BAIR(WindowData):
    """BAIR robot pushing (Ebert et al. 2017): 30 frames of 64×64, from its TFRecord files.

    Reads `{train,test}/*.tfrecords` in `root/softmotion30_44k` or in `root`. What SRVP made of
    them, `processed_data`, is a `VideoFolder`. Test clips begin at a video's first frame.

    Args:
        root: Folder of the files.
        camera: `aux1` is what is used everywhere.
        val_fraction: Part of the training videos for validation.
        split_seed: Seed of that choice, kept apart from the training seed.
        n_frames: Frames of a training clip, at most 30.
        n_eval_frames: Frames of a validation or test clip, at most 30.
        batch_size: Clips per device and step.
        num_workers: Loader processes.
        flip: Mirror training clips left to right at random.
        observed: Share of the frames that a model may see.
        pattern: Which: `random` or `regular` ones.
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
        batch_size: int = 32,
        num_workers: int = 0,
        flip: bool = False,
        observed: float = 1.0,
        pattern: Literal["random", "regular"] = "random",
    ) -> None:
        super().__init__(
            n_frames,
            n_eval_frames,
            clips_per_video=1,
            batch_size=batch_size,
            num_workers=num_workers,
            flip=flip,
            observed=observed,
            pattern=pattern,
        )
        if max(self.n_frames, self.n_eval_frames) > N_FRAMES:
            raise InputError(
                f"got n_frames {self.n_frames} and n_eval_frames {self.n_eval_frames}; a video of "
                f"BAIR has {N_FRAMES}"
            )
        self.root, self.camera, self.split_seed = Path(root).expanduser(), camera, split_seed
        self.val_fraction = share(val_fraction)

    def sources(self, split: Split) -> list[Source]:
        place = "test" if split == "test" else "train"
        folders = [self.root / "softmotion30_44k" / place, self.root / place]
        files = [file for folder in folders for file in sorted(folder.glob("*.tfrecords"))]
        if not files:
            raise InputError(
                f"found no *.tfrecords in {folders[0]} or {folders[1]}; unpack "
                "bair_robot_pushing_dataset_v0.tar there"
            )
        records = [
            functools.partial(Record, file, number, *found, self.camera)
            for file in files
            for number, found in enumerate(record_places(file))
        ]
        return part(records, split, self.val_fraction, self.split_seed)


class Record(Footage):
    """One video of BAIR: a record of a TFRecord file."""

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
        if found is None or len(found) != 64 * 64 * 3:
            got = "none" if found is None else f"{len(found)} bytes"
            raise InputError(
                f"{self.name} should have {64 * 64 * 3} bytes of camera {self.camera} for frame "
                f"{number} and has {got}; download it again"
            )
        return np.frombuffer(found, np.uint8).reshape(64, 64, 3).transpose(2, 0, 1)
