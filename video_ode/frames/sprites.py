"""Decoder of frames that paints sprites and shifts them."""

import torch
from torch import Tensor, nn

from common.typing import Image, ImageShape
from video_ode.frames.base import FrameDecoder, Skips, refuse_skips


class SpriteDecoder(FrameDecoder):
    """Pictures that the code paints and puts at places that it names, on a dark ground.

    A spatial transformer that only shifts (Jaderberg et al. 2015): the place is linear in the
    code, so that what moves straight in the code moves straight in the frame. For scenes of few
    things on black, as Moving MNIST, where it learns many times faster than convolutions.

    Args:
        shape: Channels, height and width of a frame.
        code_size: Length of a code.
        skips: Must be false.
        sprites: How many.
        size: Height and width of a sprite.
        hidden: Units of the layer that paints.
    """

    GROUND = 0.003

    def __init__(
        self,
        shape: ImageShape,
        code_size: int,
        skips: bool = False,
        sprites: int = 1,
        size: int = 16,
        hidden: int = 256,
    ) -> None:
        super().__init__()
        refuse_skips(self, skips)
        self.paint = nn.Sequential(
            nn.Linear(code_size, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, sprites * shape[0] * size**2),
        )
        self.place = nn.Linear(code_size, sprites * 2)
        nn.init.normal_(self.place.weight, 0.0, 0.1)
        self.size, self.canvas = (sprites, shape[0], size, size), shape[1:]
        self.reach = shape[1] / 8

    def forward(self, codes: Tensor, skips: Skips = ()) -> Image:
        painted = self.paint(codes)
        # In half precision a place would be wrong by a tenth of a pixel.
        with torch.autocast(codes.device.type, enabled=False):
            codes, painted = (
                x.to(torch.promote_types(x.dtype, torch.float32)) for x in (codes, painted)
            )
            ink = nn.functional.softplus(painted.unflatten(1, self.size))
            y, x = (self.reach * self.place(codes)).unflatten(1, (-1, 2)).unbind(-1)
            rows, columns = (
                self._spread(n, at)[:, :, None] for n, at in zip(self.canvas, (y, x), strict=True)
            )
            # Ink adds up where sprites overlap and never exceeds white; nowhere is there none, or
            # a Bernoulli likelihood would be infinite there.
            return 1 - (-(rows @ ink @ columns.mT).sum(1) - self.GROUND).exp()

    def _spread(self, n: int, shift: Tensor) -> Tensor:
        """How much of each sprite's pixel falls on each of `n`, bilinearly."""
        canvas, pixels = (
            torch.arange(k, device=shift.device) - (k - 1) / 2 for k in (n, self.size[-1])
        )
        distance = canvas[:, None] - shift[..., None, None] - pixels
        return (1 - distance.abs()).clamp(min=0)
