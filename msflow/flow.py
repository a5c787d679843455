"""MSFlow: the density of an image as a product over the scales of a pyramid.

`log p(x_S) = log p(x₀) + Σ_s log p(x_s | x_{s-1})` (Predoc III, eq. 6.1-6.2), each factor a
continuous normalizing flow told the next coarser image (eq. 6.4-6.7).
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from common.flows.base import normal_log_prob
from common.flows.cnf import CNF
from common.flows.pixel import PixelMap, dequantize, to_bytes
from common.flows.pyramid import Level, LevelShape, Pyramid
from common.flows.standardize import Standardize
from common.ode.divergence import Divergence
from common.ode.regularize import Regularizer
from common.ode.solve import Solver
from common.typing import FieldFactory, Image, ImageShape, PerSample, Pixels

Dequantization = Literal["uniform", "midpoint"]


class Likelihoods(NamedTuple):
    """Log-densities in nats, term by term; their sum is the image's.

    Attributes:
        pixel: Of the maps from bytes to the space of the flows: dequantization and logit.
        scales: Of each scale given the coarser one, coarsest first (eq. 6.6).
    """

    pixel: PerSample
    scales: list[PerSample]

    @property
    def total(self) -> PerSample:
        return torch.stack([self.pixel, *self.scales]).sum(0)


class ScaleFlow(nn.Module):
    """One factor `p(detail | context)`: standardise, then CNF blocks to a standard normal.

    Predoc III, eq. 6.4-6.7.

    Args:
        shape: Of the level.
        field: From channels of state and context to the vector field of one block.
        n_blocks: CNFs one after the other.
        solver: Of every block.
        divergence: Of every block.
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

    def fit(self, level: Level) -> None:
        """Takes the statistics for standardising from a batch."""
        self.detail.fit(level.detail)
        if self.context is not None and level.context is not None:
            self.context.fit(level.context)

    def standardize(self, level: Level) -> tuple[Image, Image | None, PerSample]:
        """Detail and context as the fields see them, and the detail's ladj."""
        x, ladj = self.detail(level.detail)
        return x, self._standardize_context(level.context), ladj

    def log_prob(
        self,
        level: Level,
        solver: Solver | None = None,
        regularizers: Sequence[Regularizer] = (),
        end_time: float = 1.0,
    ) -> tuple[PerSample, list[PerSample]]:
        """Log-density of the detail given its context, and the regularisers' integrals."""
        z, context, log_prob = self.standardize(level)
        penalties = [z.new_zeros(len(z)) for _ in regularizers]
        for block in self.blocks:
            z, ladj, integrals = block.transport(z, context, 0.0, end_time, solver, regularizers)
            log_prob = log_prob + ladj
            penalties = [a + b for a, b in zip(penalties, integrals, strict=True)]
        return log_prob + normal_log_prob(z), penalties

    def sample(self, noise: Image, context: Image | None, solver: Solver | None = None) -> Image:
        """The detail that the flow makes of noise, given the context."""
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
    """A normalised density over images of bytes (or a bound on one; see `exact`).

    Args:
        shape: Channels, height and width of the images.
        pixel_map: From the unit interval to real numbers; the report's is the logit (eq. 6.11).
        pyramid: How images split into scales.
        field: From channels of state and context to a vector field; called for every CNF.
        solver: Of the ODEs, where a call names no other.
        n_blocks: CNFs at every scale.
        divergence: Exact or estimated trace; Hutchinson's by default.
        compile: Compile the fields.
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
        self.shape: ImageShape = (shape[0], shape[1], shape[2])
        self.pyramid = pyramid
        self.pixel_map = pixel_map
        scales = nn.ModuleList(
            ScaleFlow(level, field, n_blocks, solver, divergence, compile)
            for level in pyramid.shapes(self.shape)
        )
        # Convolutions run faster so, and hand the layout on.
        for weight in scales.parameters():
            if weight.dim() == 4:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        self.scales: Sequence[ScaleFlow] = scales  # type: ignore[assignment]
        self.register_buffer("fitted", torch.tensor(False))

    @property
    def exact(self) -> bool:
        """Whether `log_prob` is of one dequantized image, so that its bits may be called BPD."""
        return self.pyramid.exact

    @property
    def bits_name(self) -> str:
        """What its bits per dimension may be called."""
        return "bpd" if self.exact else "pyramid_bpd"

    @property
    def dims(self) -> int:
        """Sub-pixels of an image."""
        channels, height, width = self.shape
        return channels * height * width

    def fit_statistics(self, pixels: Pixels) -> None:
        """Measures on training images what maps without gradients need; once, before training."""
        self.pixel_map.fit(pixels)
        levels, _ = self.levels(pixels)
        for scale, level in zip(self.scales, levels, strict=True):
            scale.fit(level)
        self.fitted.fill_(True)

    def levels(
        self, pixels: Pixels, dequantization: Dequantization = "uniform"
    ) -> tuple[list[Level], PerSample]:
        """Bytes as the levels that the flows see, coarsest first, with the maps' ladj.

        Noise is drawn once for every image that the pyramid dequantizes: one if it is exact.
        """
        images, ladj = [], torch.zeros(len(pixels), device=pixels.device)
        for grey in self.pyramid.images(pixels):
            noise = torch.rand(grey.shape, device=grey.device, dtype=self.dtype)
            u, step = dequantize(grey, noise if dequantization == "uniform" else noise * 0 + 0.5)
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
        """Log-density of bytes, term by term; in expectation over the noise a lower bound."""
        levels, ladj = self.levels(pixels, dequantization)
        terms = [
            scale.log_prob(level, solver)[0]
            for scale, level in zip(self.scales, levels, strict=True)
        ]
        return Likelihoods(ladj, terms)

    def log_prob(self, pixels: Pixels, solver: Solver | None = None) -> PerSample:
        """Log-density of bytes in nats, with one draw of the dequantization noise."""
        return self.likelihoods(pixels, solver).total

    @torch.no_grad()
    def sample(self, n: int, temperature: float = 1.0, solver: Solver | None = None) -> Pixels:
        """Images drawn from the model (eq. 6.16).

        Args:
            n: How many.
            temperature: Scale of the base noise; below 1, likelier and less varied images.
            solver: Of the ODEs.
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
        return to_bytes(self.pixel_map.inverse(x)[0])

    @property
    def dtype(self) -> torch.dtype:
        return self.scales[0].detail.mean.dtype
