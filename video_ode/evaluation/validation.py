"""Callback that measures generated videos after every validation."""

import math

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from common.data.videos.base import Clip
from common.errors import check_counts
from common.metrics.video import ClipClassifier, ClipFeatures, RandomVideoFeatures
from video_ode.evaluation.generation import (
    distance_of,
    generated_features,
    of_all_processes,
    score_of,
)
from video_ode.evaluation.systems import Generating, not_a_video_system
from video_ode.predictor import to_pixels


class GenerationMetrics(Callback):
    """Logs the Fréchet distance between generated and validation videos after every validation.

    If the features are those of a classifier, the Inception score is logged too. The log keys are
    `val/` and the names of the features, such as `val/digit_frechet_video` and
    `val/digit_inception_score`; `best: {monitor: val/digit_frechet_video, mode: min}` keeps the
    checkpoint with the smallest distance. The best of many noisy numbers is too good: report the
    numbers of `test` on fresh batches.

    Args:
        features: Features of the videos (see `Evaluation`). None: random features.
        n_generated: Number of generated videos. None: as many as there are validation videos.
        seed: Seed of their noise, which is the same after every validation.

    Raises:
        InputError: `n_generated` is below 2.
    """

    def __init__(
        self, features: ClipFeatures | None = None, n_generated: int | None = None, seed: int = 0
    ) -> None:
        check_counts(2, n_generated=n_generated)
        self.features = features or RandomVideoFeatures()
        self.n_generated, self.seed = n_generated, seed
        self._real: list[Tensor] = []
        self._times: list[Tensor] = []
        self._numbers: dict[str, float] = {}

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, Generating):
            raise not_a_video_system(pl_module)
        self.features.to(pl_module.device)
        self._real, self._times, self._numbers = [], [], {}

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: Clip,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._real.append(self.features(to_pixels(batch.unit_range(batch.frames))).cpu())
        self._times.append(batch.own_times())
        # With the last batch, not after it: after it the averaged weights are no longer in the
        # model.
        if batch_idx == int(trainer.num_val_batches[dataloader_idx]) - 1:
            self._measure(pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.log_dict(self._numbers, rank_zero_only=True)

    def _measure(self, module: LightningModule) -> None:
        assert isinstance(module, Generating)
        real, times = of_all_processes(torch.cat(self._real)), torch.cat(self._times)
        with torch.random.fork_rng([module.device] if module.device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            n = self.n_generated or len(real)
            found = generated_features(
                self.features, module.generate, times, n, len(self._times[0])
            )
        numbers = {self.features.name: distance_of(real, found)}
        if isinstance(self.features, ClipClassifier):
            numbers[self.features.score_name] = score_of(self.features, found)
        self._numbers = {f"val/{k}": x for k, x in numbers.items() if not math.isnan(x)}
