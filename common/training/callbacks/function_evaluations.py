"""What the solves cost."""

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from common.ode.solve import Evaluations


class FunctionEvaluations(Callback):
    """Logs the evaluations (NFE) of every part's last solve, forward and backward.

    As `<stage>/nfe_forward/<name of the part>` and `.../nfe_backward/...`; a stage that solves
    nothing, such as flow matching's training, logs nothing.
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
