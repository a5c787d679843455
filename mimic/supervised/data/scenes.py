"""Rendered street scenes with a class for each pixel, by day and by night."""

from typing import Any, Literal

import numpy as np
import torch

from common.data.base import Split
from common.data.streets import DAY, NIGHT, STREET_CLASSES, Lighting, render_streets
from common.errors import InputError, check_counts
from mimic.supervised.data.labelled import LabelledData, LabelledStack

SCENE_SEEDS: dict[Split, int] = {"train": 0, "val": 1, "test": 2}
AT_ONCE = 32  # scenes drawn at once, so that they stay in the cache

DomainName = Literal["day", "night"]
DOMAINS: dict[str, Lighting] = {"day": DAY, "night": NIGHT}


class RenderedScenes(LabelledData):
    """Streets with houses, cars, trees and people, labels `[b h w]`.

    A small version of the Cityscapes → BDD100K question: train in one domain and test in another
    one, of which no image was seen. Scene k of a split has the same layout and labels in all
    domains.

    Args:
        domain: `day` or `night`: light, sky, lamps, haze and noise.
        test_domain: Domain of the test split. None: the same as `domain`.
        size: Height and width.
        n_train: Number of scenes for training.
        n_val: Number of scenes for validation.
        n_test: Number of scenes for testing.
        batch_size: Number of scenes per device and step.
        **serving: Options of `Data`.

    Attributes:
        class_names: Names of the classes; those that Cityscapes has too come in the same order.
    """

    examples = "scenes"
    n_classes = len(STREET_CLASSES)
    class_names = STREET_CLASSES

    def __init__(
        self,
        domain: DomainName = "day",
        test_domain: DomainName | None = None,
        size: tuple[int, int] = (48, 64),
        n_train: int = 2000,
        n_val: int = 200,
        n_test: int = 500,
        batch_size: int = 32,
        **serving: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, **serving)
        target = domain if test_domain is None else test_domain
        if unknown := {domain, target} - set(DOMAINS):
            raise InputError(f"got domain {unknown.pop()}; give one of {', '.join(DOMAINS)}")
        if min(size) < 16:
            raise InputError(f"got size {size}; a scene needs 16 pixels or more each way")
        self.counts: dict[Split, int] = {"train": n_train, "val": n_val, "test": n_test}
        check_counts(1, n_train=n_train, n_val=n_val, n_test=n_test)
        self.domains: dict[Split, str] = {"train": domain, "val": domain, "test": target}
        self.size, self.shape = size, (3, *size)

    def dataset(self, split: Split) -> LabelledStack:
        lighting, seed = DOMAINS[self.domains[split]], SCENE_SEEDS[split]
        numbers = np.arange(self.counts[split])
        parts = np.split(numbers, range(AT_ONCE, len(numbers), AT_ONCE))
        drawn = [render_streets(part, seed, lighting, self.size) for part in parts]
        images = np.concatenate([block.images for block in drawn])
        labels = np.concatenate([block.labels for block in drawn])
        return LabelledStack(torch.from_numpy(images), torch.from_numpy(labels))
