"""Evaluation of decoded frames: distance to the true frames, and what an extractor sees."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

from common.metrics.frames import psnr
from common.typing import Image
from video_ode.objects.decoders.inversion import feature_error
from video_ode.objects.extractor import FeatureExtractor
from video_ode.objects.feature_clips import FeatureClip
from video_ode.predictor import to_unit


class DecodedScores(nn.Module):
    """Scores of decoded frames, over all frames that were added.

    `psnr` compares pixels. The others take the extractor as a viewer of the decoded frames:
    `feature_error` is `‖φ(x̂) - φ‖² / ‖φ‖²` with the features φ of the true frame at the decoded
    scale, and the extractor's own scores compare what it reads, such as `map50` with the true
    boxes and `agreement50` with the detections in the true frames.

    Args:
        extractor: Network that gives features and reads them.
        scale: Number of the decoded scale, finest first.
    """

    def __init__(self, extractor: FeatureExtractor, scale: int) -> None:
        super().__init__()
        self.extractor, self.scale, self.readings = extractor, scale, extractor.scores()
        self.psnr, self.error = MeanMetric(), MeanMetric()

    @torch.no_grad()
    def update(self, decoded: Image, batch: FeatureClip, frame: int) -> None:
        """Adds one frame of each video.

        Args:
            decoded: Decoded frames, `[b 3 h w]` in `[0, 1]`.
            batch: The videos with their features.
            frame: Number of the frame.
        """
        self.psnr.update(psnr(decoded, to_unit(batch.clip.frames[:, frame])))
        self.update_seen(self.extractor.features(decoded), batch, frame)

    @torch.no_grad()
    def update_seen(self, seen: Sequence[Tensor], batch: FeatureClip, frame: int) -> None:
        """Adds the features that the extractor sees in one frame of each video, at each scale."""
        true = [x[:, frame].float() for x in batch.features]
        self.error.update(feature_error(seen[self.scale], true[self.scale]))
        truths, own = self.extractor.truths(batch.videos, frame), self.extractor.readings(true)
        self.readings.update(self.extractor.readings(seen), truths, own)

    def compute(self) -> dict[str, float]:
        """Scores by name, NaN where nothing counts; without PSNR if no frames were added."""
        means = {"psnr": self.psnr, "feature_error": self.error}
        found = {name: float(x.compute()) for name, x in means.items() if x.update_called}
        return {**found, **self.readings.compute()}
