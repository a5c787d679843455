"""Standing in for a module's `training_step`, and leaving again."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from pytorch_lightning import LightningModule

Step = Callable[..., Any]


class WrappedStep:
    """A link in the chain of what stands in for a module's `training_step`.

    Args:
        module: The module; its `training_step` is another from now on.
        step: Called with the module, the step before, and the step's arguments.
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
        """Takes itself out, wherever in the chain it stands."""
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
