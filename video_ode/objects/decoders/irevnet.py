"""i-RevNet (Jacobsen et al. 2018): an invertible network of additive couplings.

The report (section 5.2) maps frames to the features of a detector with it, and back.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, pixel_shuffle, pixel_unshuffle

from common.errors import InputError, check_counts
from common.typing import ImageShape
from video_ode.objects.decoders.base import InvertibleDecoder

Norm = Literal["batch", "layer"]


class IRevNet(InvertibleDecoder):
    """i-RevNet from frames to `[features | rest]`, with an exact inverse.

    Each block maps two halves of the channels to `(x2, x1 + F(x2))`, so that the inverse is a
    subtraction. A block of stride 2 moves 2 x 2 pixels into the channels of both halves.

    A stage of stride 2 has four times the channels of the stage before, whatever the network: its
    width must be twice the number of channels that come in. A stage of stride 1 must hold all
    channels that come in; if it has more, channels of zeros are appended, and the network is
    injective instead of bijective.

    With batch norm, a network in training mode normalizes by statistics of the batch, which the
    inverse doesn't know: `decode` needs evaluation mode. Layer norm (one group per frame and
    layer) has an inverse in both modes; a training on decoded frames needs it, or a network that
    is kept in evaluation mode.

    Args:
        shape: Channels, height and width of a frame.
        channels: Number of channels of the features.
        blocks: Number of blocks of each stage.
        strides: Stride of each stage, 1 or 2.
        widths: Half the number of channels of each stage. None: the least that fit.
        initial: Side of the square of pixels that is moved into the channels first; 1: none.
        norm: Normalization inside `F`: by the `batch`, as published, or by `layer`.

    Raises:
        InputError: Widths that have no inverse, with those that would fit; frames whose sides
            can't be halved as often; fewer channels than the features have.
    """

    def __init__(
        self,
        shape: ImageShape,
        channels: int,
        blocks: Sequence[int],
        strides: Sequence[int],
        widths: Sequence[int] | None = None,
        initial: int = 2,
        norm: Norm = "batch",
    ) -> None:
        check_counts(1, shape=shape, channels=channels, initial=initial)
        check_counts(1, blocks=blocks, widths=widths)
        n = shape[0] * initial**2
        widths = _checked_widths(n, channels, blocks, strides, widths)
        scale = initial * 2 ** list(strides).count(2)
        if shape[1] % scale or shape[2] % scale:
            raise InputError(
                f"got frames of {shape[1]}x{shape[2]}; give sides that are multiples of {scale}, "
                "which the initial side and the strides multiply to"
            )
        super().__init__(shape, (2 * widths[-1], shape[1] // scale, shape[2] // scale), channels)
        self.initial = initial
        self.stages = nn.ModuleList()
        for k, width in enumerate(widths):
            self.stages.append(_Stage(n, width, strides[k], blocks[k], norm, first=k == 0))
            n = 2 * width

    def _encode(self, frames: Tensor) -> Tensor:
        out = pixel_unshuffle(frames, self.initial)
        for stage in self.stages:
            out = stage(out)
        return out

    def _decode(self, out: Tensor) -> Tensor:
        if any(isinstance(m, nn.BatchNorm2d) and m.training for m in self.modules()):
            raise InputError(
                "the inverse of an i-RevNet with batch norm needs evaluation mode, because in "
                "training mode the statistics of each batch change the network; call .eval() "
                "first, or set norm: layer"
            )
        for stage in reversed(list(self.stages)):
            assert isinstance(stage, _Stage)
            out = stage.inverse(out)
        return pixel_shuffle(out, self.initial)


class _Stage(nn.Module):
    """Blocks of equal width; the first one has the stride, or comes after appended zeros."""

    def __init__(
        self, n: int, width: int, stride: int, blocks: int, norm: Norm, first: bool
    ) -> None:
        super().__init__()
        self.n, self.zeros = n, 2 * width - n if stride == 1 else 0
        half = (n + self.zeros) // 2
        self.blocks = nn.ModuleList(
            [_Block(half, width, stride, norm, first, min(self.zeros, half))]
        )
        self.blocks.extend(_Block(width, width, 1, norm) for _ in range(blocks - 1))

    def forward(self, x: Tensor) -> Tensor:
        x1, x2 = pad(x, (0, 0, 0, 0, 0, self.zeros)).chunk(2, 1)
        for block in self.blocks:
            x1, x2 = block(x1, x2)
        return torch.cat([x1, x2], 1)

    def inverse(self, x: Tensor) -> Tensor:
        x1, x2 = x.chunk(2, 1)
        for block in reversed(list(self.blocks)):
            assert isinstance(block, _Block)
            x1, x2 = block.inverse(x1, x2)
        return torch.cat([x1, x2], 1)[:, : self.n]


class _Block(nn.Module):
    """Additive coupling `(x1, x2) -> (x2, x1 + F(x2))`, with a bottleneck of 3x3 convolutions.

    The last `zeros` channels of x2 are known to be zero. The inverse sets them to zero: where a
    norm divides by the deviation of a constant, `F` would enlarge their rounding errors many
    times.
    """

    def __init__(
        self,
        half: int,
        width: int,
        stride: int,
        norm: Norm,
        first: bool = False,
        zeros: int = 0,
    ) -> None:
        super().__init__()
        self.stride, self.zeros, inner = stride, zeros, max(1, width // 4)
        layers = [] if first else [_norm(norm, half), nn.ReLU()]
        layers += [_conv(half, inner, stride), _norm(norm, inner), nn.ReLU()]
        layers += [_conv(inner, inner), _norm(norm, inner), nn.ReLU(), _conv(inner, width)]
        self.net = nn.Sequential(*layers)

    def forward(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
        change = self.net(x2)
        return pixel_unshuffle(x2, self.stride), pixel_unshuffle(x1, self.stride) + change

    def inverse(self, y1: Tensor, y2: Tensor) -> tuple[Tensor, Tensor]:
        x2 = pixel_shuffle(y1, self.stride)
        if self.zeros:
            x2 = pad(x2[:, : -self.zeros], (0, 0, 0, 0, 0, self.zeros))
        return pixel_shuffle(y2 - self.net(x2), self.stride), x2


def _conv(n_in: int, n_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)


def _norm(norm: Norm, channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.GroupNorm(1, channels)


def _checked_widths(
    n: int,
    channels: int,
    blocks: Sequence[int],
    strides: Sequence[int],
    widths: Sequence[int] | None,
) -> list[int]:
    """Widths of a network that has an inverse and at least the channels of the features.

    Raises:
        InputError: There are none, or other ones were given.
    """
    if not len(blocks) == len(strides) == len(widths or strides) > 0:
        raise InputError(
            f"got blocks {blocks}, strides {strides}, widths {widths}; give one for each stage"
        )
    if set(strides) - {1, 2} or (n % 2 and strides[0] == 2):
        raise InputError(
            f"got strides {strides}; give 1 or 2, first 1 if the frame has an odd number of "
            f"channels after the initial step (it has {n})"
        )
    least = _fitting(n, channels, strides, [1] * len(strides))
    fitting = least if widths is None else _fitting(n, channels, strides, widths)
    if widths is not None and fitting != list(widths):
        raise InputError(
            f"got widths {list(widths)} with strides {list(strides)}, {n} channels at the input "
            f"and {channels} of the features; such a network has no inverse or too few channels. "
            "A stage of stride 2 needs a width of twice its incoming channels, a stage of stride "
            "1 at least half of them, and the last one half the channels of the features: give "
            f"widths {fitting}, or the least ones, {least}"
        )
    if 2 * fitting[-1] < channels:
        raise InputError(
            f"got features of {channels} channels, but {2 * fitting[-1]} channels at their "
            f"resolution; add a stage of stride 1 and width {-(-channels // 2)}"
        )
    return fitting


def _fitting(n: int, channels: int, strides: Sequence[int], widths: Sequence[int]) -> list[int]:
    """Widths nearest to the given ones, from below, that fit."""
    fitting = []
    for k, (stride, width) in enumerate(zip(strides, widths, strict=True)):
        needed = max(n, channels) if k == len(strides) - 1 else n
        fitting.append(2 * n if stride == 2 else max(width, -(-needed // 2)))
        n = 2 * fitting[-1]
    return fitting
