"""Callback that logs what TensorBoard shows of a run beside its curves."""

import re
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.tensorboard.summary import hparams

from common.training.callbacks.checkpointing import BestCheckpoint
from common.training.system import System

# Settings that say what was trained and how; the others say where, and what is shown.
OF_THE_RUN = re.compile(
    r"model(\..*)?|data(\.(?!num_workers).*)?|seed_everything"
    r"|trainer\.(max_(epochs|steps)|precision|accumulate_grad_batches|gradient_clip_val)"
)
POINTS, SELDOM = 10, 50  # least points of a curve in an epoch, and most steps between two points


class RunLog(Callback):
    """Logs settings, learning rates and the best value of a run, and chooses the log interval.

    The settings are in TensorBoard's HPARAMS, beside the best value of the number that chooses
    `best.ckpt`, such as `best/bpd`. The learning rate is `lr`, or `lr/<name>` for each of several
    optimisers. Unless the user gives `log_every_n_steps`, there are ten points of a curve or more
    in an epoch, if it has as many steps.

    Args:
        settings: Configuration, as one dictionary with dotted keys.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = readable(settings)
        self._chooses = settings.get("trainer.log_every_n_steps") is None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._chooses:
            limit = trainer.max_steps if trainer.max_steps > 0 else float("inf")
            steps = min(trainer.num_training_batches, limit, SELDOM * POINTS)
            trainer.log_every_n_steps = max(1, int(steps) // POINTS)  # type: ignore[attr-defined]
        best = [c.title for c in trainer.checkpoint_callbacks if isinstance(c, BestCheckpoint)]
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                # The values of these names are those of the curves.
                for summary in hparams(self.settings, dict.fromkeys(best, 0.0)):
                    logger.experiment._get_file_writer().add_summary(summary)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, *batch: Any
    ) -> None:
        if not trainer._logger_connector.should_update_logs:
            return
        names = list(pl_module.players()) if isinstance(pl_module, System) else []
        rates = {}
        for i, optimizer in enumerate(trainer.optimizers):
            name = names[i] if i < len(names) else str(i)
            key = f"lr/{name}" if len(trainer.optimizers) > 1 else "lr"
            rates[key] = float(optimizer.param_groups[0]["lr"])
        for logger in trainer.loggers:
            logger.log_metrics(rates, trainer.fit_loop.epoch_loop._batches_that_stepped)


def readable(settings: dict[str, Any]) -> dict[str, str | int | float | bool]:
    """Settings of a run that can be read in a table, without those that are off or not set.

    A class stands under the name of its option, and its arguments directly below it.
    """
    found: dict[str, str | int | float | bool] = {}
    for key, value in settings.items():
        key = re.sub(r"\.init_args(?=\.)", "", key)
        if key.endswith("class_path"):
            key, value = key.removesuffix(".class_path"), str(value).rpartition(".")[2]
        unset = value is None or value is False or value in ([], {}, -1)
        if unset or not OF_THE_RUN.fullmatch(key):
            continue
        found[key] = value if isinstance(value, str | int | float | bool) else str(value)
    return found
