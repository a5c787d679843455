"""Audit as a callback: total correlation of layers on data that nothing was trained on."""

import inspect
import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from common.errors import InputError, check_counts, check_words
from common.progress import hidden
from mimic.critic.critics import CriticFactory, MapCritic
from mimic.critic.estimators import gaussian_total_correlation
from mimic.features.layers import (
    Catcher,
    Layer,
    Select,
    entry,
    find_layers,
    one_feature,
    repeated,
)
from mimic.features.normal_scores import NormalScores
from mimic.features.rows import Reduce, Reduction, Rows, standardize
from mimic.measure import FEWEST, NOISE, Measurement, check_options, measure_total_correlation


class TotalCorrelationAudit(Callback):
    """Audit of layers: total correlation on validation and test data, by newly made estimators.

    Works with `MiMIc` and without: the same audit evaluates a network trained either way. Logs
    `audit/<layer>/tc` in nats, `audit/<layer>/tc_error`, its standard error,
    `audit/<layer>/tc_critic`, the second reading (see `measure_total_correlation`), and
    `audit/<layer>/tc_gaussian`, the part that covariances show, of the same channels with the same
    noise. Several loaders are audited one by one, with `/dataloader_idx_1` and so on behind the
    name.

    Args:
        layers: A name or glob, or a list of them or of modules, see `find_layers`.
        reduce: See `MiMIcRegularizer`.
        channel_dim: See `MiMIcRegularizer`.
        positions: Number of positions of each image under `per_location`.
        labels: Index or name of the classes in a batch, if `n_classes` is given.
        n_classes: Number of classes, for total correlation within classes. None: over all classes.
        mask: See `MiMIc`.
        select: Entry to take of a layer's output, if that is no tensor. None: the output itself.
        critic: Factory of critics. None: `MapCritic` for maps, otherwise `HybridCritic`.
        samples: Number of images, the first of a set, on all devices together.
        every_n_epochs: Number of epochs from one audit in validation to the next. None: only at
            the end of training.
        name: First part of the names in the log; give several audits of one layer different names.
        **options: Options of `measure_total_correlation`.
    """

    def __init__(
        self,
        layers: str | Sequence[Any],
        reduce: Reduce = "pool",
        channel_dim: int | None = None,
        positions: int = 4,
        labels: int | str | None = None,
        n_classes: int | None = None,
        mask: int | str | None = None,
        select: Select | None = None,
        critic: CriticFactory | None = None,
        samples: int = 10_000,
        every_n_epochs: int | None = None,
        name: str = "audit",
        **options: Any,
    ) -> None:
        check_counts(1, positions=positions, every_n_epochs=every_n_epochs)
        check_counts(FEWEST, samples=samples)
        # A wrong option is refused here, not after training.
        inspect.signature(measure_total_correlation).bind(None, **options)
        check_words((reduce, Reduce))
        check_options(options)
        if (n_classes is None) != (labels is None):
            raise InputError(
                f"got n_classes {n_classes} and labels {labels}; an audit within classes needs "
                "both, any other audit neither"
            )
        self.layers: list[Layer] = [layers] if isinstance(layers, str) else list(layers)
        self.reduction, self.positions = Reduction(reduce, channel_dim), positions
        self.labels, self.n_classes, self.mask, self.select = labels, n_classes, mask, select
        self.critic, self.samples, self.every_n_epochs = critic, samples, every_n_epochs
        self.options = options  # on a line of its own, else jsonargparse would not find its names
        self.name = name
        self.measured: dict[str, Measurement] = {}
        self._catcher: Catcher | None = None
        self._reductions: dict[str, Reduction] = {}
        self._kept: dict[int, dict[str, list[Rows]]] = {}  # by loader and layer
        self._share = samples
        self._described: set[str] = set()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._catcher is None:
            layers = find_layers(pl_module, self.layers)
            self._reductions = {name: self.reduction.of(layer) for name, layer in layers.items()}
            self._catcher = Catcher(layers, self.select)

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
            self._begin(trainer, trainer.num_val_batches)

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(trainer, trainer.num_test_batches)

    # Not after the last batch: the module's own hook at its end may call the layer again.
    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._catcher is not None and self._kept and self._wants(dataloader_idx):
            self._catcher.start()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._catcher is None or not self._kept:
            return
        caught = self._catcher.stop()
        if self._wants(dataloader_idx):
            self._keep(caught, batch, dataloader_idx)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._finish(pl_module)

    on_test_batch_start = on_validation_batch_start
    on_test_batch_end = on_validation_batch_end
    on_test_epoch_end = on_validation_epoch_end

    def _due(self, trainer: Trainer) -> bool:
        if trainer.sanity_checking:
            return False
        if trainer.state.fn == "validate":
            return True
        epoch = trainer.current_epoch + 1
        if self.every_n_epochs is not None:
            return epoch % self.every_n_epochs == 0
        no_epoch_after = epoch + (trainer.check_val_every_n_epoch or 1) > (trainer.max_epochs or 0)
        batches_after = trainer.num_training_batches - trainer.fit_loop.batch_idx - 1
        last = no_epoch_after and batches_after < (trainer.val_check_batch or 1)
        ended = 0 <= trainer.max_steps <= trainer.global_step
        return trainer.should_stop or ended or (trainer.max_epochs != -1 and last)

    def _begin(self, trainer: Trainer, batches: Sequence[int | float]) -> None:
        assert self._catcher is not None
        names = self._catcher.names
        self._kept = {loader: {name: [] for name in names} for loader in range(len(batches))}
        self._share = -(-self.samples // trainer.world_size)

    def _wants(self, loader: int) -> bool:
        """True while this device has not kept its share of a loader's images yet."""
        counts = [sum(len(p.z) // p.positions for p in x) for x in self._kept[loader].values()]
        return min(counts) < self._share

    def _keep(self, caught: dict[str, list[Tensor]], batch: Any, loader: int) -> None:
        """Keeps the rows of the layers' outputs for a batch."""
        labels = None if self.labels is None else entry("a batch", batch, self.labels, "labels")
        mask = None if self.mask is None else entry("a batch", batch, self.mask, "mask")
        for name, calls in caught.items():
            feature, own = one_feature(name, calls, labels)
            reduction = self._reductions[name]._replace(rows=self.positions * len(feature))
            # The same positions in every run and on every device.
            generator = torch.Generator(feature.device).manual_seed(0)
            try:
                if name not in self._described:
                    self._described.add(name)
                    rank_zero_info(f"audit of layer {name}: {reduction.describe(feature)}")
                rows = reduction(feature.detach(), None, generator, repeated(mask, len(calls)))
            except ValueError as error:
                raise InputError(f"audit of layer {name}: {error}") from error
            if own is not None:
                own = own.repeat_interleave(rows.positions).cpu()
            self._kept[loader][name].append(rows._replace(z=rows.z.cpu(), labels=own))

    def _finish(self, pl_module: LightningModule) -> None:
        every, self._kept = self._kept, {}
        trainer = pl_module.trainer
        quiet = trainer.progress_bar_callback is None or not trainer.is_global_zero
        for loader, kept in every.items():
            suffix = f"/dataloader_idx_{loader}" if len(every) > 1 else ""
            for name, parts in kept.items():
                try:
                    # Tensors of evaluation may not be trained on, but copies may.
                    with torch.inference_mode(False), torch.enable_grad(), hidden(quiet):
                        rows = _gathered(parts, self.samples, pl_module.device)
                        with warnings.catch_warnings(record=True) as said:
                            warnings.simplefilter("always")
                            found, gaussian = self._measure(rows)
                except ValueError as error:  # no reason to lose a run
                    rank_zero_warn(f"no audit of layer {name}: {error}")
                    continue
                for warning in said:
                    rank_zero_warn(f"audit of layer {name}: {warning.message}")
                self.measured[name + suffix] = found
                values: dict[str, float | None] = {"tc": found.value, "tc_error": found.error}
                values |= {"tc_critic": found.critic, "tc_gaussian": gaussian}
                logged = {
                    f"{self.name}/{name}/{key}{suffix}": value
                    for key, value in values.items()
                    if value is not None
                }
                # The names say the loader.
                pl_module.log_dict(logged, add_dataloader_idx=False)

    def _measure(self, rows: Rows) -> tuple[Measurement, float | None]:
        """Measurement, and the part that covariances show. None: channels are maps."""
        usual = MapCritic if self.reduction.reduce == "map" else None
        found = measure_total_correlation(
            rows.z,
            rows.labels,
            self.n_classes,
            rows.positions,
            critic=self.critic or usual,
            **self.options,
        )
        if rows.z.ndim > 2:
            return found, None
        z = standardize(rows, self.n_classes)[0].z
        noise = self.options.get("noise", NOISE)
        return found, float(gaussian_total_correlation(NormalScores(z)(z), noise))


def _gathered(parts: list[Rows], samples: int, device: torch.device) -> Rows:
    """Rows of the first images of all devices, in the same order on each device."""
    if dist.is_available() and dist.is_initialized():
        gathered: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(gathered, parts)
        parts = [part for of_device in gathered for part in of_device]
    if not parts:
        raise InputError("no samples came")
    count = samples * parts[0].positions
    z = torch.cat([part.z for part in parts])[:count].to(device, copy=True)
    labels = [part.labels for part in parts if part.labels is not None]
    kept = torch.cat(labels)[:count].to(device, copy=True).long() if labels else None
    return Rows(z, kept, parts[0].positions)
