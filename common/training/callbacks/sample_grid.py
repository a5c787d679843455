"""Pictures of what a generative model has learned."""

import math
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from PIL import Image as PILImage
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger

from common.typing import Pixels


@runtime_checkable
class Sampler(Protocol):
    """A model that draws images."""

    def sample(self, n: int, temperature: float = 1.0) -> Pixels:
        """`n` images as bytes."""


class SampleGrid(Callback):
    """Draws a grid of samples after every validation, and `samples.png` at the end of training.

    The same noise each time, so that pictures can be compared over training.

    Args:
        n: Images in the grid.
        temperature: Scale of the base noise.
        seed: Of the noise.
    """

    def __init__(self, n: int = 64, temperature: float = 1.0, seed: int = 0) -> None:
        self.n, self.temperature, self.seed = n, temperature, seed

    # With the last batch, not after it: averaged weights are in place only until then.
    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        last = batch_idx == int(trainer.num_val_batches[dataloader_idx]) - 1
        if not last or trainer.sanity_checking or not trainer.is_global_zero:
            return
        if isinstance(trainer.logger, TensorBoardLogger):
            trainer.logger.experiment.add_image(
                "samples", self._grid(pl_module), trainer.global_step
            )

    # Not on_train_end: there the averaged weights are only just being put in place.
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        folder = Path(trainer.log_dir or trainer.default_root_dir)  # asked on every process
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            path = save_png(self._grid(pl_module), folder / "samples.png")
            print(f"samples: {path}")

    def _grid(self, pl_module: LightningModule) -> torch.Tensor:
        assert isinstance(pl_module, Sampler)
        devices = [pl_module.device] if pl_module.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(self.seed)
            return image_grid(pl_module.sample(self.n, self.temperature))


def image_grid(pixels: Pixels, margin: int = 1) -> torch.Tensor:
    """Images as one near-square picture `[c h w]` of bytes, on a grey ground."""
    n, c, h, w = pixels.shape
    columns = math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    height, width = h + margin, w + margin
    grid = torch.full((c, rows * height + margin, columns * width + margin), 96, dtype=torch.uint8)
    for i, image in enumerate(pixels.cpu()):
        top, left = i // columns * height + margin, i % columns * width + margin
        grid[:, top : top + h, left : left + w] = image
    return grid


def save_png(picture: torch.Tensor, path: str | Path, zoom: int = 2) -> Path:
    """Writes a picture `[c h w]` of bytes, enlarged, and returns where it is."""
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    array = picture[0] if len(picture) == 1 else picture.permute(1, 2, 0)
    image = PILImage.fromarray(array.contiguous().numpy())
    size = (image.width * zoom, image.height * zoom)
    image.resize(size, PILImage.Resampling.NEAREST).save(path)
    return path
