"""Penalties from plain settings, and the training of the small networks that studies compare."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from pytorch_lightning import Callback, LightningDataModule, Trainer
from torch import nn

from common.training.schedules import Schedule
from mimic.critic.critics import MLPCritic
from mimic.plugin import MiMIc
from mimic.regularizer import MiMIcRegularizer
from mimic.studies.games import GAMES
from mimic.supervised.module import SupervisedModule
from mimic.supervised.tasks import Task

# Plain data (JSON). Those of a penalty are the arguments of `MiMIc` or of `MiMIcRegularizer`, with
# the critic `perceptron` and the games of `GAMES` by name.
Settings = dict[str, Any]


def penalties(settings: Settings | None, seed: int) -> list[MiMIc]:
    """Callback of a penalty's settings. None: no penalty, so an empty list."""
    return [] if settings is None else [MiMIc(**_with_classes(settings), seed=seed)]


def regularizer(settings: Settings, seed: int) -> MiMIcRegularizer:
    """Regulariser of a penalty's settings, of which `weight` is left out."""
    options = {key: value for key, value in settings.items() if key != "weight"}
    return MiMIcRegularizer(**_with_classes(options), seed=seed)


def _with_classes(settings: Settings) -> Settings:
    options = dict(settings)
    if options.get("critic") == "perceptron":
        options["critic"] = MLPCritic
    if "game" in options:
        options["game"] = GAMES[options["game"]]
    return options


def trained(
    network: nn.Module,
    task: Task,
    data: LightningDataModule,
    callbacks: Sequence[Callback] = (),
    epochs: int = 5,
    lr: float = 2e-3,
) -> tuple[SupervisedModule, Trainer]:
    """A network trained by Adam with a cosine schedule, and its trainer.

    Seed before the network is made.
    """
    adam = partial(torch.optim.Adam, lr=lr)
    module = SupervisedModule(network, task, adam, Schedule(decay="cosine"))
    with _quiet():
        trainer = quiet_trainer(callbacks, max_epochs=epochs)
        trainer.fit(module, datamodule=data)
    return module, trainer


@contextmanager
def _quiet() -> Iterator[None]:
    """Context in which Lightning says only what may be wrong."""
    logger = logging.getLogger("pytorch_lightning")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*does not have many workers")
            warnings.filterwarnings("ignore", message=r".*LeafSpec")
            yield
    finally:
        logger.setLevel(before)


def quiet_trainer(callbacks: Sequence[Callback] = (), **options: Any) -> Trainer:
    """A trainer on the CPU that writes no files."""
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
    module: SupervisedModule, data: LightningDataModule, callbacks: Sequence[Callback]
) -> dict[str, float]:
    """All numbers logged in a test."""
    with _quiet():
        (logged,) = quiet_trainer(callbacks).test(module, datamodule=data, verbose=False)
    return {key: float(value) for key, value in logged.items()}
