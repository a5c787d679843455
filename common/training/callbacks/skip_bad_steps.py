"""Steps that would ruin a model are left out."""

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer


class SkipBadSteps(Callback):
    """Drops the optimiser step if the gradient's norm is not finite or too large, and counts it.

    Looks at the gradient before Lightning clips it (`trainer.gradient_clip_val`), after it was
    averaged over processes, so that all of them decide alike. Logs `train/skipped_steps`, the
    total so far, and `train/gradient_norm`.

    Args:
        max_norm: Largest norm of a step that is taken; MRCNF skips at 5 times its clipping value.
        give_up_after: Stop with an error after so many bad steps in a row.
    """

    def __init__(self, max_norm: float = float("inf"), give_up_after: int = 100) -> None:
        self.max_norm, self.give_up_after = max_norm, give_up_after
        self.skipped = 0
        self.in_a_row = 0

    def state_dict(self) -> dict[str, int]:
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.skipped = state_dict["skipped"]

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not gradients:
            return
        norm = float(torch.nn.utils.get_total_norm(gradients))
        if norm <= self.max_norm and norm != float("inf"):  # False for NaN
            self.in_a_row = 0
            pl_module.log("train/gradient_norm", norm)
        else:
            self.skipped += 1
            self.in_a_row += 1
            for parameter in parameters:
                parameter.grad = None
        pl_module.log("train/skipped_steps", float(self.skipped))
        if self.in_a_row >= self.give_up_after:
            raise RuntimeError(
                f"{self.in_a_row} steps in a row had a gradient that is not finite or longer than "
                f"{self.max_norm:g}; the last norm was {norm:g}: lower the learning rate, warm up "
                "longer, or raise max_norm"
            )
