"""3D Warehouse chairs: pictures of chair models from all sides, as videos of a turning chair."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.data.base import Split
from common.data.formats.footage import IMAGE_ERRORS, Footage
from common.data.videos.windows import (
    VideoOpener,
    WindowData,
    check_val_fraction,
    span_of,
    videos_of_split,
)
from common.errors import InputError

VIEWS = 62  # pictures of each model
RENDERED, SIDE = (600, 600), 64  # size of the rendered pictures, and side of the frames
CROP = (100, 100, 500, 500)  # left, top, right and bottom of the part of them that is kept
TRAIN_SHARE = 0.85  # of the models


class Chairs(WindowData):
    """3D Warehouse chairs (Aubry et al. 2014): 62 views around each of some 1,400 chair models.

    The set reads `rendered_chairs/{model}/renders/*.png` under `root`, in the order of the names.
    Rendered pictures of 600×600 are cut to their middle, 400×400, and scaled to 64×64. If the
    folder holds the pictures `0.png` to `61.png`, which Donà et al. (2021) make in this way, these
    are taken. A clip begins at any view, and the first view follows the last one.

    85% of the models, in the random order of Donà et al., are for training and validation, the
    others for testing. With `clips_per_video` 62 each test clip begins at another view.

    Args:
        root: Folder that holds `rendered_chairs`, or this folder itself.
        val_fraction: Share of the training models for validation.
        split_seed: Random seed of the validation models, independent of the training seed.
        n_frames: Number of frames of a training video.
        n_eval_frames: Number of frames of a validation or test video. None: `n_frames`.
    """

    shape = (3, SIDE, SIDE)

    def __init__(
        self,
        root: str | Path,
        val_fraction: float = 0.05,
        split_seed: int = 0,
        n_frames: int = 15,
        n_eval_frames: int | None = None,
        **serving: Any,
    ) -> None:
        super().__init__(n_frames=n_frames, n_eval_frames=n_eval_frames, **serving)
        check_val_fraction(val_fraction)
        self.root, self.split_seed = Path(root).expanduser(), split_seed
        self.val_fraction = val_fraction

    def openers(self, split: Split) -> Sequence[VideoOpener]:
        inside = self.root / "rendered_chairs"
        folder = inside if inside.is_dir() else self.root
        models = sorted(path.parent for path in folder.glob("*/renders") if path.is_dir())
        if len(models) < 2:
            raise InputError(
                f"found {len(models)} folders {folder}/…/renders; unpack rendered_chairs.tar in "
                f"{self.root}"
            )
        # numpy's legacy generator, because the authors used it.
        np.random.RandomState(42).shuffle(models)  # type: ignore[arg-type]
        n_training = int(TRAIN_SHARE * len(models))
        mine = models[n_training:] if split == "test" else models[:n_training]
        mine = videos_of_split(mine, split, self.val_fraction, self.split_seed)
        more = span_of(self.length(split), self.every) - 1
        return [functools.partial(ChairViews, model / "renders", more) for model in mine]


class ChairViews(Footage):
    """Views of one chair model, of which the first ones follow the last one.

    Args:
        folder: Folder of the pictures.
        more: Number of views that follow the last one.

    Raises:
        InputError: There are not 62 views.
    """

    def __init__(self, folder: Path, more: int) -> None:
        self.name, self.more = str(folder), more
        found = sorted(folder.glob("*.png"))
        made = [folder / f"{view}.png" for view in range(VIEWS)]
        rendered = [path for path in found if not path.stem.isdigit()]
        self.files = made if set(made) <= set(found) else rendered
        if len(self.files) != VIEWS:
            raise InputError(
                f"{folder} has {len(self.files)} rendered pictures, not {VIEWS}; unpack it again"
            )

    def __len__(self) -> int:
        return VIEWS + self.more

    def read(self, frames: range) -> np.ndarray:
        return np.stack([picture(self.files[k % VIEWS]) for k in frames])


def picture(path: Path) -> np.ndarray:
    """Picture of a chair, `uint8 [3 64 64]`.

    Raises:
        InputError: The picture can't be read, or has another size than the two known ones.
    """
    try:
        with Image.open(path) as image:
            size, colours = image.size, image.convert("RGB")
    except IMAGE_ERRORS as error:
        raise InputError(f"{path} isn't a whole picture ({error}); unpack it again") from error
    if size == RENDERED:
        colours = colours.crop(CROP).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    elif size != (SIDE, SIDE):
        raise InputError(
            f"{path} has {size} pixels, not {RENDERED} or {SIDE, SIDE}; unpack it again"
        )
    return np.asarray(colours).transpose(2, 0, 1)
