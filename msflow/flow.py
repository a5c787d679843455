"""MSFlow: density of an image as a product of continuous normalizing flows over scales.

`log p(x_S) = log p(x₀) + Σ_s log p(x_s | x_{s-1})` (Predoc III, eq. 6.1-6.2), with one flow for
each scale of a pyramid; its context is the next coarser image (eq. 6.4-6.7).
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from common.errors import InputError, check_counts
from common.flows.pixel import (
    InkMap,
    Logit,
    PixelMap,
    bits_per_dim,
    dequantize,
    reduce_bits,
    to_bytes,
)
from common.flows.pyramid import Level, Pyramid, UnimodularPyramid
from common.inputs import ArrayLike, as_bytes
from common.nn.fields import ResidualField
from common.ode.divergence import Divergence
from common.ode.solve import Solver
from common.typing import FieldFactory, Image, ImageShape, PerSample, Pixels
from msflow.scale import ScaleFlow

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

    @classmethod
    def small(cls, shape: ImageShape, pixel_map: PixelMap | None = None) -> "MultiScaleFlow":
        """Flow for two CPU cores: that of `configs/digits.yaml` and `configs/photos.yaml`.

        Args:
            shape: Channels, height and width of the images; the sides are halved down to 7 or
                less, as long as they are even.
            pixel_map: None: `InkMap` for one channel (digits), else `Logit` (photographs).
        """
        check_counts(1, shape=shape)
        n_scales, sides = 1, math.gcd(*shape[1:])
        while sides % 2 == 0 and max(shape[1:]) >> (n_scales - 1) > 7:
            n_scales, sides = n_scales + 1, sides // 2
        return cls(
            shape,
            pixel_map or (InkMap() if shape[0] == 1 else Logit(alpha=0.05)),
            UnimodularPyramid(n_scales),
            partial(ResidualField, width=32, blocks=3),
            Solver("rk4", step_size=0.125),
        )

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

    def dims_of(self, scale: int) -> int:
        """Number of sub-pixels of the image at a scale, `D_s` of Predoc III, eq. 6.8."""
        sizes = [math.prod(flow.shape.detail) for flow in self.scales]
        return sum(sizes[: scale + 1]) if self.exact else sizes[scale]

    def fit_statistics(self, pixels: ArrayLike) -> None:
        """Measures the statistics of pixel map and standardization; once, before training.

        Args:
            pixels: Training images, as for `log_prob`.
        """
        pixels = self._bytes(pixels)
        self.pixel_map.fit(pixels)
        levels, _ = self.levels(pixels)
        for scale, level in zip(self.scales, levels, strict=True):
            scale.fit(level)
        self.fitted.fill_(True)

    def levels(
        self, pixels: ArrayLike, dequantization: Dequantization = "uniform"
    ) -> tuple[list[Level], PerSample]:
        """Levels of images, coarsest first, and the ladj of the maps from bytes to levels.

        Noise is drawn for every image that the pyramid dequantizes: for one image if the pyramid
        is exact, otherwise for the image of every scale.

        Args:
            pixels: Images, as for `log_prob`.
            dequantization: Noise of the grey levels: `uniform`, or ½ everywhere (`midpoint`).
        """
        bits = self.pixel_map.bits
        levels = reduce_bits(self._bytes(pixels), bits)
        images, ladj = [], torch.zeros(len(levels), device=levels.device)
        for grey in self.pyramid.images(levels):
            noise = torch.rand(grey.shape, device=grey.device, dtype=self.dtype)
            noise = noise if dequantization == "uniform" else noise * 0 + 0.5
            u, step = dequantize(grey, noise, bits)
            x, slope = self.pixel_map(u)
            images.append(x)
            ladj = ladj + step + slope
        return self.pyramid.split(images), ladj

    def likelihoods(
        self,
        pixels: ArrayLike,
        solver: Solver | None = None,
        dequantization: Dequantization = "uniform",
    ) -> Likelihoods:
        """Terms of the log-density of images; their expectation over the noise is a lower bound.

        Args:
            pixels: Images, as for `log_prob`.
            solver: None: the flow's own solver.
            dequantization: Noise of the grey levels: `uniform`, or ½ everywhere (`midpoint`).
        """
        levels, ladj = self.levels(pixels, dequantization)
        terms = [
            scale.log_prob(level, solver)[0]
            for scale, level in zip(self.scales, levels, strict=True)
        ]
        return Likelihoods(ladj, terms)

    def log_prob(self, pixels: ArrayLike, solver: Solver | None = None) -> PerSample:
        """Log-density of images in nats, `[b]`, with one draw of the dequantization noise.

        Args:
            pixels: Images `[b c h w]`: tensor, numpy array or list, of bytes or of grey levels
                divided by 255; labels beside them, as in `(pixels, labels)`, are not used.
            solver: None: the flow's own solver.

        Raises:
            InputError: Images of another shape, type or range.
        """
        return self.likelihoods(pixels, solver).total

    @torch.no_grad()
    def solver_error(
        self,
        pixels: ArrayLike,
        solver: Solver | None = None,
        scales: Sequence[int] | None = None,
    ) -> PerSample:
        """Error of the solver in bits per dimension of each image, `[b]`.

        It is the change by half the step (or a tenth of the tolerances), with the same noise,
        summed over the scales without regard to sign. The global random state stays as it was.

        Args:
            pixels: Images, as for `log_prob`.
            solver: None: the flow's own solver.
            scales: Indices of the scales. None: all scales.
        """
        solver = solver or self.scales[0].blocks[0].solver
        used = range(len(self.scales)) if scales is None else scales
        results = []
        for one in (solver, solver.finer()):
            device = self.fitted.device
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                levels, _ = self.levels(pixels)
                terms = [self.scales[s].log_prob(levels[s], one)[0] for s in used]
            results.append(torch.stack(terms))
        return -bits_per_dim((results[0] - results[1]).abs().sum(0), self.dims)

    @torch.no_grad()
    def sample(self, n: int, temperature: float = 1.0, solver: Solver | None = None) -> Pixels:
        """Images drawn from the model (Predoc III, eq. 6.16).

        Args:
            n: Number of images, 1 or more.
            temperature: Scale of the base noise; below 1 the images are more likely and less
                varied.
            solver: None: the flow's own solver.

        Raises:
            InputError: Numbers out of range.
        """
        check_counts(1, n=n)
        check_counts(0, temperature=temperature)
        x: Image | None = None
        for s, scale in enumerate(self.scales):
            context = None if x is None else self.pyramid.context(x, s)
            detail = scale.sample(temperature * self._noise(n, s), context, solver)
            x = detail if x is None else self.pyramid.merge(x, detail, s)
        assert x is not None
        return to_bytes(self.pixel_map.inverse(x)[0], self.pixel_map.bits)

    @torch.no_grad()
    def sample_with_log_prob(
        self, n: int, solver: Solver | None = None
    ) -> tuple[Pixels, PerSample]:
        """Images drawn from the model, and the log-density of each draw in nats, `[n]`.

        The model is a density `p` of images of real numbers `v`, the grey levels plus noise in
        `[0, 1)`. The images are the whole part of a draw `v`, and the log-density is `log p(v)`:
        what `log_prob` gives for the image if the noise that it draws is the part of `v` behind
        the point. So the mean over draws with one image is an upper bound of the logarithm of its
        probability, `log ∫ p`, while the mean of `log_prob` is a lower bound. A `Logit` leaves
        some density outside of the levels; a draw there becomes the nearest image.

        Args:
            n: Number of images, 1 or more.
            solver: None: the flow's own solver. The trace is by the flow's own divergence: exact
                or an unbiased estimate.

        Raises:
            InputError: Numbers out of range, or a pyramid that isn't exact.
        """
        check_counts(1, n=n)
        if not self.exact:
            raise InputError(
                f"got a flow with a {type(self.pyramid).__name__}, which gives a bound and no "
                "density of an image; take an exact pyramid, such as UnimodularPyramid"
            )
        x, log_prob = self.scales[0].sample_with_log_prob(self._noise(n, 0), None, solver)
        for s, scale in enumerate(self.scales[1:], 1):
            context = self.pyramid.context(x, s)
            detail, step = scale.sample_with_log_prob(self._noise(n, s), context, solver)
            x, log_prob = self.pyramid.merge(x, detail, s), log_prob + step
        u, ladj = self.pixel_map.inverse(x)
        levels = self.dims * self.pixel_map.bits * math.log(2)  # u is v / 2^bits
        return to_bytes(u, self.pixel_map.bits), log_prob - ladj - levels

    def _noise(self, n: int, scale: int) -> Image:
        shape = self.scales[scale].shape.detail
        return torch.randn(n, *shape, device=self.fitted.device, dtype=self.dtype)

    def _bytes(self, pixels: ArrayLike) -> Pixels:
        return as_bytes(pixels, 4, self.shape, like=self.scales[0].detail.mean)

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the levels."""
        return self.scales[0].detail.mean.dtype
