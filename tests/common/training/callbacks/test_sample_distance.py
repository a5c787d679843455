"""The callback's number is the metric's on the same images."""

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from common.metrics.frechet import FrechetDistance, RandomFeatures
from common.training.callbacks.sample_distance import SampleDistance


class Noise(pl.LightningModule):
    """Samples are the real images, shifted."""

    def __init__(self, images):
        super().__init__()
        self.images, self.drawn = images, 0

    def sample(self, n, temperature=1.0):
        self.drawn += n
        return self.images[self.drawn - n : self.drawn] // 2

    def test_step(self, batch, batch_idx):
        pass


def test_distance_is_logged_under_the_extractors_name():
    images = torch.randint(0, 256, (24, 1, 16, 16), dtype=torch.uint8)
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, callbacks=[SampleDistance()]
    )
    trainer.test(Noise(images), DataLoader(images, batch_size=8), verbose=False)
    metric = FrechetDistance(RandomFeatures())
    metric.update(images, real=True)
    metric.update(images // 2, real=False)
    logged = trainer.callback_metrics["test/random_feature_frechet"]
    torch.testing.assert_close(logged, metric.compute().to(logged), rtol=1e-3, atol=1e-4)
    assert "test/fid" not in trainer.callback_metrics
