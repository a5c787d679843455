"""Lists of the classes that inherit the laws: whoever adds a class adds one line here.

The comment over each list names the tests that state the laws.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from common.data.base import Data
from common.data.driving.bdd100k import BDD100K
from common.data.driving.kitti import KITTITracking
from common.data.driving.scenes import DrivingScenes
from common.data.fields.sea import SeaSurface
from common.data.fields.synthetic_sea import SyntheticSea
from common.data.fields.taxi import TaxiBJ
from common.data.fields.wave_set import WaveEq, WaveEq100
from common.data.flow.driving import DrivingFlow
from common.data.flow.flying_chairs import FlyingChairs
from common.data.flow.homographies import HomographyFlow
from common.data.flow.kitti import KITTIFlow
from common.data.flow.sintel import Sintel
from common.data.images.embedded import EmbeddedDigits, EmbeddedPhotos
from common.data.images.files import CIFAR10, MNIST
from common.data.images.folder import ImageFolder
from common.data.videos.bair import BAIR
from common.data.videos.balls import BouncingBalls
from common.data.videos.embedded_clips import EmbeddedClips
from common.data.videos.folder import VideoFolder
from common.data.videos.human36m import Human36M
from common.data.videos.kth import KTH
from common.data.videos.moving_mnist import MovingDigits
from common.data.videos.moving_mnist_files import MovingMNISTFile, SRVPTestSet
from common.data.videos.rotating_digits import RotatingDigits
from common.data.videos.ucf101 import UCF101
from common.data.views.chairs import Chairs
from common.flows.base import Compose
from common.flows.pixel import Logit
from common.ode.sde import EulerMaruyama, Heun
from common.ode.solve import Solver
from common.ode.torch_sde import TorchSDE
from tests.common.data import small_sets as small
from tests.common.flows import bijections
from tests.video_ode import models
from video_ode.dynamics.deconvolution import Deconvolution1d
from video_ode.dynamics.higher_order import HigherOrderODE
from video_ode.dynamics.ode import NeuralODE
from video_ode.dynamics.pre_encoded import PreEncoded
from video_ode.dynamics.recurrent import GRU, ConvGRU, ConvLSTM, MLPDynamics
from video_ode.dynamics.residual import ResidualBlocks, ResidualEuler
from video_ode.dynamics.sde import NeuralSDE
from video_ode.dynamics.time_scaled import TimeScaled

# tests/common/ode/test_solve.py: the order of each method.
SOLVERS = {
    "euler": 1,
    "midpoint": 2,
    "heun2": 2,
    "heun3": 3,
    "rk4": 4,
    "fehlberg2": 2,
    "adaptive_heun": 2,
    "bosh3": 3,
    "dopri5": 5,
    "dopri8": 8,
}

# tests/common/flows/test_bijections.py: how to make one, how to draw images for it, and the number
# of channels of its context.
BIJECTIONS = {
    "logit": (lambda: Logit(0.05), torch.rand, 0),
    "ink map": (bijections.ink_map, bijections.half_ground, 0),
    "standardize": (bijections.standardize, torch.randn, 0),
    "cnf": (bijections.cnf, torch.randn, 0),
    "conditional cnf": (lambda: bijections.cnf(3), torch.randn, 3),
    "composed": (
        lambda: Compose(
            [Logit(1e-3), bijections.standardize(), bijections.cnf(3), bijections.cnf(3)]
        ),
        torch.rand,
        3,
    ),
}

# tests/video_ode/dynamics/test_laws.py: from a field factory to a dynamics factory.
DYNAMICS = {
    "ode": lambda field: partial(NeuralODE, field=field, solver=Solver("rk4", step_size=0.25)),
    "adaptive ode": lambda field: partial(
        NeuralODE, field=field, solver=Solver("dopri5", rtol=1e-8, atol=1e-8)
    ),
    "residual": lambda field: partial(ResidualEuler, field=field, steps=4),
    "residual blocks": lambda field: partial(ResidualBlocks, field=field),
    "mlp": lambda field: partial(MLPDynamics, field=field),
    "gru": lambda field: GRU,
    "noisy gru": lambda field: partial(GRU, noise=2),
    "conv lstm": lambda field: ConvLSTM,
    "conv gru": lambda field: ConvGRU,
    "deconvolution": lambda field: partial(Deconvolution1d, widths=(6, 5, 4)),
    "third order": lambda field: partial(
        HigherOrderODE, field=field, solver=Solver("rk4", step_size=0.25), order=3
    ),
    "second order, highest": lambda field: partial(
        HigherOrderODE, field=field, solver=Solver("rk4", step_size=0.25), inputs="highest"
    ),
    "pre-encoded": lambda field: partial(
        PreEncoded,
        dynamics=partial(NeuralODE, field=field, solver=Solver("rk4", step_size=0.25)),
        width=8,
        layers=2,
    ),
    "time-scaled": lambda field: partial(
        TimeScaled,
        dynamics=partial(NeuralODE, field=field, solver=Solver("rk4", step_size=0.125)),
        frames=2.0,
    ),
    "sde": lambda field: partial(
        NeuralSDE, drift=field, diffusion=field, solver=EulerMaruyama(0.25), prior_drift=field
    ),
    "stratonovich sde": lambda field: partial(
        NeuralSDE, drift=field, diffusion=field, solver=Heun(0.25), positive=False
    ),
    "torchsde": lambda field: partial(
        NeuralSDE, drift=field, diffusion=field, solver=TorchSDE(0.25, "midpoint")
    ),
}

# tests/video_ode/test_predictor.py: small predictors of frames of `models.SHAPE`.
PREDICTORS = {
    "latent_ode": models.latent_ode,
    "srvp": models.srvp,
    "svg": models.svg,
    "separation": models.separation,
}


@dataclass(frozen=True)
class SmallSet:
    """A data set on small files or in memory (`tests/common/data/test_laws.py`).

    Attributes:
        kind: Its class.
        arguments: Function that writes the files into an empty folder and returns the arguments of
            the class.
        splits: Splits that the set has.
        fixed: Serving arguments that make no sense for the set, so it refuses them.
        fields: Whether the frames are fields of floats, not pictures.
    """

    kind: type[Data]
    arguments: Callable[[Path], dict[str, Any]]
    splits: tuple[str, ...] = ("train", "val", "test")
    fixed: tuple[str, ...] = ()
    fields: bool = False


TEST, NO_FLIP = ("test",), ("flip",)
TWO_FRAMES = ("n_frames", "n_eval_frames")
ALWAYS_WHOLE = ("every", "clips_per_video", "in_memory", "strict")

IMAGE_SETS = [
    SmallSet(EmbeddedDigits, small.in_memory()),
    SmallSet(EmbeddedPhotos, small.in_memory(crops_per_photo=10)),
    SmallSet(MNIST, small.mnist),
    SmallSet(CIFAR10, small.cifar),
    SmallSet(ImageFolder, small.image_folder),
]
VIDEO_SETS = [
    SmallSet(MovingDigits, small.simulated, fixed=NO_FLIP),
    SmallSet(BouncingBalls, small.simulated, fixed=NO_FLIP),
    SmallSet(DrivingScenes, small.driving, fixed=NO_FLIP),
    SmallSet(BDD100K, small.bdd100k),
    SmallSet(KITTITracking, small.kitti),
    SmallSet(DrivingFlow, small.driving, fixed=NO_FLIP),
    SmallSet(HomographyFlow, small.homographies, fixed=NO_FLIP),
    SmallSet(Sintel, small.sintel, fixed=TWO_FRAMES),
    SmallSet(FlyingChairs, small.flying_chairs, fixed=TWO_FRAMES),
    SmallSet(KITTIFlow, small.kitti_flow, fixed=TWO_FRAMES),
    SmallSet(RotatingDigits, small.simulated, fixed=NO_FLIP),
    SmallSet(EmbeddedClips, small.embedded_clips),
    SmallSet(VideoFolder, small.video_folder),
    SmallSet(KTH, small.kth, fixed=("crop", "test_fraction")),
    SmallSet(BAIR, small.bair, fixed=ALWAYS_WHOLE),
    SmallSet(Human36M, small.human36m),
    SmallSet(UCF101, small.ucf101),
    SmallSet(MovingMNISTFile, small.moving_mnist_file, TEST, ("flip", "n_eval_frames")),
    SmallSet(SRVPTestSet, small.srvp_test_set, TEST, ("flip", "n_eval_frames")),
    SmallSet(Chairs, small.chairs),
    SmallSet(SeaSurface, small.sea_surface, fixed=("in_memory",), fields=True),
    SmallSet(SyntheticSea, small.synthetic_sea, fixed=("in_memory", "root"), fields=True),
    SmallSet(TaxiBJ, small.taxi_bj, fixed=NO_FLIP, fields=True),
    SmallSet(WaveEq, small.waves, fields=True),
    SmallSet(WaveEq100, small.waves, fixed=NO_FLIP, fields=True),
]
