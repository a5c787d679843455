"""MiMIc as a callback: a penalty on any layers of any LightningModule (Predoc III, eq. 7.2)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn

from common.errors import InputError
from mimic.layers import Catcher, Layer, Select, entry, find_layers
from mimic.regularizer import MiMIcRegularizer

Step = Callable[..., Any]


class MiMIc(Callback):
    """Adds `weight` times what a layer's channels share to the loss of `training_step`.

    `Trainer(callbacks=[MiMIc(layers=["backbone.layer4"], weight=0.1)])`; the LightningModule stays
    as it is. Its `training_step` is wrapped while it trains, so accumulation, mixed precision,
    clipping and DDP treat the penalty as any part of the loss.

    Logs, for each layer, `mimic/<layer>/penalty`, `mimic/<layer>/critic_accuracy` (one half where
    the critic can't tell joint from shuffled samples) and `mimic/<layer>/dead_channels`. The
    penalty is what the training critic says, not a measurement: see `TotalCorrelationAudit`.

    Args:
        layers: A name or glob, a list of them or of modules (`find_layers`), or weights by name.
        weight: λ of the penalty on each layer (eq. 7.2: 1).
        warmup_steps: Training batches in which the critics train and the penalty weighs nothing.
        ramp_steps: Training batches over which the weight then grows to λ.
        labels: Where the classes are in a batch, an index or a name, if `n_classes` is given.
        select: Which entry of the layer's output, if that is no tensor.
        cap: Bound on the norm of the penalty's gradient at the layer, relative to that of the
            task's (Belghazi et al. 2018, section 5.3: 1). Costs one more pass backward from
            the loss to the layer. Not bounded if none.
        **options: Those of `MiMIcRegularizer`.
    """

    def __init__(
        self,
        layers: str | Sequence[Any] | Mapping[str, float],
        weight: float = 0.1,
        warmup_steps: int = 0,
        ramp_steps: int = 0,
        labels: int | str | None = None,
        select: Select | None = None,
        cap: float | None = None,
        **options: Any,
    ) -> None:
        if isinstance(layers, Mapping):
            self.layers: list[Layer] = list(layers)
            self._weights = [float(value) for value in layers.values()]
        else:
            self.layers = [layers] if isinstance(layers, str) else list(layers)
            self._weights = [weight] * len(self.layers)
        if not self.layers or min(self._weights) < 0:
            raise InputError(
                f"got layers {layers} and weight {weight:g}; name at least one layer, with a "
                "weight of 0 or more"
            )
        if min(warmup_steps, ramp_steps) < 0 or (cap is not None and cap <= 0):
            raise InputError(
                f"got warmup_steps {warmup_steps}, ramp_steps {ramp_steps} and cap {cap}; give "
                "steps of 0 or more, and a cap of more than 0 or none"
            )
        self.warmup_steps, self.ramp_steps, self.cap = warmup_steps, ramp_steps, cap
        self.labels, self.select = labels, select
        self.options = options  # by itself, else the command line wouldn't find out what it holds
        self.regularizers: dict[str, MiMIcRegularizer] = {}
        self.batches = 0
        self._regularizer()  # so that wrong options are refused here
        if options.get("n_classes") is not None and labels is None:
            raise InputError(
                "n_classes is given, so the penalty is within classes: say where in a batch the "
                "labels are, such as labels=1 of (images, labels)"
            )
        plain = {k: v for k, v in sorted(options.items()) if not callable(v)}
        self._key = repr(([str(layer) for layer in self.layers], select, plain))
        self._layer_of: dict[str, tuple[nn.Module, float]] = {}
        self._warned: set[str] = set()
        self._catcher: Catcher | None = None
        self._added: _AddedLoss | None = None

    @property
    def state_key(self) -> str:
        """Tells several of them on one trainer apart."""
        return f"MiMIc{self._key}"

    def _regularizer(self) -> MiMIcRegularizer:
        return MiMIcRegularizer(**self.options)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit" or self._added is not None:
            return
        if not pl_module.automatic_optimization:
            raise InputError(
                f"{type(pl_module).__name__} optimises by hand, so there is no loss to add to; "
                "use MiMIcRegularizer in its training_step"
            )
        self._layer_of = {
            name: (layer, weight)
            for wanted, weight in zip(self.layers, self._weights, strict=True)
            for name, layer in find_layers(pl_module, [wanted]).items()
        }
        for name in self._layer_of:
            self.regularizers.setdefault(name, self._regularizer())
        modules = {name: layer for name, (layer, _) in self._layer_of.items()}
        self._catcher = Catcher(modules, self.select)
        self._added = _AddedLoss(pl_module, self._step)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._catcher is not None and self._added is not None:
            self._catcher.remove()
            self._added.remove()
            self._catcher = self._added = None

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self.teardown(trainer, pl_module, "fit")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for name, regularizer in self.regularizers.items():
            if name not in self._warned and (dead := int(regularizer.dead_channels)):
                self._warned.add(name)
                rank_zero_warn(f"layer {name} has {dead} dead channels, constant over a batch")

    def state_dict(self) -> dict[str, Any]:
        critics = {name: each.state_dict() for name, each in self.regularizers.items()}
        return {"batches": self.batches, "critics": critics}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.batches = state_dict["batches"]
        for name, state in state_dict["critics"].items():
            self.regularizers.setdefault(name, self._regularizer()).load_state_dict(state)

    def share(self) -> float:
        """The part of the weight that is in force, from 0 to 1."""
        after = self.batches - self.warmup_steps
        if after < 0:
            return 0.0
        return min(1.0, (after + 1) / (self.ramp_steps + 1))

    def _step(self, module: LightningModule, step: Step, *args: Any, **kwargs: Any) -> Any:
        """The module's training step, its loss with the penalties added."""
        assert self._catcher is not None
        self._catcher.start()
        output = step(*args, **kwargs)
        self._catcher.stop()
        loss = output["loss"] if isinstance(output, Mapping) else output
        if loss is None:
            return None  # the module leaves this batch out
        batch = args[0] if args else kwargs["batch"]
        labels = None if self.labels is None else entry("a batch", batch, self.labels, "labels")
        share = self.share()
        for name, features in self._catcher.features.items():
            loss = self._penalized(module, loss, name, features, labels, share)
            features.clear()
        self.batches += 1
        return {**output, "loss": loss} if isinstance(output, Mapping) else loss

    def _penalized(
        self,
        module: LightningModule,
        loss: Tensor,
        name: str,
        features: list[Tensor],
        labels: Tensor | None,
        share: float,
    ) -> Tensor:
        if not features:
            raise InputError(
                f"layer {name} was not called in this training step, so there is nothing to "
                "penalise; name a layer that every step passes through"
            )
        layer, weight = self._layer_of[name]
        regularizer = self.regularizers[name]
        feature = features[0] if len(features) == 1 else torch.cat(features)
        if labels is not None and len(features) > 1:
            labels = labels.repeat(len(features))
        try:
            if share == 0:
                regularizer.critic_step(feature, labels)
                return loss
            penalty = regularizer(feature, labels, getattr(layer, "weight", None))
        except ValueError as error:
            raise InputError(f"MiMIc on layer {name}: {error}") from error
        self._log(module, name, regularizer, penalty)
        if self.cap is not None:
            penalty = penalty * _capped(loss, weight * share * penalty, features, self.cap)
        return loss + weight * share * penalty

    def _log(
        self, module: LightningModule, name: str, regularizer: MiMIcRegularizer, penalty: Tensor
    ) -> None:
        values = {"penalty": penalty.detach()}
        if regularizer.trains_critic:
            values["critic_accuracy"] = regularizer.critic_accuracy
        if regularizer.penalty != "orthogonality":
            values["dead_channels"] = regularizer.dead_channels.float()
        module.log_dict({f"mimic/{name}/{key}": value for key, value in values.items()})


class _AddedLoss:
    """A link in the chain of what stands in for a module's `training_step`."""

    def __init__(self, module: LightningModule, step: Step) -> None:
        self.module, self.own = module, "training_step" in vars(module)
        self.previous: Step = module.training_step

        # A function, as Lightning compares code to see whether a method is overridden.
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


def _link(step: Step) -> _AddedLoss | None:
    return getattr(step, "link", None)


def _capped(task: Tensor, penalty: Tensor, features: list[Tensor], cap: float) -> Tensor:
    """The factor that keeps the penalty's gradient at the features within `cap` of the task's."""
    norms = []
    for value in (task, penalty):
        gradients = torch.autograd.grad(value, features, retain_graph=True, allow_unused=True)
        squares = [g.float().square().sum() for g in gradients if g is not None]
        norms.append(torch.stack(squares).sum().sqrt() if squares else value.new_zeros(()))
    return (cap * norms[0] / norms[1].clamp(min=torch.finfo(torch.float32).tiny)).clamp(max=1.0)
