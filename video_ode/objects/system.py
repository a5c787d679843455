"""Base class of the systems with a fixed feature extractor."""

import torch
from torch import Tensor

from common.data.base import Split
from common.data.driving.tracks import TrackedClip
from common.data.videos.base import VideoData
from common.errors import InputError
from common.training.system import System
from video_ode.objects.extractor import FeatureExtractor
from video_ode.objects.feature_clips import FeatureClip, FeatureClips
from video_ode.predictor import to_unit


class ExtractorSystem(System):
    """System around a feature extractor that is never trained.

    A subclass calls `keep` with the extractor in its constructor.
    """

    extractor: FeatureExtractor

    def keep(self, extractor: FeatureExtractor) -> None:
        """Takes the extractor, and fixes its weights."""
        self.extractor = extractor.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "ExtractorSystem":
        super().train(mode)
        self.extractor.eval()  # its batch norms must not learn
        return self

    def setup(self, stage: str) -> None:
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, FeatureClips):
            data.attach(self)
        if isinstance(data, VideoData):
            self.extractor.check(data.videos if isinstance(data, FeatureClips) else data)

    # After the weights of a checkpoint are loaded.
    def on_train_start(self) -> None:
        self._check_features(("train", "val"))

    def on_validation_start(self) -> None:
        self._check_features(("val",))

    def on_test_start(self) -> None:
        self._check_features(("test",))

    def features_of(self, batch: object) -> FeatureClip:
        """Batch with the features of all frames, in single precision.

        Raises:
            InputError: A batch that is neither a `FeatureClip` nor a `TrackedClip`.
        """
        if isinstance(batch, FeatureClip):
            return FeatureClip([x.float() for x in batch.features], batch.videos)
        if not isinstance(batch, TrackedClip):
            raise InputError(
                f"got a batch of type {type(batch).__name__}; give data of tracked objects, such "
                "as FeatureClips, or DrivingScenes with tracks: true"
            )
        frames = to_unit(batch.clip.frames)
        with torch.no_grad():
            features = self.extractor.features(frames.flatten(0, 1))
        return FeatureClip([x.unflatten(0, frames.shape[:2]) for x in features], batch)

    def of_first_device(self, x: Tensor) -> Tensor:
        """Tensor of the first device, the same on all devices."""
        # By way of the CPU: a tensor that is sent comes back on the device where it was.
        return self.trainer.strategy.broadcast(x.cpu()).to(self.device)

    def _check_features(self, splits: tuple[Split, ...]) -> None:
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, FeatureClips):
            data.check(self.extractor, splits)
