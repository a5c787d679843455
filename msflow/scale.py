"""Flow of one scale: the density of the detail that a scale adds, given the coarser image."""

from collections.abc import Sequence

from torch import nn

from common.flows.base import normal_log_prob
from common.flows.cnf import CNF
from common.flows.pyramid import Level, LevelShape
from common.flows.standardize import Standardize
from common.nn.fields import PathField
from common.ode.divergence import Divergence
from common.ode.regularize import Regularizer
from common.ode.solve import Solver
from common.typing import FieldFactory, Image, PerSample


class ScaleFlow(nn.Module):
    """Flow of one scale, the factor `p(detail | context)` (Predoc III, eq. 6.4-6.7).

    It standardizes the detail, then CNF blocks map the detail to a standard normal distribution.

    Args:
        shape: Shape of the level.
        field: From the numbers of channels of state and context to the vector field of a block.
        n_blocks: Number of CNF blocks, applied one after the other.
        solver: Solver of every block.
        divergence: Exact or estimated trace of every block. None: Hutchinson's estimate.
        compile: Compile the fields.
    """

    def __init__(
        self,
        shape: LevelShape,
        field: FieldFactory,
        n_blocks: int,
        solver: Solver,
        divergence: Divergence | None,
        compile: bool,
    ) -> None:
        super().__init__()
        channels = shape.detail[0]
        self.shape = shape
        self.detail = Standardize(channels)
        self.context = Standardize(shape.context_channels) if shape.context_channels else None
        self.blocks: Sequence[CNF] = nn.ModuleList(  # type: ignore[assignment]
            CNF(field(channels, shape.context_channels), solver, divergence, compile)
            for _ in range(n_blocks)
        )
        for k, block in enumerate(self.blocks):
            if isinstance(block.field, PathField):
                block.field.cover(k, n_blocks)

    def fit(self, level: Level) -> None:
        """Measures on a batch the statistics of the standardization."""
        self.detail.fit(level.detail)
        if self.context is not None and level.context is not None:
            self.context.fit(level.context)

    def standardize(self, level: Level) -> tuple[Image, Image | None, PerSample]:
        """Standardized detail and context, and the ladj of the detail."""
        x, ladj = self.detail(level.detail)
        return x, self._standardize_context(level.context), ladj

    def log_prob(
        self,
        level: Level,
        solver: Solver | None = None,
        regularizers: Sequence[Regularizer] = (),
        end_time: float = 1.0,
    ) -> tuple[PerSample, list[PerSample]]:
        """Log-density of the detail given its context, and the integrals of the regularisers.

        Args:
            level: Detail and context.
            solver: None: the solver of the blocks.
            regularizers: Regularisers to integrate.
            end_time: End time of every block; the start time is 0.

        Returns:
            Log-density `[b]` in nats, and an integral `[b]` for each regulariser, summed over the
            blocks and without its weight.
        """
        z, context, log_prob = self.standardize(level)
        penalties = [z.new_zeros(len(z)) for _ in regularizers]
        for block in self.blocks:
            z, ladj, integrals = block.transport(z, context, 0.0, end_time, solver, regularizers)
            log_prob = log_prob + ladj
            penalties = [a + b for a, b in zip(penalties, integrals, strict=True)]
        return log_prob + normal_log_prob(z), penalties

    def sample(self, noise: Image, context: Image | None, solver: Solver | None = None) -> Image:
        """Detail that the flow makes from noise, given the context.

        Args:
            noise: Noise of the shape of the detail.
            context: Context, not standardized. None: the coarsest scale has no context.
            solver: None: the solver of the blocks.
        """
        context = self._standardize_context(context)
        for block in reversed(self.blocks):
            noise = block.flow(noise, context, 1.0, 0.0, solver)
        return self.detail.inverse(noise)[0]

    def sample_with_log_prob(
        self, noise: Image, context: Image | None, solver: Solver | None = None
    ) -> tuple[Image, PerSample]:
        """Detail made from standard normal noise, and its log-density given the context, `[b]`.

        The arguments are those of `sample`.
        """
        context = self._standardize_context(context)
        log_prob = normal_log_prob(noise)
        for block in reversed(self.blocks):
            noise, ladj, _ = block.transport(noise, context, 1.0, 0.0, solver)
            log_prob = log_prob - ladj
        detail, ladj = self.detail.inverse(noise)
        return detail, log_prob - ladj

    def _standardize_context(self, context: Image | None) -> Image | None:
        if self.context is None:
            return None
        standardized: Image = self.context(context)[0]
        return standardized
