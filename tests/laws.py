"""Lists of the classes that inherit the laws: whoever adds a class adds one line here.

Each list is read by the test module that states its laws.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.data.base import Data
from common.data.images.embedded import EmbeddedDigits, EmbeddedPhotos
from common.data.images.files import CIFAR10, MNIST
from common.data.videos.bair import BAIR
from common.data.videos.balls import BouncingBalls
from common.data.videos.embedded_clips import EmbeddedClips
from common.data.videos.folder import VideoFolder
from common.data.videos.human36m import Human36M
from common.data.videos.kth import KTH
from common.data.videos.moving_mnist import MovingDigits
from common.data.videos.moving_mnist_files import MovingMNISTFile, SRVPTestSet
from common.data.videos.rotating_digits import RotatingDigits
from tests.common.data import small_sets as small


@dataclass(frozen=True)
class SmallSet:
    """A data set on small files or in memory (`tests/common/data/test_laws.py`).

    Attributes:
        kind: Its class.
        arguments: Function that writes the files into an empty folder and returns the arguments of
            the class.
        splits: Splits that the set has.
        fixed: Serving arguments that make no sense for the set, so it refuses them.
    """

    kind: type[Data]
    arguments: Callable[[Path], dict[str, Any]]
    splits: tuple[str, ...] = ("train", "val", "test")
    fixed: tuple[str, ...] = ()


TEST, NO_FLIP = ("test",), ("flip",)
ALWAYS_WHOLE = ("every", "clips_per_video", "in_memory", "strict")

IMAGE_SETS = [
    SmallSet(EmbeddedDigits, small.in_memory()),
    SmallSet(EmbeddedPhotos, small.in_memory(crops_per_photo=10)),
    SmallSet(MNIST, small.mnist),
    SmallSet(CIFAR10, small.cifar),
]
VIDEO_SETS = [
    SmallSet(MovingDigits, small.simulated, fixed=NO_FLIP),
    SmallSet(BouncingBalls, small.simulated, fixed=NO_FLIP),
    SmallSet(RotatingDigits, small.simulated, fixed=NO_FLIP),
    SmallSet(EmbeddedClips, small.embedded_clips),
    SmallSet(VideoFolder, small.video_folder),
    SmallSet(KTH, small.kth, fixed=("crop", "test_fraction")),
    SmallSet(BAIR, small.bair, fixed=ALWAYS_WHOLE),
    SmallSet(Human36M, small.human36m),
    SmallSet(MovingMNISTFile, small.moving_mnist_file, TEST, ("flip", "n_eval_frames")),
    SmallSet(SRVPTestSet, small.srvp_test_set, TEST, ("flip", "n_eval_frames")),
]
