"""MiMIc as a callback: a penalty on any layers of any LightningModule (Predoc III, eq. 7.2)."""

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn

from common.errors import InputError
from mimic.layers import Catcher, Layer, Select, entry, find_layers, is_glob
from mimic.regularizer import MiMIcRegularizer
from mimic.wrapping import Step, WrappedStep


class MiMIc(Callback):
    """Adds `weight` times what a layer's channels share to the loss of `training_step`.

    `Trainer(callbacks=[MiMIc(layers=["backbone.layer4"], weight=0.1)])`; the LightningModule stays
    as it is. Its `training_step` is wrapped while it trains, so accumulation, mixed precision,
    clipping and DDP treat the penalty as any part of the loss.

    Logs, for each layer, `mimic/<layer>/penalty`, `mimic/<layer>/critic_ranking` (of pairs of a
    joint and a shuffled sample, the share that the critic ranks right; a half where it can't tell)
    and `mimic/<layer>/dead_channels`. The penalty is what the training critic says, not a
    measurement: see `TotalCorrelationAudit`.

    Args:
        layers: A name or glob, a list of them or of modules (`find_layers`), or weights by name.
        weight: λ of the penalty on each layer (eq. 7.2: 1).
        warmup_steps: Training batches in which the critics train and the penalty weighs nothing.
        ramp_steps: Training batches over which the weight then grows to λ.
        labels: Where the classes are in a batch, an index or a name, if `n_classes` is given.
        select: Which entry of the layer's output, if that is no tensor.
        cap: Bound on the norm of the penalty's gradient at the layer, relative to that of the
            task's (Belghazi et al. 2018 take 1); penalties of other callbacks that come before
            this one count as the task's. Costs one more pass backward from the loss to the layer.
            Not bounded if none.
        name: First part of what is logged; different ones for several penalties on one layer.
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
        name: str = "mimic",
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
        if (options.get("n_classes") is None) != (labels is None):
            raise InputError(
                f"got n_classes {options.get('n_classes')} and labels {labels}: a penalty within "
                "classes needs their number, and where in a batch they are, such as labels=1 of "
                "(images, labels); any other neither"
            )
        self.name = name
        self._layer_of: dict[str, tuple[nn.Module, float]] = {}
        self._trained: weakref.ref[LightningModule] | None = None
        self._warned: set[str] = set()
        self._catcher: Catcher | None = None
        self._added: WrappedStep | None = None

    @property
    def state_key(self) -> str:
        """Tells several of them on one trainer apart: by name and layers."""
        asked = [x if isinstance(x, str) else f"{type(x).__name__} {id(x)}" for x in self.layers]
        return f"MiMIc {self.name}: {', '.join(self._layer_of or asked)}"

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
        if self._trained is None or self._trained() is not pl_module:
            self.regularizers, self.batches = {}, 0  # another network's critics know nothing
            self._trained = weakref.ref(pl_module)
        asked = zip(self.layers, self._weights, strict=True)
        self._layer_of = {
            name: (layer, weight)
            # Globs first, so that the weight of a name that is spelled out counts.
            for wanted, weight in sorted(asked, key=lambda pair: not is_glob(pair[0]))
            for name, layer in find_layers(pl_module, [wanted]).items()
        }
        for name, (layer, _) in self._layer_of.items():
            regularizer = self.regularizers.setdefault(name, self._regularizer())
            regularizer.reduction = regularizer.reduction.of(layer)
        modules = {name: layer for name, (layer, _) in self._layer_of.items()}
        self._catcher = Catcher(modules, self.select)
        self._added = WrappedStep(pl_module, self._step)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._catcher is not None and self._added is not None:
            self._catcher.remove()
            self._added.remove()
            self._catcher = self._added = None
            self._layer_of = dict.fromkeys(self._layer_of, (nn.Identity(), 0.0))

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
        if not module.trainer.training:
            return step(*args, **kwargs)  # called by a validation step
        self._catcher.start()
        output = step(*args, **kwargs)
        caught = self._catcher.stop()
        loss = output.get("loss") if isinstance(output, Mapping) else output
        if loss is None:
            return output  # the module leaves this batch out
        batch = args[0] if args else next(iter(kwargs.values()))
        labels = None if self.labels is None else entry("a batch", batch, self.labels, "labels")
        share, task = self.share(), loss
        for name, features in caught.items():
            loss = loss + self._weighted(module, task, name, features, labels, share)
        self.batches += 1
        return {**output, "loss": loss} if isinstance(output, Mapping) else loss

    def _weighted(
        self,
        module: LightningModule,
        task: Tensor,
        name: str,
        features: list[Tensor],
        labels: Tensor | None,
        share: float,
    ) -> Tensor | float:
        """The penalty on a layer times its weight."""
        if not features:
            raise InputError(
                f"layer {name} was not called in this training step, so there is nothing to "
                "penalise; name a layer that every step passes through (one that was compiled and "
                "called before the hooks came may be passed by)"
            )
        if len({feature.shape[1:] for feature in features}) > 1:
            raise InputError(
                f"layer {name} was called with different sizes in one step: "
                f"{', '.join(str(list(feature.shape)) for feature in features)}; name a layer "
                "whose output has one size"
            )
        layer, weight = self._layer_of[name]
        regularizer = self.regularizers[name]
        feature = features[0] if len(features) == 1 else torch.cat(features)
        if labels is not None and len(features) > 1:
            labels = labels.repeat(len(features))
        if not feature.requires_grad and regularizer.penalty != "orthogonality":
            raise InputError(
                f"the output of layer {name} has no gradient, so a penalty on it trains nothing: "
                "its layers are frozen, or run without gradients"
            )
        try:
            if share == 0:
                regularizer.critic_step(feature, labels)
                self._log(module, name, regularizer, None)
                return 0.0
            penalty = regularizer(feature, labels, getattr(layer, "weight", None))
        except ValueError as error:
            raise InputError(f"MiMIc on layer {name}: {error}") from error
        self._log(module, name, regularizer, penalty)
        if self.cap is not None:
            penalty = penalty * _capped(task, weight * share * penalty, features, self.cap)
        return weight * share * penalty

    def _log(
        self,
        module: LightningModule,
        name: str,
        regularizer: MiMIcRegularizer,
        penalty: Tensor | None,
    ) -> None:
        values = {} if penalty is None else {"penalty": penalty.detach()}
        if regularizer.trains_critic:
            values["critic_ranking"] = regularizer.critic_ranking
        if regularizer.penalty != "orthogonality":
            values["dead_channels"] = regularizer.dead_channels.float()
        module.log_dict({f"{self.name}/{name}/{key}": value for key, value in values.items()})


def _capped(task: Tensor, penalty: Tensor, features: list[Tensor], cap: float) -> Tensor:
    """The factor that keeps the penalty's gradient at the features within `cap` of the task's."""
    norms = []
    for value in (task, penalty):
        gradients = torch.autograd.grad(value, features, retain_graph=True, allow_unused=True)
        squares = [g.float().square().sum() for g in gradients if g is not None]
        norms.append(torch.stack(squares).sum().sqrt() if squares else value.new_zeros(()))
    return (cap * norms[0] / norms[1].clamp(min=torch.finfo(torch.float32).tiny)).clamp(max=1.0)
