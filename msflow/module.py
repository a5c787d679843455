"""System that trains and evaluates a multi-scale flow."""

import math
from typing import Any, cast

import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.cli import OptimizerCallable
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from common.data.images.base import ImageData
from common.errors import InputError, check_counts
from common.flows.pixel import bits_per_dim
from common.inputs import ArrayLike
from common.ode.evaluations import SolveError
from common.ode.solve import Solver
from common.training.schedules import Schedule
from common.training.system import AutomaticSystem
from common.typing import PerSample, Pixels
from msflow.accuracy import LIMIT, MOST_REFINEMENTS, TrainingSolver
from msflow.flow import Dequantization, MultiScaleFlow
from msflow.objectives import Objective


class MultiScaleFlowModule(AutomaticSystem):
    """System that trains a flow by an objective, and evaluates it in bits per dimension.

    The bits per dimension always come from the solved ODE, for every objective. Logs `val/bpd`,
    its parts `val/bpd_pixel` and `val/bpd_scale_s`, and in tests `test/bpd` and
    `test/bpd_midpoint`. If the pyramid isn't exact (the report's Laplacian pyramid), the same sums
    are an upper bound of another kind and have the name `pyramid_bpd`.

    The error of the solver is measured too, by half the step or a tenth of the tolerances: on the
    first batch of validation, test and prediction (`val/solver_error`), where numbers with an
    error of more than 0.01 bits/dim have the name `bpd_inexact`; and during training by an
    objective that solves the ODE (`train/solver_error`), which goes on with a finer solver.

    Args:
        flow: Density of images.
        objective: Training objective.
        optimizer: Factory of the optimiser, from parameters.
        schedule: Schedule of the learning rate. None: a constant rate.
        eval_solver: Solver for validation, test and prediction. None: the flow's own solver.
        epochs_per_scale: Number of epochs for each scale, coarse to fine; each scale trains alone,
            and the finest one trains to the end. None: all scales train together.
        n_draws: Number of draws of dequantization noise and trace noise that tests and predictions
            average over.
        statistics_images: Number of training images for the statistics of the standardization.
        check_every: Number of training batches from one measurement of the solver's error to the
            next.

    Attributes:
        train_solver: Solver of the training.

    Raises:
        InputError: `epochs_per_scale` has another length than the flow has scales, or numbers are
            below their minimum.
    """

    def __init__(
        self,
        flow: MultiScaleFlow,
        objective: Objective,
        optimizer: OptimizerCallable = torch.optim.Adam,
        schedule: Schedule | None = None,
        eval_solver: Solver | None = None,
        epochs_per_scale: list[int] | None = None,
        n_draws: int = 3,
        statistics_images: int = 2000,
        check_every: int = 20,
    ) -> None:
        super().__init__(optimizer, schedule)
        check_counts(
            1, n_draws=n_draws, statistics_images=statistics_images, check_every=check_every
        )
        check_counts(0, epochs_per_scale=epochs_per_scale)
        if epochs_per_scale is not None and len(epochs_per_scale) != len(flow.scales):
            raise InputError(
                f"epochs_per_scale has {len(epochs_per_scale)} entries, but the flow has "
                f"{len(flow.scales)} scales: give one for each"
            )
        self.save_hyperparameters()
        self.flow, self.objective = flow, objective
        self.eval_solver = eval_solver or flow.scales[0].blocks[0].solver
        self.epochs_per_scale, self.n_draws = epochs_per_scale, n_draws
        self.statistics_images, self.check_every = statistics_images, check_every
        self.train_solver = TrainingSolver(flow.scales[0].blocks[0].solver)
        self._inexact = False

    def setup(self, stage: str) -> None:
        data: LightningDataModule | None = getattr(self.trainer, "datamodule", None)
        if stage == "fit":
            self._check_monitors()
        if not isinstance(data, ImageData):
            if stage == "fit" and not self.flow.fitted:
                rank_zero_warn(
                    "the flow has no statistics of the data: call flow.fit_statistics(pixels), or "
                    "train with an ImageData"
                )
            return
        if tuple(data.shape) != self.flow.shape:
            raise InputError(
                f"the data's images are {_size(data.shape)} but the flow was configured for "
                f"{_size(self.flow.shape)} (channels × height × width): change model.flow.shape "
                "or the data set"
            )
        if stage == "fit" and not self.flow.fitted:
            self.flow.fit_statistics(data.images("train")[: self.statistics_images])

    def _check_monitors(self) -> None:
        wrong = "val/pyramid_bpd" if self.flow.exact else "val/bpd"
        for callback in self.trainer.checkpoint_callbacks:
            if getattr(callback, "monitor", None) == wrong:
                raise InputError(
                    f"the best checkpoint is chosen by {wrong}, but with this pyramid the flow "
                    f"logs val/{self.flow.bits_name}: set --best.monitor val/{self.flow.bits_name}"
                )

    def forward(self, pixels: ArrayLike) -> PerSample:
        """Bits per dimension of each image, with one draw of the noise.

        Args:
            pixels: Images, as for `MultiScaleFlow.log_prob`.
        """
        return bits_per_dim(self.flow.log_prob(pixels, self.eval_solver), self.flow.dims)

    def sample(self, n: int, temperature: float = 1.0) -> Pixels:
        """Images drawn from the model."""
        return self.flow.sample(n, temperature, self.eval_solver)

    @property
    def active_scales(self) -> list[int]:
        """Indices of the scales that train in this epoch."""
        if self.epochs_per_scale is None:
            return list(range(len(self.flow.scales)))
        epoch = self.current_epoch
        for scale, epochs in enumerate(self.epochs_per_scale):
            if epoch < epochs:
                return [scale]
            epoch -= epochs
        return [len(self.flow.scales) - 1]

    def training_step(self, pixels: ArrayLike, batch_idx: int) -> Tensor:
        try:
            if self.objective.solves and batch_idx % self.check_every == 0:
                self.train_solver.adjust(lambda solver: self._solver_error(pixels, solver))
            solver = self.train_solver.solver
            loss, terms = self.objective(self.flow, pixels, self.active_scales, solver)
        except SolveError as error:
            return self.left_out(error)
        self.log("train/loss", loss, prog_bar=True)
        if self.objective.solves:
            self.log("train/solver_error", self.train_solver.error)
        self.log_dict({f"train/{name}": value for name, value in terms.items()})
        return loss

    def validation_step(self, pixels: ArrayLike, batch_idx: int) -> None:
        self._check_solver("val", pixels, batch_idx)
        self._log("val", self._bits(pixels), prog_bar=True)

    def test_step(self, pixels: ArrayLike, batch_idx: int) -> None:
        self._check_solver("test", pixels, batch_idx)
        draws = [self._bits(pixels) for _ in range(self.n_draws)]
        mean = {key: torch.stack([bits[key] for bits in draws]).mean(0) for key in draws[0]}
        if self.flow.exact:  # the midpoints of a Laplacian pyramid have no bounded density
            mean["bpd_midpoint"] = self._bits(pixels, "midpoint")["bpd"]
        self._log("test", mean)

    def predict_step(self, pixels: ArrayLike, batch_idx: int) -> Tensor:
        """Bits per dimension of each image, the mean of `n_draws` draws of the noise."""
        self._check_solver("predict", pixels, batch_idx)
        return torch.stack([self(pixels) for _ in range(self.n_draws)]).mean(0)

    @property
    def bits_name(self) -> str:
        """Name of the bits per dimension: with `_inexact` if the solver's error is too large."""
        return self.flow.bits_name + ("_inexact" if self._inexact else "")

    def _check_solver(self, stage: str, pixels: ArrayLike, batch_idx: int) -> None:
        """Measures the error of the evaluation's solver on the first batch of an epoch."""
        if batch_idx > 0:
            return
        error = self._solver_error(pixels, self.eval_solver)
        self._inexact = not error <= LIMIT
        if self._inexact:
            rank_zero_warn(
                f"{stage}: the error of the solver ({self.eval_solver}) is {error:.2g} bits/dim, "
                f"more than {LIMIT}, so the bits have the name {self.bits_name}; give "
                "model.eval_solver a smaller step or smaller tolerances"
            )
        if stage != "predict":
            self.log(f"{stage}/solver_error", error, batch_size=1, sync_dist=True)

    def _solver_error(self, pixels: ArrayLike, solver: Solver) -> float:
        """Mean error over the batch; with several processes, the largest of all."""
        scales = self.active_scales if self.training else None
        error = self.flow.solver_error(pixels, solver, scales).mean()
        if self._trainer is not None:
            error = cast(Tensor, self.all_gather(error)).max()
        return float(error)

    def _bits(
        self, pixels: ArrayLike, dequantization: Dequantization = "uniform"
    ) -> dict[str, PerSample]:
        terms = self.flow.likelihoods(pixels, self.eval_solver, dequantization)
        name, dims = self.flow.bits_name, self.flow.dims
        return {
            name: bits_per_dim(terms.total, dims),
            f"{name}_pixel": bits_per_dim(terms.pixel, dims),
            **{f"{name}_scale_{s}": bits_per_dim(p, dims) for s, p in enumerate(terms.scales)},
        }

    def _log(self, stage: str, bits: dict[str, PerSample], prog_bar: bool = False) -> None:
        own = self.flow.bits_name
        named = {name.replace(own, self.bits_name, 1): values for name, values in bits.items()}
        # No checkpoint and no stopping rule may take an inexact number for a good one.
        named.setdefault(own, torch.full_like(bits[own], math.inf))
        for name, values in named.items():
            self.log(
                f"{stage}/{name}",
                values.mean(),
                prog_bar=prog_bar and name == own,
                batch_size=len(values),
                sync_dist=True,
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["solver_refinements"] = self.train_solver.refinements

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        found = checkpoint.get("solver_refinements", 0)
        if found not in range(MOST_REFINEMENTS + 1):
            raise InputError(
                f"the checkpoint has solver_refinements {str(found)[:20]}; take another one"
            )
        self.train_solver.refinements = int(found)


def _size(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
