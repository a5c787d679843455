"""Base classes of the sets of optical flow that are files: two pictures and a flow each."""

import abc
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image

from common.data.base import Split
from common.data.draws import uniform
from common.data.flow.base import FlowClips, FlowData, FlowExample
from common.data.formats.flow import read_flow
from common.data.formats.footage import IMAGE_ERRORS
from common.data.videos.windows import check_val_fraction, held_out, videos_of_split
from common.errors import InputError, check_counts, check_shares, reason
from common.files import is_file, shown

T = TypeVar("T")
WINDOWS = 7000  # seed of the windows and mirror images
WHITE = 128  # least brightness of a marked pixel


class Pair(NamedTuple):
    """Files of two pictures and the flow between them, all of the same size in pixels.

    Attributes:
        first: First picture.
        second: Second picture.
        flow: Flow from the first to the second one.
        occluded: Picture that is white where a point is hidden in the second picture. None: no
            points are marked as hidden.
        invalid: Picture that is white where the flow isn't valid. None: it is valid everywhere.
        unoccluded: Flow that is known only where a point is seen in both pictures. None: there is
            no such file.
    """

    first: Path
    second: Path
    flow: Path
    occluded: Path | None = None
    invalid: Path | None = None
    unoccluded: Path | None = None

    def read(self) -> FlowExample:
        """Whole pictures and their flow; `visible` doesn't consider the edge of the picture.

        Raises:
            InputError: A file is missing, damaged, or of another size than the flow.
        """
        flow, known = (x.numpy() for x in read_flow(self.flow))
        frames = [_picture(path, "RGB") for path in (self.first, self.second)]
        occluded, invalid = (
            np.zeros_like(known) if path is None else _picture(path, "L") >= WHITE
            for path in (self.occluded, self.invalid)
        )
        seen = known if self.unoccluded is None else read_flow(self.unoccluded)[1].numpy()
        paths = (self.first, self.second, *self[3:])
        for path, part in zip(paths, (*frames, occluded, invalid, seen), strict=True):
            if part.shape[:2] != known.shape:
                (h, w), (height, width) = part.shape[:2], known.shape
                raise InputError(
                    f"{shown(path or self.flow)} has {h} x {w} pixels (height x width), but "
                    f"{shown(self.flow)} has {height} x {width}; copy both again"
                )
        valid = known & ~invalid
        visible = valid & seen & ~occluded
        return FlowExample(np.stack(frames).transpose(0, 3, 1, 2), flow * valid, valid, visible)


class PairFiles(FlowClips):
    """Videos of two frames from files, which are read when they are served.

    Args:
        pairs: The files.
        size: Height and width of the window that is served.
        random: Take a random window, another one for each number; otherwise the central one.
        flip: Mirror half of the videos.
    """

    def __init__(
        self, pairs: Sequence[Pair], size: tuple[int, int], random: bool, flip: bool
    ) -> None:
        super().__init__(len(pairs), torch.arange(2.0))
        self.pairs, self.size, self.random, self.flip = pairs, size, random, flip

    def example(self, index: int) -> FlowExample:
        pair = self.pairs[index % len(self)]
        whole = pair.read()
        (h, w), (height, width) = self.size, whole.valid.shape
        if h > height or w > width:
            raise InputError(
                f"{shown(pair.first)} has {height} x {width} pixels (height x width), which is "
                f"less than the size {h} x {w}; lower data.size, as pictures are cut, not scaled"
            )
        down, right, side = uniform(np.array([index]), 3, WINDOWS)[0].tolist()
        if not self.random:
            down = right = 0.5
        top, left = int(down * (height - h + 1)), int(right * (width - w + 1))
        cut = FlowExample(*(x[..., top : top + h, left : left + w] for x in whole))
        cut = cut._replace(visible=cut.visible & cut.inside())
        return cut.mirrored() if self.flip and side < 0.5 else cut


class FlowFiles(FlowData):
    """Base class of the sets of optical flow that are files; a video has two frames.

    Frames are cut, not scaled, so that the flow stays exact: random windows for training, the
    central window for validation and testing. A point that leaves the window isn't visible.

    Args:
        root: Folder of the set.
        size: Height and width of the window of a frame in pixels.
        val_fraction: Share of the training pairs for validation.
        split_seed: Random seed of the splits, independent of the training seed.

    Attributes:
        layout: The files that `root` holds, for error messages.
    """

    layout: str

    def __init__(
        self,
        root: str | Path,
        size: tuple[int, int] = (320, 448),
        val_fraction: float = 0.1,
        split_seed: int = 0,
        **serving: Any,
    ) -> None:
        super().__init__(n_frames=2, n_eval_frames=2, **serving)
        check_counts(1, size=size)
        check_val_fraction(val_fraction)
        self.root, self.size, self.shape = Path(root).expanduser(), size, (3, *size)
        self.val_fraction, self.split_seed = val_fraction, split_seed

    @abc.abstractmethod
    def pairs(self, split: Split) -> list[Pair]:
        """Files of the pairs of a split.

        Raises:
            InputError: The folder has another layout.
        """

    def clips(self, split: Split) -> PairFiles:
        pairs, training = self.pairs(split), split == "train"
        for pair in pairs:
            for path in pair:
                if path is not None and not is_file(path):
                    raise InputError(
                        f"there is no file {shown(path)}, which belongs to {shown(pair.flow)}; "
                        f"{self.wanted()}"
                    )
        return PairFiles(pairs, self.size, training, training and self.flip)

    def wanted(self) -> str:
        """Advice of error messages about a folder of another layout: which files it must hold."""
        return f"give data.root as the folder that holds {self.layout}"


class TrainingFiles(FlowFiles):
    """Base class of the sets whose flow is public for their training pictures only.

    Some of these are for testing, by a random choice.

    Args:
        test_fraction: Share of the pairs for testing.
    """

    def __init__(self, root: str | Path, test_fraction: float = 0.1, **serving: Any) -> None:
        super().__init__(root, **serving)
        check_shares(test_fraction=test_fraction)
        self.test_fraction = test_fraction

    def chosen(self, groups: Sequence[T], split: Split) -> list[T]:
        """Groups of pairs that belong to a split.

        Raises:
            InputError: There is no group, or none for this split.
        """
        if not groups:
            raise InputError(f"found no flow in {shown(self.root)}; {self.wanted()}")
        test = held_out(len(groups), self.test_fraction, self.split_seed)
        mine = [group for k, group in enumerate(groups) if (k in test) == (split == "test")]
        if not mine:
            raise InputError(
                f"got test_fraction {self.test_fraction} of {len(groups)} scenes, which leaves "
                f"none for {split}; change data.test_fraction"
            )
        return videos_of_split(mine, split, self.val_fraction, self.split_seed)


def _picture(path: Path, mode: str) -> np.ndarray:
    """Pixels of a picture in a mode of Pillow, `uint8 [h w ...]`."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert(mode))
    except IMAGE_ERRORS as error:
        raise InputError(
            f"{shown(path)} isn't a whole picture ({reason(error)}); copy it again"
        ) from error
