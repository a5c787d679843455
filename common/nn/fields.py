"""Vector fields `f(t, z, context) -> dz` for images, and fields made of any module.

The time is a scalar in a solve. In training by flow matching each sample has its own time, `[b]`.
"""

import inspect
import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.errors import InputError, check_counts
from common.nn import dual
from common.ode.divergence import TangentField
from common.typing import Image, Sample

BOUND = 8.0  # soft bound of the inputs of `ResidualField`, in standard deviations


class ConcatField(TangentField):
    """Field of RNODE: 3 × 3 convolutions with softplus, and the time as an input of each.

    RNODE's code concatenates the time as a constant channel. Here the time has separate weights,
    which is the same function and saves a copy of the activations in each layer. The context is an
    input of the first layer only (Voleti et al. 2021). The last layer starts at zero, so the flow
    starts as the identity.

    Args:
        channels: Number of channels of the state.
        context_channels: Number of channels of the context; 0: no context.
        width: Number of hidden channels.
        depth: Number of convolutions, the last one included.

    Raises:
        InputError: Numbers below their minimum.
    """

    def __init__(
        self, channels: int, context_channels: int = 0, width: int = 64, depth: int = 4
    ) -> None:
        super().__init__()
        check_counts(1, channels=channels, width=width)
        check_counts(2, depth=depth)
        check_counts(0, context_channels=context_channels)
        widths = [channels, *[width] * (depth - 1), channels]
        pairs = list(pairwise(widths))
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1, bias=False) for i, o in pairs)
        self.times = nn.ModuleList(nn.Conv2d(1, o, 3, padding=1) for _, o in pairs)
        self.context = (
            nn.Conv2d(context_channels, width, 3, padding=1, bias=False)
            if context_channels
            else None
        )
        nn.init.zeros_(self.convs[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.times[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.times[-1].bias)  # type: ignore[arg-type]

    def forward(self, t: Tensor, z: Image, context: Image | None = None) -> Image:
        h = z
        offsets = self._offsets(t, z, context)
        for conv, offset in zip(self.convs[:-1], offsets, strict=False):
            h = functional.softplus(conv(h) + offset)
        return self.convs[-1](h) + offsets[-1]

    def linearize(
        self, t: Tensor, z: Image, v: Image, context: Image | None = None
    ) -> tuple[Image, Image]:
        offsets = self._offsets(t, z, context)
        first, *inner, last = self.convs
        h = dual.softplus(first(z), first(v), offsets[0])
        for conv, offset in zip(inner, offsets[1:], strict=False):
            h = dual.softplus(*dual.halves(conv(h)), offset)
        dz, dv = dual.halves(last(h))
        return dz + offsets[-1], dv

    def _offsets(self, t: Tensor, z: Image, context: Image | None) -> list[Tensor]:
        """Offset of each layer: the part that doesn't depend on the state, `[b or 1, c, h, w]`.

        The channel of the time is an image, not a number, because the convolution pads it with
        zeros at the border.
        """
        plane = t.reshape(-1, 1, 1, 1) * z.new_ones(1, 1, *z.shape[2:])
        offsets = [layer(plane) for layer in self.times]
        if self.context is not None:
            offsets[0] = offsets[0] + self.context(context)
        return offsets


class PathField(TangentField):
    """Field that knows the path between data and noise, of which it may cover a part only.

    Attributes:
        part: Index of the part; its time 0 to 1 is the time `part / parts` to `(part + 1) / parts`
            of the path.
        parts: Number of equal parts.
    """

    part: Tensor
    parts: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Not numbers, for each of which a compiler would compile the field again.
        self.register_buffer("part", torch.tensor(0.0), persistent=False)
        self.register_buffer("parts", torch.tensor(1.0), persistent=False)

    def cover(self, part: int, parts: int) -> None:
        """Makes this field one of several that share the path."""
        self.part.fill_(part)
        self.parts.fill_(parts)

    def path_time(self, t: Tensor) -> Tensor:
        """Time of the whole path."""
        return (self.part + t) / self.parts


class ResidualField(PathField):
    """Field of residual 3 × 3 convolutions, with the time and the position as inputs.

    The time, the context and the position in the image (as cosine waves) are inputs of every
    block. The field is preconditioned for the straight path between data and noise of unit
    variance (the idea of Karras et al. 2022). At the start of training it is the exact
    flow-matching field of Gaussian data, `(2t - 1) / s² z` with `s² = (1 - t)² + t²`. The input of
    the network is `z / s` with a soft bound, so that the field stays small far away from all data,
    where it was never trained. A field that covers one of K parts of the path is K times slower.

    Args:
        channels: Number of channels of the state.
        context_channels: Number of channels of the context; 0: no context.
        width: Number of hidden channels.
        blocks: Number of residual blocks, each of two convolutions.
        waves: Number of cosines along each axis; the position is given by their products.

    Raises:
        InputError: Numbers below their minimum.
    """

    def __init__(
        self,
        channels: int,
        context_channels: int = 0,
        width: int = 32,
        blocks: int = 3,
        waves: int = 6,
    ) -> None:
        super().__init__()
        check_counts(1, channels=channels, width=width, blocks=blocks, waves=waves)
        check_counts(0, context_channels=context_channels)
        self.blocks, self.width, self.waves = blocks, width, waves

        def conv(inputs: int, outputs: int, bias: bool = True) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)

        self.stem = conv(channels, width, bias=False)
        self.context = conv(context_channels, width) if context_channels else None
        self.place = nn.Conv2d(waves**2, width, 1)
        self.time = nn.Sequential(nn.Linear(16, 64), nn.SiLU(), nn.Linear(64, blocks * width))
        self.first = nn.ModuleList(conv(width, width, bias=False) for _ in range(blocks))
        self.second = nn.ModuleList(conv(width, width, bias=False) for _ in range(blocks))
        self.head = conv(width, channels, bias=False)
        nn.init.zeros_(self.place.weight)
        nn.init.zeros_(self.head.weight)
        with torch.no_grad():
            for layer in self.second:
                layer.weight.mul_(0.3)  # type: ignore[operator]

    def forward(self, t: Tensor, z: Image, context: Image | None = None) -> Image:
        t = self.path_time(t)
        skip, scale = self._preconditioning(t)
        offset, times = self._offset(z, context), self._times(t)
        h = self.stem(BOUND * torch.tanh(scale * z / BOUND))
        for i, (first, second) in enumerate(zip(self.first, self.second, strict=True)):
            inner = first(functional.silu(h + offset)) + times[:, i]
            h = h + second(functional.silu(inner))
        return (skip * z + scale * self.head(functional.silu(h + offset))) / self.parts

    def linearize(
        self, t: Tensor, z: Image, v: Image, context: Image | None = None
    ) -> tuple[Image, Image]:
        t = self.path_time(t)
        skip, scale = self._preconditioning(t)
        offset, times = self._offset(z, context), self._times(t)
        bounded = torch.tanh(scale * z / BOUND)
        h = torch.cat([BOUND * bounded, (1 - bounded.square()) * scale * v])
        h = self.stem(h)
        for i, (first, second) in enumerate(zip(self.first, self.second, strict=True)):
            inner = first(dual.silu(*dual.halves(h), offset))
            h = h + second(dual.silu(*dual.halves(inner), times[:, i]))
        dz, dv = dual.halves(self.head(dual.silu(*dual.halves(h), offset)))
        return (skip * z + scale * dz) / self.parts, (skip * v + scale * dv) / self.parts

    @staticmethod
    def _preconditioning(t: Tensor) -> tuple[Tensor, Tensor]:
        t = t.reshape(-1, 1, 1, 1)
        variance = (1 - t) ** 2 + t**2
        return (2 * t - 1) / variance, variance.rsqrt()

    def _times(self, t: Tensor) -> Tensor:
        """Offset of every block that depends on the time, `[b or 1, blocks, width, 1, 1]`."""
        t = t.reshape(-1, 1)
        # The logarithm separates the times near the data, where the field changes fastest.
        phases = torch.stack([t / 2, (t + 0.02).log() / 4], dim=2)
        angles = math.pi * phases * torch.arange(1, 5, device=t.device, dtype=t.dtype)[:, None]
        features = torch.cat([angles.sin(), angles.cos()], dim=2).flatten(1)
        return self.time(features).view(len(t), self.blocks, self.width, 1, 1)

    def _offset(self, z: Image, context: Image | None) -> Tensor:
        """Offset of every block that depends on position and context, `[b or 1, width, h, w]`."""
        rows, columns = (self._cosines(size, z) for size in z.shape[2:])
        waves = torch.einsum("ih,jw->ijhw", rows, columns).flatten(0, 1)[None]
        offset = self.place(waves)
        return offset if self.context is None else offset + self.context(context)

    def _cosines(self, size: int, like: Tensor) -> Tensor:
        places = (torch.arange(size, device=like.device, dtype=like.dtype) + 0.5) / size
        frequencies = torch.arange(self.waves, device=like.device, dtype=like.dtype)
        return torch.cos(math.pi * frequencies[:, None] * places)


class ModuleField(nn.Module):
    """Field of any module, without context: `f(z)` (autonomous), or `f(t, z)` as in torchdiffeq.

    Args:
        module: Module such as an `nn.Sequential`, which maps `z` to `dz` of the same shape. If its
            `forward` takes two arguments, they are the time, a scalar, and `z`.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.timed = module, _n_arguments(module) > 1

    def forward(self, t: Tensor, z: Sample, context: Tensor | None = None) -> Sample:
        if context is not None:
            name = type(self.module).__name__
            raise InputError(
                f"got a context for a field made of {name}, which takes none; give a module "
                "whose forward is f(t, z, context)"
            )
        return self.module(t, z) if self.timed else self.module(z)


def as_field(module: nn.Module) -> nn.Module:
    """The module itself if it is a field `f(t, z, context)`, otherwise a `ModuleField` of it."""
    return module if _n_arguments(module) > 2 else ModuleField(module)


def _n_arguments(module: nn.Module) -> int:
    """Largest number of arguments, up to 3, that the module's forward takes by position."""
    kinds = [p.kind for p in inspect.signature(module.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return 3
    return min(3, sum(kind <= inspect.Parameter.POSITIONAL_OR_KEYWORD for kind in kinds))
