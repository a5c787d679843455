"""Cityscapes and the segmentation part of BDD100K, from their folders."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from common.data.base import Split
from common.data.formats.footage import IMAGE_ERRORS
from common.errors import InputError
from mimic.supervised.data.labelled import Labelled, LabelledData

CITYSCAPES_CLASSES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
    "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train",
    "motorcycle", "bicycle",
)  # fmt: skip
IGNORE = 255

Pair = tuple[Path, Path]  # an image and its labels


class Layout(NamedTuple):
    """Layout of a set's files below its root; `{split}` is train or val.

    Attributes:
        images: Folder of the images.
        labels: Folder of the labels, with the same folders inside.
        pattern: Pattern of the images in their folder.
        ending: Ending of an image's name.
        label_endings: Possible endings of its label's name.
        advice: Way to get the files.
    """

    images: str
    labels: str
    pattern: str
    ending: str
    label_endings: tuple[str, ...]
    advice: str


LAYOUTS: dict[str, Layout] = {
    "cityscapes": Layout(
        images="leftImg8bit/{split}",
        labels="gtFine/{split}",
        pattern="*/*_leftImg8bit.png",
        ending="_leftImg8bit.png",
        label_endings=("_gtFine_labelTrainIds.png",),
        advice="unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of Cityscapes and "
        "run csCreateTrainIdLabelImgs of cityscapesscripts",
    ),
    "bdd100k": Layout(
        images="images/10k/{split}",
        labels="labels/sem_seg/masks/{split}",
        pattern="*.jpg",
        ending=".jpg",
        label_endings=(".png", "_train_id.png"),
        advice="unpack the 10K images and the semantic segmentation labels of BDD100K",
    ),
}


class SegmentationFolders(LabelledData):
    """Photographs of streets with the 19 training classes of Cityscapes for each pixel.

    Labels are `[b h w]`, 255 where there is no class. The test split is the official validation
    set (the labels of the official test set are not public), the validation split a part of the
    official training set. Files are read when they are served.

    Args:
        root: Folder with `leftImg8bit` and `gtFine`, or with `images` and `labels`.
        layout: Set: `cityscapes` or `bdd100k`.
        size: Height and width to scale to, images bilinearly, labels to the nearest pixel.
        val_fraction: Share of the training images held out, more than 0 and less than 1.
        split_seed: Seed of that choice, apart from the seed of training.
        batch_size: Number of images per device and step.
        **serving: Options of `Data`.

    Attributes:
        class_names: Names of the classes.
    """

    examples = "images"
    n_classes = len(CITYSCAPES_CLASSES)
    class_names = CITYSCAPES_CLASSES

    def __init__(
        self,
        root: str | Path,
        layout: Literal["cityscapes", "bdd100k"] = "cityscapes",
        size: tuple[int, int] = (256, 512),
        val_fraction: float = 0.1,
        split_seed: int = 0,
        batch_size: int = 8,
        **serving: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, **serving)
        if layout not in LAYOUTS:
            raise InputError(f"got layout {layout}; give one of {', '.join(LAYOUTS)}")
        if min(size) < 1:
            raise InputError(f"got size {size}; give 1 or more pixels each way")
        if not 0 < val_fraction < 1:
            raise InputError(f"got val_fraction {val_fraction}; give more than 0 and less than 1")
        self.root, self.layout = Path(root).expanduser(), LAYOUTS[layout]
        self.size, self.shape = size, (3, *size)
        self.val_fraction, self.split_seed = val_fraction, split_seed

    def dataset(self, split: Split) -> "SegmentationFiles":
        return SegmentationFiles(self.pairs(split), self.size)

    def pairs(self, split: Split) -> list[Pair]:
        """Files of a split, in an order that never changes.

        Raises:
            InputError: There are no images, a label is missing, or a split is empty.
        """
        pairs = self._official("val" if split == "test" else "train")
        if split == "test":
            return pairs
        n_val = round(len(pairs) * self.val_fraction)
        if not 0 < n_val < len(pairs):
            raise InputError(
                f"got val_fraction {self.val_fraction} of {len(pairs)} training images, which "
                "leaves none on one side; change data.val_fraction"
            )
        seeded = torch.Generator().manual_seed(self.split_seed)
        order = torch.randperm(len(pairs), generator=seeded).tolist()
        return [pairs[k] for k in sorted(order[:n_val] if split == "val" else order[n_val:])]

    def _official(self, split: str) -> list[Pair]:
        where, advice = self.layout, self.layout.advice
        folder, labels = (self.root / p.format(split=split) for p in (where.images, where.labels))
        found = sorted(folder.glob(where.pattern))
        if not found:
            raise InputError(
                f"found no {where.pattern} in {folder}; {advice}, then give the folder as "
                "data.root"
            )
        pairs = []
        for image in found:
            beside = labels / image.parent.relative_to(folder)
            names = [image.name.removesuffix(where.ending) + end for end in where.label_endings]
            there = [beside / name for name in names if (beside / name).is_file()]
            if not there:
                raise InputError(
                    f"found no {' or '.join(names)} in {beside}, the labels of {image}; {advice}"
                )
            pairs.append((image, there[0]))
        return pairs


class SegmentationFiles(Dataset[Labelled]):
    """Images and labels read on demand; index `n + i` of `n` is the mirror image of index `i`.

    Args:
        pairs: Files of images and labels.
        size: Height and width to scale to.
    """

    def __init__(self, pairs: list[Pair], size: tuple[int, int]) -> None:
        self.pairs, self.size = pairs, size

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Labelled:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> Labelled:
        n, (height, width) = len(self), self.size
        images = torch.empty(len(indices), 3, height, width, dtype=torch.uint8)
        labels = torch.empty(len(indices), height, width, dtype=torch.int64)
        for row, index in enumerate(indices):
            pixels, classes = _read(self.pairs[index % n], self.size)
            flipped = slice(None, None, -1 if index >= n else 1)
            images[row] = torch.from_numpy(pixels[:, flipped].transpose(2, 0, 1).copy())
            labels[row] = torch.from_numpy(classes[:, flipped].astype(np.int64))
        return Labelled(images, labels)


def _read(pair: Pair, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Image `uint8 [h w 3]` and its labels `uint8 [h w]`."""
    opened = []
    for path in pair:
        try:
            with Image.open(path) as file:
                file.load()
                opened.append(file)
        except IMAGE_ERRORS as error:
            raise InputError(f"{path} isn't a whole image ({error}); unpack it again") from error
    image, label = opened
    if image.size != label.size:
        raise InputError(
            f"{pair[0]} has {image.width}x{image.height} pixels, its labels {pair[1]} have "
            f"{label.width}x{label.height}; download both again"
        )
    if label.mode not in ("L", "P"):  # a palette's indices are the classes too
        raise InputError(
            f"{pair[1]} has pixels of mode {label.mode}, labels have one byte each; give the "
            "files of classes, not those of colours"
        )
    scale = (size[1], size[0])
    classes = np.asarray(label.resize(scale, Image.Resampling.NEAREST))
    if unknown := set(np.unique(classes).tolist()) - {*range(len(CITYSCAPES_CLASSES)), IGNORE}:
        raise InputError(
            f"{pair[1]} holds the classes {sorted(unknown)}, the training ones are 0 to 18 and "
            "255 (none); give the files of training classes (trainIds)"
        )
    pixels = image.convert("RGB").resize(scale, Image.Resampling.BILINEAR)
    return np.asarray(pixels), classes
