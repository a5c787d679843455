"""Callback that draws samples of a generative model of images."""

import math
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from PIL import Image as PILImage
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger

from common.errors import check_counts
from common.typing import Pixels


@runtime_checkable
class Sampler(Protocol):
    """Model that draws images."""

    def sample(self, n: int, temperature: float = 1.0) -> Pixels:
        """Samples: `n` images as bytes.

        Args:
            n: Number of images.
            temperature: Scale of the base noise.
        """


class SampleGrid(Callback):
    """Logs a grid of samples after every validation, and writes `samples.png` after training.

    The noise is the same each time, so that pictures can be compared over training.

    Args:
        n: Number of images in the grid.
        temperature: Scale of the base noise.
        seed: Seed of the noise.

    Raises:
        InputError: Numbers below their minimum.
    """

    def __init__(self, n: int = 64, temperature: float = 1.0, seed: int = 0) -> None:
        check_counts(1, n=n)
        check_counts(0, temperature=temperature)
        self.n, self.temperature, self.seed = n, temperature, seed

    # With the last batch, not after it: after it the averaged weights are no longer in the model.
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

    # Not on_train_end: the averaged weights may be put into the model only then.
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # On every process, because `log_dir` communicates between processes.
        folder = Path(trainer.log_dir or trainer.default_root_dir)
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
    """Picture `[c h w]` of bytes that shows all images, nearly square, on a grey background.

    Args:
        pixels: Images.
        margin: Width of the lines between the images, in pixels.
    """
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
    """Writes a picture as a PNG file and returns the path of the file.

    Args:
        picture: Picture `[c h w]` of bytes, of 1 or 3 channels.
        path: File to write; its folder is made if there is none.
        zoom: Factor by which the picture is enlarged.
    """
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    array = picture[0] if len(picture) == 1 else picture.permute(1, 2, 0)
    image = PILImage.fromarray(array.contiguous().numpy())
    size = (image.width * zoom, image.height * zoom)
    image.resize(size, PILImage.Resampling.NEAREST).save(path)
    return path
