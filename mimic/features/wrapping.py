"""Wrapping of a module's `training_step`, and unwrapping in any order."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from pytorch_lightning import LightningModule

Step = Callable[..., Any]


class WrappedStep:
    """Link in the chain of functions that stand in for a module's `training_step`.

    Args:
        module: Module whose `training_step` is replaced.
        step: Function that is called with the module, the previous step, and its arguments.
    """

    def __init__(self, module: LightningModule, step: Step) -> None:
        self.module, self.own = module, "training_step" in vars(module)
        self.previous: Step = module.training_step

        # Lightning looks at the code of a step, and at the names of its arguments.
        @wraps(self.previous)
        def training_step(*args: Any, **kwargs: Any) -> Any:
            return step(module, self.previous, *args, **kwargs)

        training_step.link = self  # type: ignore[attr-defined]
        module.training_step = training_step  # type: ignore[method-assign]

    def remove(self) -> None:
        """Takes this link out of the chain, wherever it stands."""
        newer, link = None, _link(self.module.training_step)
        while link is not None and link is not self:
            newer, link = link, _link(link.previous)
        if newer is not None and link is self:
            newer.previous, newer.own = self.previous, self.own
        elif link is self and self.own:
            self.module.training_step = self.previous  # type: ignore[method-assign]
        elif link is self:
            del self.module.training_step


def _link(step: Step) -> WrappedStep | None:
    return getattr(step, "link", None)
