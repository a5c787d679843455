"""Learning rate schedules, as pure functions of the step, so that training resumes exactly."""

import math
from dataclasses import dataclass
from typing import Literal

from common.errors import check_counts, check_shares


@dataclass(frozen=True)
class Schedule:
    """Schedule of the learning rate: linear warm-up, constant rate, then decay to `final`.

    Args:
        warmup_steps: Number of optimiser steps before the full learning rate is reached.
        decay: Form of the decay.
        final: Factor on the learning rate at the end of the decay.
        hold_steps: Number of optimiser steps before the decay begins, warm-up included.
        milestones: Shares of all steps, such as 0.5, after each of which the rate is multiplied by
            `drop`; all steps must be known.
        drop: Factor at each milestone.

    Raises:
        InputError: Numbers out of range.
    """

    warmup_steps: int = 0
    decay: Literal["constant", "cosine", "linear"] = "constant"
    final: float = 0.0
    hold_steps: int = 0
    milestones: tuple[float, ...] = ()
    drop: float = 0.5

    def __post_init__(self) -> None:
        check_counts(0, warmup_steps=self.warmup_steps, hold_steps=self.hold_steps)
        check_shares(final=self.final, drop=self.drop)
        check_shares(**{f"milestones[{i}]": share for i, share in enumerate(self.milestones)})

    def factor(self, step: int, total_steps: int | float) -> float:
        """Factor on the learning rate at a step of `total_steps`, which may be infinite."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        dropped = self.drop ** sum(step >= share * total_steps for share in self.milestones)
        return dropped * self._decayed(step, total_steps)

    def _decayed(self, step: int, total_steps: int | float) -> float:
        if self.decay == "constant" or math.isinf(total_steps):
            return 1.0
        start = max(self.warmup_steps, self.hold_steps)
        progress = min(1.0, max(0, step - start) / max(1, total_steps - start))
        line = 1 - progress
        left = line if self.decay == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
        return self.final + (1 - self.final) * left
