"""Callback that logs the number of function evaluations (NFE) of all solves."""

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from common.ode.evaluations import Evaluations


class FunctionEvaluations(Callback):
    """Logs the number of function evaluations (NFE) of the last solve of every part of a model.

    The log keys are `<stage>/nfe_forward/<name of the part>` and, in training,
    `train/nfe_backward/<name of the part>`. A stage without a solve, such as training by flow
    matching, logs nothing.
    """

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self._log(pl_module, "train")

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any
    ) -> None:
        self._log(pl_module, "val")

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self._log(pl_module, "test")

    @staticmethod
    def _log(pl_module: LightningModule, stage: str) -> None:
        for name, module in pl_module.named_modules():
            counts = getattr(module, "evaluations", None)
            if not isinstance(counts, Evaluations) or not counts.forward:
                continue
            distant = stage != "train"
            module.evaluations = Evaluations()
            key = f"{stage}/nfe_forward/{name}"
            pl_module.log(key, float(counts.forward), sync_dist=distant, batch_size=1)
            if stage == "train":
                pl_module.log(f"{stage}/nfe_backward/{name}", float(counts.backward), batch_size=1)
