"""MSFlow: density of an image as a product of continuous normalizing flows over scales.

`log p(x_S) = log p(x₀) + Σ_s log p(x_s | x_{s-1})` (Predoc III, eq. 6.1-6.2), with one flow for
each scale of a pyramid; its context is the next coarser image (eq. 6.4-6.7).
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from common.errors import check_counts
from common.flows.base import normal_log_prob
from common.flows.cnf import CNF
from common.flows.pixel import PixelMap, dequantize, reduce_bits, to_bytes
from common.flows.pyramid import Level, LevelShape, Pyramid
from common.flows.standardize import Standardize
from common.nn.fields import PathField
from common.ode.divergence import Divergence
from common.ode.regularize import Regularizer
from common.ode.solve import Solver
from common.typing import FieldFactory, Image, ImageShape, PerSample, Pixels

Dequantization = Literal["uniform", "midpoint"]


class Likelihoods(NamedTuple):
    """Terms of the log-density of images, in nats, `[b]` each.

    Attributes:
        pixel: Log-determinant of the maps from bytes to the space of the flows: dequantization and
            logit.
        scales: Log-density of each scale given the next coarser one, coarsest first (eq. 6.6).
    """

    pixel: PerSample
    scales: list[PerSample]

    @property
    def total(self) -> PerSample:
        """Log-density of each image: the sum of all terms."""
        return torch.stack([self.pixel, *self.scales]).sum(0)


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

    def _standardize_context(self, context: Image | None) -> Image | None:
        if self.context is None:
            return None
        standardized: Image = self.context(context)[0]
        return standardized


class MultiScaleFlow(nn.Module):
    """Multi-scale flow: a normalised density of images, or a bound of the density (see `exact`).

    Args:
        shape: Channels, height and width of the images.
        pixel_map: Map from the unit interval to real numbers; in the report, the logit (eq. 6.11).
        pyramid: Pyramid that splits images into scales.
        field: From the numbers of channels of state and context to a vector field; it is called
            once for every CNF.
        solver: Solver of the ODEs, for calls that give no other one.
        n_blocks: Number of CNFs at every scale.
        divergence: Exact or estimated trace. None: Hutchinson's estimate.
        compile: Compile the fields.

    Attributes:
        fitted: Whether `fit_statistics` has been called, a boolean scalar.

    Raises:
        InputError: Images of this shape don't fit the pyramid, or there is no block.
    """

    fitted: Tensor

    def __init__(
        self,
        shape: ImageShape,
        pixel_map: PixelMap,
        pyramid: Pyramid,
        field: FieldFactory,
        solver: Solver,
        n_blocks: int = 1,
        divergence: Divergence | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__()
        check_counts(1, shape=shape, n_blocks=n_blocks)
        self.shape: ImageShape = (shape[0], shape[1], shape[2])
        self.pyramid = pyramid
        self.pixel_map = pixel_map
        scales = nn.ModuleList(
            ScaleFlow(level, field, n_blocks, solver, divergence, compile)
            for level in pyramid.shapes(self.shape)
        )
        # Convolutions are faster in this memory layout, and their outputs keep it.
        for weight in scales.parameters():
            if weight.dim() == 4:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        self.scales: Sequence[ScaleFlow] = scales  # type: ignore[assignment]
        self.register_buffer("fitted", torch.tensor(False))

    @property
    def exact(self) -> bool:
        """True if `log_prob` is the log-density of one dequantized image.

        Only then may its bits per dimension be called BPD.
        """
        return self.pyramid.exact

    @property
    def bits_name(self) -> str:
        """Name of the bits per dimension in logs: `bpd`, or `pyramid_bpd` for a bound."""
        return "bpd" if self.exact else "pyramid_bpd"

    @property
    def dims(self) -> int:
        """Number of sub-pixels of an image."""
        channels, height, width = self.shape
        return channels * height * width

    def fit_statistics(self, pixels: Pixels) -> None:
        """Measures the statistics of pixel map and standardization; once, before training.

        Args:
            pixels: Training images.
        """
        self.pixel_map.fit(pixels)
        levels, _ = self.levels(pixels)
        for scale, level in zip(self.scales, levels, strict=True):
            scale.fit(level)
        self.fitted.fill_(True)

    def levels(
        self, pixels: Pixels, dequantization: Dequantization = "uniform"
    ) -> tuple[list[Level], PerSample]:
        """Levels of images, coarsest first, and the ladj of the maps from bytes to levels.

        Noise is drawn for every image that the pyramid dequantizes: for one image if the pyramid
        is exact, otherwise for the image of every scale.

        Args:
            pixels: Images.
            dequantization: Noise of the grey levels: `uniform`, or ½ everywhere (`midpoint`).
        """
        images, ladj = [], torch.zeros(len(pixels), device=pixels.device)
        bits = self.pixel_map.bits
        for grey in self.pyramid.images(reduce_bits(pixels, bits)):
            noise = torch.rand(grey.shape, device=grey.device, dtype=self.dtype)
            noise = noise if dequantization == "uniform" else noise * 0 + 0.5
            u, step = dequantize(grey, noise, bits)
            x, slope = self.pixel_map(u)
            images.append(x)
            ladj = ladj + step + slope
        return self.pyramid.split(images), ladj

    def likelihoods(
        self,
        pixels: Pixels,
        solver: Solver | None = None,
        dequantization: Dequantization = "uniform",
    ) -> Likelihoods:
        """Terms of the log-density of images; their expectation over the noise is a lower bound.

        Args:
            pixels: Images.
            solver: None: the flow's own solver.
            dequantization: Noise of the grey levels: `uniform`, or ½ everywhere (`midpoint`).
        """
        levels, ladj = self.levels(pixels, dequantization)
        terms = [
            scale.log_prob(level, solver)[0]
            for scale, level in zip(self.scales, levels, strict=True)
        ]
        return Likelihoods(ladj, terms)

    def log_prob(self, pixels: Pixels, solver: Solver | None = None) -> PerSample:
        """Log-density of images in nats, with one draw of the dequantization noise."""
        return self.likelihoods(pixels, solver).total

    @torch.no_grad()
    def sample(self, n: int, temperature: float = 1.0, solver: Solver | None = None) -> Pixels:
        """Images drawn from the model (Predoc III, eq. 6.16).

        Args:
            n: Number of images.
            temperature: Scale of the base noise; below 1 the images are more likely and less
                varied.
            solver: None: the flow's own solver.
        """
        x: Image | None = None
        for s, scale in enumerate(self.scales):
            noise = torch.randn(
                n, *scale.shape.detail, device=self.fitted.device, dtype=self.dtype
            )
            context = None if x is None else self.pyramid.context(x, s)
            detail = scale.sample(temperature * noise, context, solver)
            x = detail if x is None else self.pyramid.merge(x, detail, s)
        assert x is not None
        return to_bytes(self.pixel_map.inverse(x)[0], self.pixel_map.bits)

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the levels."""
        return self.scales[0].detail.mean.dtype
