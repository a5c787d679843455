"""Vector fields `f(t, z, context) -> dz` for images.

The time is a scalar in a solve, or one number a sample where a training objective draws it so.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.nn import dual
from common.ode.divergence import TangentField
from common.typing import Image


class ConcatField(TangentField):
    """RNODE's field: 3 × 3 convolutions with softplus, told the time before every one.

    The reference concatenates the time as a constant channel; here it has weights of its own,
    which is the same function and spares a copy of the activations each layer. The context joins
    the first layer only (Voleti et al. 2021). The last layer starts at zero: the identity flow.

    Args:
        channels: Of the state.
        context_channels: Of the context, 0 for none.
        width: Hidden channels.
        depth: Convolutions, the last included.
    """

    def __init__(
        self, channels: int, context_channels: int = 0, width: int = 64, depth: int = 4
    ) -> None:
        super().__init__()
        widths = [channels, *[width] * (depth - 1), channels]
        pairs = list(zip(widths, widths[1:], strict=False))
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
        h = dual.stack(z, v)
        offsets = self._offsets(t, z, context)
        for conv, offset in zip(self.convs[:-1], offsets, strict=False):
            h = dual.softplus(conv(h), offset)
        dz, dv = self.convs[-1](h).chunk(2)
        return dz + offsets[-1], dv

    def _offsets(self, t: Tensor, z: Image, context: Image | None) -> list[Tensor]:
        """What each layer adds that doesn't depend on the state: one image for the batch, or each.

        The time's channel is an image, not a number: at the border it meets the zero padding.
        """
        plane = t.reshape(-1, 1, 1, 1) * z.new_ones(1, 1, *z.shape[2:])
        offsets = [layer(plane) for layer in self.times]
        if self.context is not None:
            offsets[0] = offsets[0] + self.context(context)
        return offsets
