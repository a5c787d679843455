"""A small detector, drives of 32 px, and small predictors of its features."""

import torch

from common.data.driving.scenes import DrivingScenes
from common.ode.solve import Solver
from video_ode.dynamics.fields import ConvField
from video_ode.dynamics.ode import NeuralODE
from video_ode.objects.detection.yolo import YOLO
from video_ode.objects.feature_clips import FeatureClips
from video_ode.objects.predictor import FeaturePredictor

CHANNELS, STRIDES = (8, 8, 16), (4, 8, 16)


def small_drives(**options):
    counts = {"n_train": 4, "n_val": 2, "n_test": 2, "n_frames": 5, "n_eval_frames": 6}
    return DrivingScenes(**{"size": (32, 32), "tracks": True, **counts, **options})


def small_detector():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return YOLO(width=2).eval()


def small_clips(folder, **options):
    return FeatureClips(small_drives(**options), small_detector(), str(folder), batch_size=2)


def ode(size, context):
    def field(n, c):
        return ConvField(n, c, width=4, activation="tanh")

    return NeuralODE(size, context, field, Solver(method="rk4", step_size=0.25))


def small_predictor(dynamics=ode):
    return FeaturePredictor(CHANNELS, STRIDES, dynamics, width=6)


def some_features(b=2, t=3, side=32):
    return [
        torch.randn(b, t, c, side // s, side // s) for c, s in zip(CHANNELS, STRIDES, strict=True)
    ]
