"""Learning rates as pure functions of the step, which resume exactly."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then constant or a cosine down to `final`.

    Args:
        warmup_steps: Optimiser steps until the full learning rate.
        decay: What follows.
        final: Factor at the end of the cosine.
    """

    warmup_steps: int = 0
    decay: Literal["constant", "cosine"] = "constant"
    final: float = 0.0

    def factor(self, step: int, total_steps: int | float) -> float:
        """The factor on the learning rate at a step of `total_steps`, which may be infinite."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.decay == "constant" or math.isinf(total_steps):
            return 1.0
        progress = (step - self.warmup_steps) / max(1, total_steps - self.warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return self.final + (1 - self.final) * cosine
