"""Callback that shows the parts of a model with their numbers of weights."""

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelSummary
from torch import nn

from common.progress import write_line

DEEPEST = 4  # levels of modules


class PartsTable(ModelSummary):
    """Table of a system's parts: name, class and number of weights, before training.

    A part that is the only one of its level is replaced by its own parts.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            write_line(parts_table(pl_module))


def parts_table(model: nn.Module) -> str:
    """Table of the parts of a model that have weights."""
    parts = {"": model}
    for _ in range(DEEPEST):
        if len(parts) > 1:
            break
        (prefix, whole), *_ = parts.items()
        inner = {n: m for n, m in whole.named_children() if next(m.parameters(), None) is not None}
        if not inner:
            break
        parts = {f"{prefix}.{name}".lstrip("."): part for name, part in inner.items()}
    rows = [(name, type(part).__name__, _count(part)) for name, part in parts.items()]
    rest = _count(model) - sum(count for *_, count in rows)
    rows += [("other weights", "", rest)] if rest > 0 else []
    fixed = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    note = f"{_count(model):,} weights" + (f", {fixed:,} of them not trained" if fixed else "")
    names, kinds = (max(map(len, column)) for column in list(zip(*rows, strict=True))[:2])
    lines = [f"{name:<{names}}  {kind:<{kinds}}  {count:>13,}" for name, kind, count in rows]
    return "\n".join(["model:", *(f"  {line}" for line in lines), f"  {note}"])


def _count(part: nn.Module) -> int:
    return sum(p.numel() for p in part.parameters())
