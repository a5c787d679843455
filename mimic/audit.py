"""The audit as a callback: total correlation of layers on data that nothing was trained on."""

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from common.errors import InputError
from mimic.critics import CriticFactory, MapCritic
from mimic.estimators import gaussian_total_correlation
from mimic.features import Reduce, Reduction, centre
from mimic.layers import Catcher, Layer, Select, entry, find_layers
from mimic.measure import FEWEST, NOISE, Measurement, measure_total_correlation
from mimic.terms import Rows


class Kept(NamedTuple):
    """Channels of a batch, `[b positions c …]`, and its classes."""

    z: Tensor
    labels: Tensor | None


class TotalCorrelationAudit(Callback):
    """Measures what layers' channels share, on validation and test data, by critics made anew.

    Works with `MiMIc` and without: the same audit judges a network trained either way. Logs
    `audit/<layer>/tc` in nats, `audit/<layer>/tc_error`, its standard error, and
    `audit/<layer>/tc_gaussian`, the part that covariances show, with the same noise.

    Args:
        layers: A name or glob, or a list of them or of modules, see `find_layers`.
        reduce: See `MiMIcRegularizer`.
        channel_dim: See `MiMIcRegularizer`.
        positions: `per_location` takes so many positions of each image.
        labels: Where the classes are in a batch, an index or a name, if `n_classes` is given.
        n_classes: Classes, if within classes.
        select: Which entry of a layer's output, if that is no tensor.
        critic: Makes a critic; `MapCritic` for maps, `HybridCritic` otherwise if none.
        samples: The first so many images of a set, on all devices together.
        every_n_epochs: In validation, so often; at the end of training only if none.
        **options: Those of `measure_total_correlation`.
    """

    def __init__(
        self,
        layers: str | Sequence[Any],
        reduce: Reduce = "pool",
        channel_dim: int | None = None,
        positions: int = 4,
        labels: int | str | None = None,
        n_classes: int | None = None,
        select: Select | None = None,
        critic: CriticFactory | None = None,
        samples: int = 10_000,
        every_n_epochs: int | None = None,
        **options: Any,
    ) -> None:
        if (
            positions < 1
            or samples < FEWEST
            or (every_n_epochs is not None and every_n_epochs < 1)
        ):
            raise InputError(
                f"got positions {positions}, samples {samples} and every_n_epochs "
                f"{every_n_epochs}; give {FEWEST} samples or more, and 1 or more of the others"
            )
        # So that a wrong option is refused here, not after training.
        inspect.signature(measure_total_correlation).bind(None, **options)
        if (n_classes is None) != (labels is None):
            raise InputError(
                f"got n_classes {n_classes} and labels {labels}; an audit within classes needs "
                "both, any other neither"
            )
        self.layers: list[Layer] = [layers] if isinstance(layers, str) else list(layers)
        self.reduction, self.positions = Reduction(reduce, channel_dim), positions
        self.labels, self.n_classes, self.select = labels, n_classes, select
        self.critic = critic
        self.samples, self.every_n_epochs = samples, every_n_epochs
        self.options = options
        self.measured: dict[str, Measurement] = {}
        self._catcher: Catcher | None = None
        self._kept: dict[str, list[Kept]] = {}
        self._share = samples

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._catcher is None:
            self._catcher = Catcher(find_layers(pl_module, self.layers), self.select)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._catcher is not None:
            self._catcher.remove()
            self._catcher = None

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self.teardown(trainer, pl_module, "fit")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.measured:
            rank_zero_warn(
                "the audit measured nothing in this training: no validation came at its end. "
                "Set every_n_epochs, or test"
            )

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._due(trainer):
            self._begin(trainer)

    def on_validation_batch_start(self, *args: Any, **kwargs: Any) -> None:
        self._watch()

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        self._keep(batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._finish(pl_module)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(trainer)

    def on_test_batch_start(self, *args: Any, **kwargs: Any) -> None:
        self._watch()

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        self._keep(batch)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._finish(pl_module)

    def _due(self, trainer: Trainer) -> bool:
        if trainer.sanity_checking:
            return False
        if trainer.state.fn == "validate":
            return True
        epoch = trainer.current_epoch + 1
        if self.every_n_epochs is not None:
            return epoch % self.every_n_epochs == 0
        no_epoch_after = epoch + (trainer.check_val_every_n_epoch or 1) > (trainer.max_epochs or 0)
        ended = 0 <= trainer.max_steps <= trainer.global_step
        return trainer.should_stop or ended or (trainer.max_epochs != -1 and no_epoch_after)

    def _begin(self, trainer: Trainer) -> None:
        assert self._catcher is not None
        self._kept = {name: [] for name in self._catcher.names}
        self._share = -(-self.samples // trainer.world_size)

    def _watch(self) -> None:
        if self._kept and self._catcher is not None and not self._full():
            self._catcher.start()

    def _full(self) -> bool:
        """Whether this device has kept its share of the samples."""
        return all(sum(len(k.z) for k in kept) >= self._share for kept in self._kept.values())

    def _keep(self, batch: Any) -> None:
        """Reduces and keeps what the layers put out for a batch."""
        if not self._kept or self._catcher is None or self._full():
            return
        labels = None if self.labels is None else entry("a batch", batch, self.labels, "labels")
        for name, features in self._catcher.stop().items():
            if not features:
                raise InputError(
                    f"layer {name} was not called on this batch, so there is nothing to audit"
                )
            self._kept[name].append(self._reduced(name, features, labels))

    def _reduced(self, name: str, features: list[Tensor], labels: Tensor | None) -> Kept:
        feature = torch.cat(features).detach()
        reduction = self.reduction._replace(rows=self.positions * len(feature))
        # The same positions in every run and on every device.
        generator = torch.Generator(feature.device).manual_seed(0)
        try:
            rows = reduction(feature, None, generator)
        except ValueError as error:
            raise InputError(f"audit of layer {name}: {error}") from error
        z = rows.z.unflatten(0, (-1, rows.positions)).cpu()
        return Kept(z, None if labels is None else labels.repeat(len(features)).cpu())

    def _finish(self, pl_module: LightningModule) -> None:
        kept, self._kept = self._kept, {}
        for name, parts in kept.items():
            # What evaluation made may not be trained on, but copies may.
            with torch.inference_mode(False), torch.enable_grad():
                z, labels = _together(parts, self.samples)
                if len(z) < FEWEST:
                    rank_zero_warn(
                        f"no audit of layer {name}: {len(z)} samples came, {FEWEST} are needed"
                    )
                    continue
                rows = Rows(z.flatten(0, 1).to(pl_module.device, copy=True), None, z.shape[1])
                if labels is not None:
                    repeated = labels.to(rows.z.device).long().repeat_interleave(rows.positions)
                    rows = rows._replace(labels=repeated)
                try:
                    found = self._measure(rows)
                except ValueError as error:
                    raise InputError(f"audit of layer {name}: {error}") from error
            self.measured[name] = found
            values = {"tc": found.value, "tc_error": found.error}
            if rows.z.ndim == 2:
                noise = self.options.get("noise", NOISE)
                centred = centre(rows, self.n_classes).z
                values["tc_gaussian"] = float(gaussian_total_correlation(centred, noise))
            pl_module.log_dict({f"audit/{name}/{key}": value for key, value in values.items()})

    def _measure(self, rows: Rows) -> Measurement:
        usual = MapCritic if self.reduction.reduce == "map" else None
        return measure_total_correlation(
            rows.z,
            labels=rows.labels,
            n_classes=self.n_classes,
            positions=rows.positions,
            critic=self.critic or usual,
            **self.options,
        )


def _together(parts: list[Kept], samples: int) -> tuple[Tensor, Tensor | None]:
    """All images of all devices, in an order that is the same on each, `[n positions c …]`."""
    if dist.is_available() and dist.is_initialized():
        gathered: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(gathered, parts)
        parts = [part for of_device in gathered for part in of_device]
    z = torch.cat([part.z for part in parts])[:samples].clone()
    labels = [part.labels for part in parts if part.labels is not None]
    return z, torch.cat(labels)[:samples].clone() if labels else None
