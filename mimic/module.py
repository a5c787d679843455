"""Training and judging of a network with labels."""

import torch
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor, nn

from common.data.base import STAGES, Data
from common.errors import InputError
from common.training.schedules import Schedule
from common.training.system import AutomaticSystem
from common.typing import Pixels
from mimic.data.labelled import Labelled
from mimic.tasks import Task


class SupervisedModule(AutomaticSystem):
    """Trains a network by the loss of its task and judges it by the task's metrics.

    Logs `train/loss`, and `val/loss` and `test/loss` with all metrics of the task. The layers of
    the network are `network.<name>` here.

    Args:
        network: From images `[b c h w]` in `[0, 1]` to outputs. If it has a `shape` (channels,
            height, width) or an `n_out`, they must fit the data and the task.
        task: What the outputs mean.
        optimizer: From parameters to an optimiser.
        schedule: Of the learning rate.
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
            self._check(data, stage)

    def forward(self, pixels: Pixels) -> Tensor:
        """The network's output for images as bytes."""
        return self.network(pixels / 255)

    def training_step(self, batch: Labelled, batch_idx: int) -> Tensor:
        loss = self.task.loss(self(batch.images), batch.labels)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Labelled, batch_idx: int) -> None:
        self._judge(batch, "val")

    def test_step(self, batch: Labelled, batch_idx: int) -> None:
        self._judge(batch, "test")

    def predict_step(self, batch: Labelled, batch_idx: int) -> Tensor:
        """The labels that the network would give."""
        return self.task.answer(self(batch.images))

    def _judge(self, batch: Labelled, stage: str) -> None:
        output, n = self(batch.images), len(batch.images)
        loss = self.task.loss(output, batch.labels)
        self.log(f"{stage}/loss", loss, prog_bar=True, batch_size=n, sync_dist=True)
        metrics = self.val_metrics if stage == "val" else self.test_metrics
        metrics.update(self.task.estimate(output), self.task.target(batch.labels))
        self.log_dict(metrics, prog_bar=True, batch_size=n)

    def _check(self, data: Data, stage: str) -> None:
        shape = getattr(self.network, "shape", data.shape)
        if tuple(shape) != tuple(data.shape):
            raise InputError(
                f"the data's images are {_size(data.shape)} but the network was configured for "
                f"{_size(shape)} (channels × height × width): change network.shape or the data"
            )
        loader = data.val_dataloader() if "val" in STAGES[stage] else data.test_dataloader()
        if not isinstance(loader.dataset[0], Labelled):
            raise InputError(f"{type(data).__name__} has no labels; give a set of mimic.data")
        classes = getattr(data, "factor_sizes", getattr(data, "n_classes", self.task.classes))
        if classes != self.task.classes:
            raise InputError(
                f"the data's labels have {classes} classes but the task was configured for "
                f"{self.task.classes}: change the task or the data"
            )


def _size(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
