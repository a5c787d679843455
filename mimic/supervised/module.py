"""Supervised training and evaluation of a network."""

import torch
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor, nn

from common.data.base import Data
from common.errors import InputError
from common.training.schedules import Schedule
from common.training.system import AutomaticSystem
from common.typing import Pixels
from mimic.supervised.data.labelled import Labelled, LabelledData
from mimic.supervised.tasks import Task


class SupervisedModule(AutomaticSystem):
    """Supervised learning: the loss of a task in training, its metrics in evaluation.

    Logs `train/loss`, and `val/loss` and `test/loss` with all metrics of the task. The layers of
    the network are named `network.<name>`.

    Args:
        network: Network from images `[b c h w]` in `[0, 1]` to outputs. If it has a `shape`
            (channels, height, width) or an `n_out`, they must fit the data and the task.
        task: Task: the meaning of the outputs.
        optimizer: Factory of the optimiser, from parameters.
        schedule: Schedule of the learning rate. None: a constant rate.
    """

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        optimizer: OptimizerCallable = torch.optim.Adam,
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(optimizer, schedule)
        n_out = getattr(network, "n_out", task.n_out)
        if n_out != task.n_out:
            raise InputError(
                f"got a network of {n_out} outputs, {type(task).__name__} needs {task.n_out}; "
                "change model.network or model.task"
            )
        self.save_hyperparameters()
        self.network, self.task = network, task
        self.val_metrics, self.test_metrics = (task.metrics().clone(x) for x in ("val/", "test/"))

    def setup(self, stage: str) -> None:
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, Data):
            self._check(data)

    def forward(self, pixels: Pixels) -> Tensor:
        """Output of the network for images as bytes."""
        return self.network(pixels / 255)

    def training_step(self, batch: Labelled, batch_idx: int) -> Tensor:
        loss = self.task.loss(self(batch.images), batch.labels)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Labelled, batch_idx: int) -> None:
        self._evaluate(batch, "val")

    def test_step(self, batch: Labelled, batch_idx: int) -> None:
        self._evaluate(batch, "test")

    def predict_step(self, batch: Labelled, batch_idx: int) -> Tensor:
        """Labels that the network predicts."""
        return self.task.answer(self(batch.images))

    def _evaluate(self, batch: Labelled, stage: str) -> None:
        output, n = self(batch.images), len(batch.images)
        loss = self.task.loss(output, batch.labels)
        self.log(f"{stage}/loss", loss, prog_bar=True, batch_size=n, sync_dist=True)
        metrics = self.val_metrics if stage == "val" else self.test_metrics
        metrics.update(self.task.estimate(output), self.task.target(batch.labels))
        self.log_dict(metrics, prog_bar=True, batch_size=n)

    def _check(self, data: Data) -> None:
        shape = getattr(self.network, "shape", data.shape)
        if tuple(shape) != tuple(data.shape):
            raise InputError(
                f"the data's images are {_size(data.shape)} but the network was configured for "
                f"{_size(shape)} (channels × height × width): change network.shape or the data"
            )
        if not isinstance(data, LabelledData):
            raise InputError(
                f"{type(data).__name__} has no labels; give a set of mimic.supervised.data"
            )
        if data.classes != self.task.classes:
            raise InputError(
                f"the data's labels have {data.classes} classes but the task was configured for "
                f"{self.task.classes}: change the task or the data"
            )


def _size(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
