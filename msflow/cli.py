"""Command line of msflow: `python -m msflow.cli fit|validate|test|predict|sample --config …`."""

if __name__ == "__main__":
    from common.signals import catch

    catch(deferred=True)  # before the libraries load, which takes seconds

from pathlib import Path

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from common.data.images import embedded, files, folder  # noqa: F401  for short names of data sets
from common.data.images.base import ImageData
from common.errors import InputError, check_counts
from common.files import check_new, free_path
from common.flows.pixel import reduce_bits
from common.metrics.codecs import codec_bits_per_dim
from common.training.callbacks.prediction_table import PredictionTable
from common.training.callbacks.sample_grid import Sampler, image_grid, save_png
from common.training.checkpoints import load_weights
from common.training.cli import CommandLine, run
from common.training.system import System
from common.typing import Pixels
from msflow.module import MultiScaleFlowModule


class FlowTrainer(Trainer):
    """Lightning's trainer with the subcommand `sample`, which draws images."""

    def sample(
        self,
        model: System,
        datamodule: ImageData | None = None,
        ckpt_path: str | None = None,
        n: int = 64,
        temperature: float = 1.0,
        batch_size: int = 256,
        out: str | None = None,
    ) -> Path:
        """Draws images from a trained system and writes them as one picture.

        Args:
            model: System with a method `sample(n, temperature)`.
            datamodule: Not used.
            ckpt_path: Weights of the model: best, last, the path of a file, or the name of a
                model that ships.
            n: Number of images.
            temperature: Scale of the base noise; below 1 the images are more likely and less
                varied.
            batch_size: Number of images drawn at once.
            out: New PNG file to write. None: a file in the run's folder whose name tells the
                temperature, with -2 and so on if there is one.

        Returns:
            The file.
        """
        assert ckpt_path is not None
        check_counts(1, n=n, batch_size=batch_size)
        check_counts(0, temperature=temperature)
        if out is not None:
            check_new(out, ".png")
        if not isinstance(model, Sampler):
            raise InputError(
                f"{type(model).__name__} draws no images; give it a method sample(n, temperature)"
            )
        load_weights(model, ckpt_path)
        model.to(self.strategy.root_device).eval()
        sizes = [min(batch_size, n - start) for start in range(0, n, batch_size)]
        pixels = torch.cat([model.sample(size, temperature).cpu() for size in sizes])
        run_folder = Path(self.log_dir or self.default_root_dir)
        own = free_path(run_folder / f"samples_temperature{temperature:g}.png")
        path = save_png(image_grid(pixels), own if out is None else out)
        print(f"samples: {path}")
        return path


class BitsTable(PredictionTable):
    """Table of the bits per dimension of each image, under the name that they have in logs."""

    def title(self, system: LightningModule) -> str:
        return system.bits_name if isinstance(system, MultiScaleFlowModule) else self.name


class FlowCommandLine(CommandLine):
    """Command line of this package, with the subcommand `sample`."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        return {**CommandLine.subcommands(), "sample": {"model", "datamodule"}}

    def after_test(self) -> None:
        if self.trainer.is_global_zero and isinstance(self.model, MultiScaleFlowModule):
            print(bits_table(self.trainer.callback_metrics, self.model))
            bits = self.model.flow.pixel_map.bits
            print(codecs_table(reduce_bits(self.datamodule.images("test"), bits) << (8 - bits)))


def bits_table(metrics: dict[str, Tensor], model: MultiScaleFlowModule) -> str:
    """Table of the bits per dimension on the test images, with the method of measurement."""
    name = model.bits_name
    trace = f"trace by {type(model.flow.scales[0].blocks[0].divergence).__name__}"
    how = f"{model.eval_solver}, {trace}, mean of {model.n_draws} draws"
    rows = {
        f"test/{name}": f"{name}, uniform dequantization ({how})",
        f"test/{name}_midpoint": f"{name}, midpoint (RNODE's convention)",
        "test/solver_error": "error of the solver, in the same unit",
    }
    return _table([(float(metrics[key]), words) for key, words in rows.items() if key in metrics])


def codecs_table(images: Pixels) -> str:
    """Table of the bits per dimension that lossless image files need for the same images."""
    names = {
        "png": "PNG, one file for each image",
        "webp": "lossless WebP, one file for each image",
        "webp_montage": "lossless WebP, one file of all images",
    }
    # The best compression of WebP takes minutes for thousands of colour images.
    codecs = codec_bits_per_dim(images, method=6 if images.numel() < 10**6 else 4)
    return _table([(bits, names[codec]) for codec, bits in codecs.items()])


def _table(rows: list[tuple[float, str]]) -> str:
    return "\n".join(f"{bits:8.3f}  {name}" for bits, name in rows)


def main(args: list[str] | None = None) -> None:
    """Runs the command line: trains, evaluates or samples a density of images."""
    run(
        ImageData,
        Path(__file__).parent / "configs",
        args,
        command_line=FlowCommandLine,
        trainer=FlowTrainer,
        callbacks=[BitsTable("bits_per_dim")],
    )


if __name__ == "__main__":
    main()
