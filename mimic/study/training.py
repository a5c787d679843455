"""Training of the small networks that the studies compare."""

import logging
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from pytorch_lightning import Callback, LightningDataModule, Trainer, seed_everything
from torch import nn

from common.training.schedules import Schedule
from mimic.module import SupervisedModule
from mimic.tasks import Task


def trained(
    network: nn.Module,
    task: Task,
    data: LightningDataModule,
    callbacks: Sequence[Callback] = (),
    epochs: int = 5,
    lr: float = 2e-3,
) -> tuple[SupervisedModule, Trainer]:
    """A network trained by Adam with a cosine, and the trainer to test it with.

    Seed before the network is made, by `seeded`.
    """
    _quiet()
    module = SupervisedModule(
        network, task, partial(torch.optim.Adam, lr=lr), Schedule(decay="cosine")
    )
    trainer = quiet_trainer(callbacks, max_epochs=epochs)
    trainer.fit(module, datamodule=data)
    return module, trainer


def quiet_trainer(callbacks: Sequence[Callback] = (), **options: Any) -> Trainer:
    """A trainer on the CPU that leaves no files."""
    return Trainer(
        accelerator="cpu",
        devices=1,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )


def tested(
    module: SupervisedModule, trainer: Trainer, data: LightningDataModule
) -> dict[str, float]:
    """Everything logged in a test."""
    return dict(trainer.test(module, datamodule=data, verbose=False)[0])


def seeded(seed: int) -> None:
    """Seeds networks, orders and all else."""
    seed_everything(seed, verbose=False)


def _quiet() -> None:
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=r".*does not have many workers")
    warnings.filterwarnings("ignore", message=r".*LeafSpec")
