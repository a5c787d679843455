"""`python -m mimic.cli fit|validate|test|predict|filters --config …`."""

if __name__ == "__main__":
    from common.signals import catch

    catch(deferred=True)  # before the libraries load, which takes seconds

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.cli import LightningArgumentParser
from torch import Tensor, nn

from common.data.base import Data
from common.errors import InputError, check_counts
from common.files import check_new, free_path
from common.training.callbacks.prediction_table import PredictionTable
from common.training.callbacks.sample_grid import save_png
from common.training.checkpoints import load_weights
from common.training.cli import CommandLine, run
from mimic.supervised import networks, tasks  # noqa: F401  short names in a config
from mimic.supervised.data import factor_files, labelled, scenes, sprites  # noqa: F401
from mimic.supervised.module import SupervisedModule
from mimic.supervised.pictures import filter_grid


class SupervisedTrainer(Trainer):
    """Lightning's trainer with a command that draws filters."""

    def filters(
        self,
        model: SupervisedModule,
        datamodule: Data | None = None,
        ckpt_path: str | None = None,
        zoom: int = 12,
        out: str | None = None,
    ) -> Path:
        """Draws the filters of a trained network's first convolution.

        Args:
            model: System whose network is drawn.
            datamodule: Not needed.
            ckpt_path: Checkpoint: best, last or a file's path.
            zoom: Number of pixels of a weight along each side.
            out: New PNG file to write. None: filters.png in the run's folder, or, if there is
                one, filters-2.png and so on.

        Returns:
            The file.

        Raises:
            InputError: The network has no convolution.
        """
        assert ckpt_path is not None
        check_counts(1, zoom=zoom)
        if out is not None:
            check_new(out, ".png")
        load_weights(model, ckpt_path)
        convolutions = [x for x in model.modules() if isinstance(x, nn.Conv2d)]
        if not convolutions:
            kind = type(getattr(model, "network", model)).__name__
            raise InputError(
                f"{kind} has no convolution whose filters could be shown; give one with nn.Conv2d"
            )
        picture = filter_grid(convolutions[0].weight, zoom=zoom)
        folder = Path(self.log_dir or self.default_root_dir)
        path = save_png(picture, free_path(folder / "filters.png") if out is None else out, zoom=1)
        print(f"filters: {path}")
        return path


class SupervisedCommandLine(CommandLine):
    """The shared command line with `filters`; the checkpoint of least validation loss is kept."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        return {**CommandLine.subcommands(), "filters": {"model", "datamodule"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        super().add_arguments_to_parser(parser)
        parser.set_defaults({"best.monitor": "val/loss", "best.mode": "min"})


class Answers(PredictionTable):
    """Writer of the labels that a network predicts.

    One label an image goes to `predictions.csv`; several go to `predictions.npz`, with the arrays
    `index` `[n]` and `answer` `[n k]` (factors) or `[n h w]` (pixels).
    """

    def __init__(self) -> None:
        super().__init__("answer")

    def write_on_epoch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        predictions: Sequence[Tensor],
        batch_indices: Sequence[Sequence[Sequence[int]]],
    ) -> None:
        answers = torch.cat(list(predictions)).cpu()
        if answers.ndim == 1:
            super().write_on_epoch_end(trainer, pl_module, [answers], batch_indices)
            return
        suffix = f"_{trainer.global_rank}" if trainer.world_size > 1 else ""
        path = Path(trainer.log_dir or trainer.default_root_dir) / f"predictions{suffix}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        indices = [i for batch in batch_indices[0] for i in batch]
        np.savez_compressed(path, index=np.array(indices), answer=answers.numpy())
        print(f"predictions: {path.resolve()}")


def main(args: list[str] | None = None) -> None:
    """Trains or evaluates a network with labels, or draws its filters."""
    run(
        Data,
        Path(__file__).parent / "configs",
        args,
        command_line=SupervisedCommandLine,
        trainer=SupervisedTrainer,
        callbacks=[Answers()],
    )


if __name__ == "__main__":
    main()
