"""MiMIc as a callback: a penalty on any layers of any LightningModule (Predoc III, eq. 7.2)."""

import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn

from common.errors import InputError, check_counts, check_positive
from mimic.critic.devices import world_size
from mimic.features.inputs import OddBatchError
from mimic.features.layers import (
    Catcher,
    Layer,
    Select,
    entry,
    find_layers,
    is_glob,
    one_feature,
    repeated,
)
from mimic.features.wrapping import Step, WrappedStep
from mimic.regularizer import MiMIcRegularizer


class MiMIc(Callback):
    """Penalty on the total correlation of layers' channels, added to the loss of training.

    `Trainer(callbacks=[MiMIc(layers=["backbone.layer4"], weight=0.1)])`; the LightningModule stays
    as it is. Its `training_step` is wrapped while it trains, so accumulation, mixed precision,
    clipping and DDP treat the penalty as any part of the loss.

    Logs, for each layer, `mimic/<layer>/penalty`, `mimic/<layer>/critic_ranking` (the share of
    pairs of a joint and a shuffled sample that the critic ranks right; 1/2 by chance) and
    `mimic/<layer>/dead_channels`. An odd batch, such as a last one of one image, gets no penalty;
    a warning says so once, and `mimic/<layer>/skipped` counts them. (On several devices it is an
    error, as the others wait.) The penalty is the estimate of the training critic, not a
    measurement: see `TotalCorrelationAudit`.

    Args:
        layers: A name or glob, a list of them or of modules (`find_layers`), or weights by name.
        weight: λ of the penalty on each layer (eq. 7.2: 1).
        warmup_steps: Number of training batches in which the critics train and the penalty has no
            weight.
        ramp_steps: Number of training batches over which the weight then grows to λ.
        labels: Index or name of the classes in a batch, if `n_classes` is given; `1.classes` is
            the entry `classes` of the entry 1.
        mask: Index or name, in a batch, of the positions that count in averages over positions,
            `bool [b …]`, such as tokens that are no padding. None: all of them.
        select: Entry to take of the layer's output, if that is no tensor. None: the output itself.
        cap: Bound on the norm of the penalty's gradient at the layer, relative to that of the
            task's gradient (Belghazi et al. 2018 take 1); penalties of other callbacks that come
            before this one count as the task's. Costs one more backward pass from the loss to the
            layer. None: no bound.
        name: First part of the names in the log; give several penalties on one layer different
            names.
        **options: Options of `MiMIcRegularizer`.
    """

    def __init__(
        self,
        layers: str | Sequence[Any] | Mapping[str, float],
        weight: float = 0.1,
        warmup_steps: int = 0,
        ramp_steps: int = 0,
        labels: int | str | None = None,
        mask: int | str | None = None,
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
        if not self.layers:
            raise InputError(f"got layers {layers}; name at least one layer")
        check_counts(0, weight=self._weights, warmup_steps=warmup_steps, ramp_steps=ramp_steps)
        check_positive(cap=cap)
        if (options.get("n_classes") is None) != (labels is None):
            raise InputError(
                f"got n_classes {options.get('n_classes')} and labels {labels}: a penalty within "
                "classes needs their number, and where in a batch they are, such as labels=1 of "
                "(images, labels); any other penalty needs neither"
            )
        self.warmup_steps, self.ramp_steps, self.cap = warmup_steps, ramp_steps, cap
        self.labels, self.mask, self.select, self.name = labels, mask, select, name
        self.options = options  # on a line of its own, else jsonargparse would not find its names
        self._regularizer()  # so that wrong options are refused here
        self.regularizers: dict[str, MiMIcRegularizer] = {}
        self.batches = 0
        self._layer_of: dict[str, tuple[nn.Module, float]] = {}
        self._trained: weakref.ref[LightningModule] | None = None
        self._warned: set[str] = set()
        self._described: set[str] = set()
        self._fit: set[str] = set()  # layers that had a batch fit for a penalty
        self.skipped: Counter[str] = Counter()
        self._catcher: Catcher | None = None
        self._added: WrappedStep | None = None

    @property
    def state_key(self) -> str:
        """Name and layers, which tell several penalties of one trainer apart."""
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
            # Globs first, so that a name that is spelled out has its own weight.
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
        """Share of the weight that is in force after warm-up and ramp, from 0 to 1."""
        after = self.batches - self.warmup_steps
        if after < 0:
            return 0.0
        return min(1.0, (after + 1) / (self.ramp_steps + 1))

    def _step(self, module: LightningModule, step: Step, *args: Any, **kwargs: Any) -> Any:
        """The module's training step, with the penalties added to its loss."""
        assert self._catcher is not None
        if not module.trainer.training:
            return step(*args, **kwargs)  # called by a validation step
        self._catcher.start()
        output = step(*args, **kwargs)
        caught = self._catcher.stop()
        task = output.get("loss") if isinstance(output, Mapping) else output
        if task is None:
            return output  # the module leaves this batch out
        batch = args[0] if args else next(iter(kwargs.values()))
        labels = None if self.labels is None else entry("a batch", batch, self.labels, "labels")
        mask = None if self.mask is None else entry("a batch", batch, self.mask, "mask")
        loss = task
        for name, calls in caught.items():
            try:
                penalty = self._penalty(name, calls, labels, mask)
            except OddBatchError as error:
                self._skip(name, error)
                penalty = None
            # The number, as Lightning can't find it where a step takes the loader's iterator.
            self._log(module, name, penalty, len(calls[0]) if calls else 1)
            if penalty is not None:
                loss = loss + self._weighted(penalty, name, calls, task)
        self.batches += 1
        return {**output, "loss": loss} if isinstance(output, Mapping) else loss

    def _skip(self, name: str, error: OddBatchError) -> None:
        """Leaves the penalty of one batch out, unless no batch was fit or devices wait."""
        if name not in self._fit or world_size() > 1:
            raise InputError(f"MiMIc on layer {name}: {error}") from error
        self.skipped[name] += 1
        if self.skipped[name] == 1:
            rank_zero_warn(f"no penalty on layer {name} in a batch, others are counted: {error}")

    def _penalty(
        self, name: str, calls: list[Tensor], labels: Tensor | None, mask: Tensor | None
    ) -> Tensor | None:
        """Penalty on a layer. None: warm-up, in which the critic alone trains."""
        regularizer, (layer, _) = self.regularizers[name], self._layer_of[name]
        feature, labels = one_feature(name, calls, labels)
        if not feature.requires_grad and regularizer.penalty != "orthogonality":
            raise InputError(
                f"the output of layer {name} has no gradient, so a penalty on it trains nothing: "
                "its layers are frozen, or run without gradients (if by activation checkpointing, "
                "give it use_reentrant=False)"
            )
        mask = repeated(mask, len(calls))
        try:
            if name not in self._described and regularizer.penalty != "orthogonality":
                self._described.add(name)
                rank_zero_info(f"layer {name}: {regularizer.reduction.describe(feature)}")
            if self.share() > 0:
                penalty = regularizer(feature, labels, getattr(layer, "weight", None), mask)
            else:
                penalty = None
                regularizer.critic_step(feature, labels, mask)
            self._fit.add(name)
        except OddBatchError:
            raise
        except ValueError as error:
            raise InputError(f"MiMIc on layer {name}: {error}") from error
        return penalty

    def _weighted(self, penalty: Tensor, name: str, calls: list[Tensor], task: Tensor) -> Tensor:
        weight, share = self._layer_of[name][1], self.share()
        if self.cap is not None:
            penalty = penalty * _capped(task, weight * share * penalty, calls, self.cap)
        return weight * share * penalty

    def _log(
        self, module: LightningModule, name: str, penalty: Tensor | None, batch_size: int
    ) -> None:
        regularizer = self.regularizers[name]
        values = {} if penalty is None else {"penalty": penalty.detach()}
        if regularizer.trains_critic:
            values["critic_ranking"] = regularizer.critic_ranking
        if self.skipped[name]:
            values["skipped"] = torch.tensor(float(self.skipped[name]))
        if regularizer.penalty != "orthogonality":
            values["dead_channels"] = regularizer.dead_channels.float()
        named = {f"{self.name}/{name}/{key}": value for key, value in values.items()}
        module.log_dict(named, batch_size=batch_size)


def _capped(task: Tensor, penalty: Tensor, features: list[Tensor], cap: float) -> Tensor:
    """Factor that keeps the penalty's gradient at the features within `cap` of the task's."""
    norms = []
    for value in (task, penalty):
        gradients = torch.autograd.grad(value, features, retain_graph=True, allow_unused=True)
        squares = [g.float().square().sum() for g in gradients if g is not None]
        norms.append(torch.stack(squares).sum().sqrt() if squares else value.new_zeros(()))
    return (cap * norms[0] / norms[1].clamp(min=torch.finfo(torch.float32).tiny)).clamp(max=1.0)
