"""Data sets, features and callbacks whose class names alone are enough on the command line."""

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
from common.metrics.digits import DigitFeatures
from video_ode.evaluation.validation import GenerationMetrics

__all__ = [
    "BAIR",
    "BDD100K",
    "KTH",
    "UCF101",
    "BouncingBalls",
    "Chairs",
    "DigitFeatures",
    "DrivingFlow",
    "DrivingScenes",
    "EmbeddedClips",
    "FlyingChairs",
    "GenerationMetrics",
    "HomographyFlow",
    "Human36M",
    "KITTIFlow",
    "KITTITracking",
    "MovingDigits",
    "MovingMNISTFile",
    "RotatingDigits",
    "SRVPTestSet",
    "SeaSurface",
    "Sintel",
    "SyntheticSea",
    "TaxiBJ",
    "VideoFolder",
    "WaveEq",
    "WaveEq100",
]
