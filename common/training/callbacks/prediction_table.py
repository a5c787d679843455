"""Callback that writes predictions to a file."""

import csv
from collections.abc import Sequence
from pathlib import Path

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import BasePredictionWriter
from torch import Tensor


class PredictionTable(BasePredictionWriter):
    """Writes one number for each image to `predictions.csv`, in the order of the data.

    Images are named by the `names` of their data set, such as the paths of files; without names,
    by their numbers.

    If there are several processes, each one writes its share to `predictions_<rank>.csv`.

    Args:
        name: Name of the number.
    """

    def __init__(self, name: str = "value") -> None:
        super().__init__(write_interval="epoch")
        self.name = name

    def title(self, system: LightningModule) -> str:
        """Title of the column of the numbers: their name."""
        return self.name

    def write_on_epoch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        predictions: Sequence[Tensor],
        batch_indices: Sequence[Sequence[Sequence[int]]],
    ) -> None:
        suffix = f"_{trainer.global_rank}" if trainer.world_size > 1 else ""
        path = Path(trainer.log_dir or trainer.default_root_dir) / f"predictions{suffix}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        indices = [i for batch in batch_indices[0] for i in batch]
        dataset = getattr(trainer.predict_dataloaders, "dataset", None)
        names = getattr(dataset, "names", None)
        first = indices if names is None else [names[i] for i in indices]
        # Names of files may hold bytes that are no UTF-8.
        with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(["index" if names is None else "name", self.title(pl_module)])
            writer.writerows(zip(first, torch.cat(list(predictions)).tolist(), strict=True))
        print(f"predictions: {path.resolve()}")
