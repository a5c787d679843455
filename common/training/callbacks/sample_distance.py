"""Callback that logs the Fréchet distance between samples of a model and the test images."""

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from common.errors import check_counts
from common.metrics.features import FeatureExtractor
from common.metrics.frechet import FrechetDistance, RandomFeatures
from common.training.callbacks.sample_grid import Sampler


class SampleDistance(Callback):
    """Logs the Fréchet distance between samples of a model and as many test images.

    The log key is `test/fid` with Inception features, otherwise `test/random_feature_frechet`.

    Args:
        features: Features of the distance, `InceptionFeatures(weights=…)` for FID. None: random
            features, whose distance has its own name.
        temperature: Scale of the base noise.

    Raises:
        InputError: The temperature is negative.
    """

    def __init__(self, features: FeatureExtractor | None = None, temperature: float = 1.0) -> None:
        check_counts(0, temperature=temperature)
        self.distance = FrechetDistance(features or RandomFeatures())
        self.temperature = temperature

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.distance.to(pl_module.device).reset()

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: Tensor,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        assert isinstance(pl_module, Sampler)
        self.distance.update(batch, real=True)
        self.distance.update(pl_module.sample(len(batch), self.temperature), real=False)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # The metric itself takes the sums over all processes.
        pl_module.log(f"test/{self.distance.name}", self.distance.compute(), rank_zero_only=True)
