"""Invertible residual network (Behrmann et al. 2019), with the layers of Residual Flows.

The report (section 5.3.2) proposes it in place of the i-RevNet.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    conv2d,
    conv_transpose2d,
    pixel_shuffle,
    pixel_unshuffle,
    silu,
    softplus,
)

from common.errors import InputError, RunError, check_counts, check_positive
from common.typing import ImageShape
from video_ode.objects.decoders.base import InvertibleDecoder


class ResidualFlowDecoder(InvertibleDecoder):
    """Invertible residual network from frames to `[features | rest]`.

    Each block is `y = s (x + g(x)) + m` with a scale s and a shift m of each channel. The
    Lipschitz constant of g is at most `coefficient < 1`, so that the inverse is the fixed point
    of `x = (y - m) / s - g(x)`. Each scale begins by moving 2 x 2 pixels into the channels, so
    that the network has as many numbers at the output as a frame has.

    In training mode, each call of `encode` or `decode` first refines the estimated norms of the
    convolutions by `iterations` steps; the inverse is exact where weights and norms stay, in
    evaluation mode.

    Args:
        shape: Channels, height and width of a frame.
        channels: Number of channels of the features.
        blocks: Number of blocks of each scale.
        width: Number of hidden channels of g.
        coefficient: Bound on the Lipschitz constant of g, between 0 and 1.
        iterations: Steps of the power iteration in each training step.
        tolerance: The inverse stops when no number changes by more than this share of the largest.
        max_steps: Largest number of steps to the fixed point, in each block.

    Raises:
        InputError: Frames whose sides can't be halved as often; fewer channels than the features
            have; numbers outside their range.
    """

    def __init__(
        self,
        shape: ImageShape,
        channels: int,
        blocks: Sequence[int],
        width: int = 64,
        coefficient: float = 0.9,
        iterations: int = 2,
        tolerance: float = 1e-6,
        max_steps: int = 1000,
    ) -> None:
        check_counts(1, channels=channels, blocks=blocks, width=width, max_steps=max_steps)
        check_counts(0, iterations=iterations)
        check_positive(coefficient=coefficient, tolerance=tolerance)
        if coefficient >= 1:
            raise InputError(f"got coefficient {coefficient}; give less than 1, such as 0.9")
        n, height, width_px = shape
        scale = 2 ** len(blocks)
        if height % scale or width_px % scale:
            raise InputError(
                f"got frames of {height}x{width_px}; give sides that can be halved "
                f"{len(blocks)} times, or fewer scales"
            )
        total = n * scale**2
        if total < channels:
            raise InputError(
                f"got features of {channels} channels, but frames have {total} numbers at each of "
                "their positions; take features of fewer channels or of a coarser scale"
            )
        super().__init__(shape, (total, height // scale, width_px // scale), channels)
        self.iterations = iterations
        self.scales = nn.ModuleList()
        for k, count in enumerate(blocks, 1):
            here = (n * 4**k, height // 2**k, width_px // 2**k)
            options = (width, coefficient, tolerance, max_steps)
            self.scales.append(nn.ModuleList(_Block(here, *options) for _ in range(count)))

    def refine_norms(self, iterations: int) -> None:
        """Improves the estimated norm of each convolution by steps of the power iteration."""
        for module in self.modules():
            if isinstance(module, LipschitzConv2d):
                module.refine_norm(iterations)

    def _encode(self, frames: Tensor) -> Tensor:
        self._refine()
        for blocks in self.scales:
            assert isinstance(blocks, nn.ModuleList)
            frames = pixel_unshuffle(frames, 2)
            for block in blocks:
                frames = block(frames)
        return frames

    def _decode(self, out: Tensor) -> Tensor:
        self._refine()
        for blocks in reversed(list(self.scales)):
            assert isinstance(blocks, nn.ModuleList)
            for block in reversed(list(blocks)):
                assert isinstance(block, _Block)
                out = block.inverse(out)
            out = pixel_shuffle(out, 2)
        return out

    def _refine(self) -> None:
        if self.training:
            self.refine_norms(self.iterations)


class LipschitzConv2d(nn.Module):
    """Convolution of stride 1 whose operator norm is at most `bound`, also with zero padding.

    The norm is that of the linear map on feature maps of this size, `‖K‖ = max ‖K v‖ / ‖v‖`, by a
    power iteration with K and its transpose (Gouk et al. 2018). PyTorch's `spectral_norm` bounds
    another number, the norm of the weights as a matrix; the convolution's own norm can exceed it
    up to k times, for a kernel of k x k. The iteration comes near from below; what it lacks must
    find room in a `bound` below 1.

    Args:
        shape: Channels, height and width of the input.
        n_out: Number of output channels.
        kernel: Side of the kernel, an odd number.
        bound: Largest norm. Smaller weights are not changed.
    """

    v: Tensor

    def __init__(self, shape: ImageShape, n_out: int, kernel: int, bound: float) -> None:
        super().__init__()
        conv = nn.Conv2d(shape[0], n_out, kernel)
        self.weight, self.bias = conv.weight, conv.bias
        self.bound, self.padding = bound, kernel // 2
        self.register_buffer("v", _unit(torch.randn(1, *shape)))
        self.refine_norm(20)

    @torch.no_grad()
    def refine_norm(self, iterations: int) -> None:
        """Improves the vector `v` whose length the convolution changes most."""
        for _ in range(iterations):
            u = conv2d(self.v, self.weight, padding=self.padding)
            self.v = _unit(conv_transpose2d(u, self.weight, padding=self.padding))

    def forward(self, x: Tensor) -> Tensor:
        norm = conv2d(self.v, self.weight, padding=self.padding).norm()
        weight = self.weight * (self.bound / norm.clamp(min=self.bound))
        return conv2d(x, weight, self.bias, padding=self.padding)


class LipSwish(nn.Module):
    """`x σ(βx) / 1.1` with a learned β > 0, of Lipschitz constant below 1 (Chen et al. 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        beta = softplus(self.beta)
        return silu(beta * x) / (1.1 * beta)


class _Block(nn.Module):
    """Residual block of three convolutions, with a scale and a shift of each channel."""

    def __init__(
        self,
        shape: ImageShape,
        width: int,
        coefficient: float,
        tolerance: float,
        max_steps: int,
    ) -> None:
        super().__init__()
        hidden, bound = (width, *shape[1:]), coefficient ** (1 / 3)
        self.net = nn.Sequential(
            LipSwish(),
            LipschitzConv2d(shape, width, 3, bound),
            LipSwish(),
            LipschitzConv2d(hidden, width, 1, bound),
            LipSwish(),
            LipschitzConv2d(hidden, shape[0], 3, bound),
        )
        self.log_scale = nn.Parameter(torch.zeros(shape[0], 1, 1))
        self.shift = nn.Parameter(torch.zeros(shape[0], 1, 1))
        self.limits = (tolerance, max_steps)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.net(x)) * self.log_scale.exp() + self.shift

    def inverse(self, y: Tensor) -> Tensor:
        return invert_residual(self.net, (y - self.shift) / self.log_scale.exp(), *self.limits)


def invert_residual(
    g: Callable[[Tensor], Tensor], y: Tensor, tolerance: float = 1e-6, max_steps: int = 1000
) -> Tensor:
    """Solution x of `x + g(x) = y`, by steps `x <- y - g(x)`; g must be a contraction.

    Gradients are those of the implicit function, not of the steps: with the gradient `w` at x and
    the Jacobian J of g there, y gets the solution `u` of `u = w - Jᵀ u`, and the parameters of g
    get `-uᵀ ∂g/∂θ`. The memory doesn't grow with the number of steps. There are no second
    derivatives.

    Args:
        g: Contraction, from tensors `[n …]` to tensors of the same shape.
        y: Right side.
        tolerance: Stop when no number changes by more than this share of the largest.
        max_steps: Largest number of steps.

    Raises:
        RunError: No fixed point in so many steps.
    """
    with torch.no_grad():
        x = _fixed_point(lambda x: y - g(x), y, tolerance, max_steps)
    if not torch.is_grad_enabled():
        return x
    x = x.requires_grad_()
    change = g(x)

    def solve(w: Tensor) -> Tensor:
        def step(u: Tensor) -> Tensor:
            return w - torch.autograd.grad(change, x, u, retain_graph=True)[0]

        return _fixed_point(step, w, tolerance, max_steps)

    out = y - g(x.detach())
    if out.requires_grad:
        out.register_hook(solve)
    return out


def _fixed_point(
    step: Callable[[Tensor], Tensor], start: Tensor, tolerance: float, max_steps: int
) -> Tensor:
    x = start
    for _ in range(max_steps):
        before, x = x, step(x)
        if (x - before).abs().max() <= tolerance * torch.maximum(start.abs(), x.abs()).max():
            return x
    raise RunError(
        f"the inverse of a residual block has not converged in {max_steps} steps; call "
        "refine_norms(100) after large changes of the weights, or give a lower coefficient, more "
        "max_steps or a larger tolerance"
    )


def _unit(v: Tensor) -> Tensor:
    return v / v.norm().clamp(min=torch.finfo(v.dtype).tiny)
