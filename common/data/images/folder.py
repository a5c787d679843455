"""Folders of images: files of any size and kind, at any depth under one folder."""

import bisect
import functools
import hashlib
import math
import os
import random
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torchdata.stateful_dataloader import StatefulDataLoader

from common.data.base import SPLITS, Split, check_fractions
from common.data.formats.footage import FrameFormat
from common.data.formats.image_files import LEAST_ZOOM, WHOLE, Window, images_under, read_image
from common.data.images.base import ImageData, ImageStack
from common.errors import InputError, check_counts, check_words
from common.progress import Progress
from common.typing import Pixels

Crop = Literal["centre", "random", "none"]
Background = Literal["black", "white"]
Scored = Literal["all", "train", "val", "test"]
MOST_THREADS = 8  # each may hold an image of 179 megapixels
NAMED = 5  # number of broken files that a message names


class ImageFolder(ImageData):
    """All images under a folder, at any depth.

    An image is a file (png, jpg, jpeg, jfif, webp, bmp, tif, tiff, gif, avif, jp2, pbm, pgm, ppm,
    pnm) of any size and mode: grey, colour, palette, CMYK, transparent, 1, 8 or 16 bits. It is
    turned as its EXIF orientation says, cropped, and scaled with antialiasing. Of an animation the
    first picture is taken. All images are held in memory in their final size.

    The sub-folders `train`, `val` and `test` of `root` hold the splits of these names. If there is
    no image in `val` or `test`, that split is drawn from the other images by a hash of their
    paths below `root`: an image that is added or removed moves no other one to another split. (In
    folders of a few dozen images it may, because no split is left empty.)

    Args:
        root: Folder of the images.
        size: Height and width in px, or one number for both.
        channels: 3: colour; 1: grey.
        crop: `centre`: cut images to the aspect ratio of `size`, around their centre; `random`:
            the same for validation, test and prediction, and `crops_per_image` windows at random
            places for training, each of half to all of the largest height, the same in every run;
            `none`: keep whole images and change their aspect ratio.
        crops_per_image: Number of random crops of each training image.
        background: Colour behind transparent pixels.
        strict: Stop at files that can't be read. Otherwise they are left out with a warning.
        predict: Images that `predict` reads: `all`, or those of a split.
        val_fraction: Share of the images for validation, if there is none in `val`.
        test_fraction: Share of the images for testing, if there is none in `test`.
        split_seed: Seed of the hash, independent of the training seed.
    """

    def __init__(
        self,
        root: str | Path,
        size: int | tuple[int, int] = 64,
        channels: Literal[1, 3] = 3,
        crop: Crop = "centre",
        crops_per_image: int = 1,
        background: Background = "black",
        strict: bool = True,
        predict: Scored = "all",
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        split_seed: int = 0,
        **serving: Any,
    ) -> None:
        super().__init__(**serving)
        check_words((crop, Crop), (background, Background), (predict, Scored))
        check_counts(1, crops_per_image=crops_per_image)
        check_fractions(val_fraction, test_fraction)
        if crop != "random" and crops_per_image > 1:
            raise InputError(
                f"got crops_per_image {crops_per_image} with crop {crop}; give crop random"
            )
        self.frame_format = FrameFormat.checked(
            size, channels, "none" if crop == "none" else "centre", background
        )
        self.root, self.shape = Path(root).expanduser(), self.frame_format.shape
        self.crop, self.crops_per_image = crop, crops_per_image
        self.strict, self.predict = strict, predict
        self.fractions: dict[Split, float] = {"test": test_fraction, "val": val_fraction}
        self.split_seed = split_seed
        self._read: dict[Scored, ImageStack] = {}

    def images(self, split: Split) -> Pixels:
        return self._part(split).images

    def names(self, split: Split) -> list[str] | None:
        """Paths of the images of a split below `root`, one for each image of `images`."""
        return self._part(split).names

    def setup(self, stage: str) -> None:
        if stage == "predict":
            self._datasets["predict"] = self._part(self.predict)
        else:
            super().setup(stage)

    def predict_dataloader(self) -> StatefulDataLoader[Any]:
        return self._loader("predict")

    @functools.cached_property
    def files(self) -> dict[str, Path]:
        """Paths of all images by their names, which are their paths below `root`, sorted.

        Raises:
            InputError: `root` is no folder, or there is no image.
        """
        return images_under(self.root)

    def split(self) -> dict[Split, list[str]]:
        """Names of the images of each split, sorted."""
        inside = {split: [n for n in self.files if n.split("/")[0] == split] for split in SPLITS}
        held = {*inside["val"], *inside["test"]}
        shares = sorted((self._share(name), name) for name in self.files if name not in held)
        taken, end = 0, 0.0
        drawn = [split for split, share in self.fractions.items() if share and not inside[split]]
        for k, split in enumerate(drawn):
            end += self.fractions[split]
            most = len(shares) - len(drawn) + k  # one is left for each of the others
            stop = max(taken, min(most, max(taken + 1, bisect.bisect(shares, (end,)))))
            inside[split] = sorted(name for _, name in shares[taken:stop])
            taken = stop
        inside["train"] = sorted(name for _, name in shares[taken:])
        return inside

    def _share(self, name: str) -> float:
        """Number in [0, 1) that depends on a name and the seed alone."""
        # The systems write accents in different ways.
        told = f"{self.split_seed}/{unicodedata.normalize('NFC', name)}"
        code = hashlib.sha256(told.encode(errors="surrogateescape")).digest()
        return int.from_bytes(code[:6]) / 2**48

    def _part(self, part: Scored) -> ImageStack:
        """Images of a split, or of all, which are read once."""
        if part not in self._read:
            names = list(self.files) if part == "all" else self.split()[part]
            if not names:
                raise InputError(
                    f"none of the {len(self.files)} images in {self.root} is left for {part}; add "
                    f"images, put some in {self.root / part}, or change data.val_fraction and "
                    "data.test_fraction"
                )
            self._read[part] = self._stack(part, names)
        return self._read[part]

    def _stack(self, part: Scored, names: list[str]) -> ImageStack:
        """Images of these names, read in several threads."""
        drawn = part == "train" and self.crop == "random"
        n_crops = self.crops_per_image if drawn else 1
        check_memory(len(names) * n_crops, self.shape)
        pixels = np.empty((len(names), n_crops, *self.shape), np.uint8)

        def attempt(k: int) -> str | None:
            windows = _windows(names[k], n_crops) if drawn else [WHOLE]
            try:
                pixels[k] = read_image(self.files[names[k]], self.frame_format, windows)
            except InputError as error:
                return f"{names[k]} ({error})"
            return None

        rank_zero_info(
            f"{len(names)} of {len(self.files)} images in {self.root} are for {part}; they take "
            f"{pixels.nbytes / 1e6:.1f} MB of memory"
        )
        pool = ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1))
        try:
            made = pool.map(attempt, range(len(names)))
            told = list(Progress(made, f"Reading {part} images", len(names)))
        finally:
            pool.shutdown(cancel_futures=True)
        if broken := [words for words in told if words is not None]:
            if self.strict and part != "all":
                self._part("all")  # which names the broken files of the other splits too
            self._report(broken, len(names))
            pixels = pixels[[words is None for words in told]]
        whole = [name for name, words in zip(names, told, strict=True) if words is None]
        repeated = [name for name in whole for _ in range(n_crops)]
        return ImageStack(torch.from_numpy(pixels).flatten(0, 1), repeated)

    def _report(self, broken: list[str], count: int) -> None:
        """Raises an error about files that can't be read, or warns of them."""
        more = f" and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
        told = f"{len(broken)} of {count} images in {self.root}: {', '.join(broken[:NAMED])}{more}"
        if self.strict:
            raise InputError(
                f"can't read {told}; repair or remove them, or give data.strict false, which "
                "leaves them out"
            )
        if len(broken) == count:
            raise InputError(f"no image can be read: {told}; give others")
        rank_zero_warn(f"left out {told}")


def _windows(name: str, count: int) -> list[Window]:
    """Random windows of an image, which depend on its name alone."""
    draw = random.Random(name)
    return [(draw.uniform(LEAST_ZOOM, 1), draw.random(), draw.random()) for _ in range(count)]


def check_memory(count: int, shape: tuple[int, int, int]) -> None:
    """Raises an `InputError` if images would fill more than half of the computer's memory.

    Args:
        count: Number of images.
        shape: Channels, height and width; each takes one byte.
    """
    has = math.inf
    with suppress(AttributeError, OSError, ValueError):  # not known on all systems
        has = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    needs = count * math.prod(shape)
    if needs > has / 2:
        raise InputError(
            f"got {count} images of {' x '.join(map(str, shape))}, which need {needs / 1e9:.1f} "
            f"GB, more than half of the {has / 1e9:.1f} GB of memory; lower data.size, or give a "
            "part of the images"
        )
