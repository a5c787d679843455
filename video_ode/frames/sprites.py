"""Frame decoder that draws sprites and shifts them to their positions."""

import torch
from torch import Tensor, nn

from common.errors import InputError, check_counts
from common.typing import Image, ImageShape
from video_ode.frames.base import DecoderFactory, FrameDecoder, Skips, refuse_skips


class SpriteDecoder(FrameDecoder):
    """Decoder of sprites: small pictures and their positions, both from the code.

    It is a spatial transformer that only shifts (Jaderberg et al. 2015). The position is linear in
    the code, so that a straight motion of the code is a straight motion in the frame. It is made
    for scenes of few things on a black background, such as Moving MNIST; there it learns many
    times faster than convolutions.

    Args:
        shape: Channels, height and width of a frame.
        code_size: Length of a code.
        skips: Must be false: there are no skip connections.
        sprites: Number of sprites.
        size: Height and width of a sprite, in pixels.
        hidden: Number of units of the layer that draws the sprites.
        content_size: Number of first numbers of a code that draw the sprites, while the later
            ones place them: content and motion. None: all numbers do both.
        painter: From shape, length of a code and false to a decoder that draws the sprites, as the
            channels of one picture, in place of the layer of `hidden` units.

    Raises:
        InputError: `skips` is true, or numbers are out of range.
    """

    BACKGROUND = 0.003  # ink of the background

    def __init__(
        self,
        shape: ImageShape,
        code_size: int,
        skips: bool = False,
        sprites: int = 1,
        size: int = 16,
        hidden: int = 256,
        content_size: int | None = None,
        painter: DecoderFactory | None = None,
    ) -> None:
        super().__init__()
        refuse_skips(self, skips)
        counts = dict(sprites=sprites, size=size, hidden=hidden, content_size=content_size)
        check_counts(1, shape=shape, **counts)
        if content_size is not None and content_size >= code_size:
            raise InputError(
                f"got content_size {content_size} for codes of {code_size} numbers; lower it, so "
                "that some numbers place the sprites"
            )
        self.content_size = content_size
        drawn, known = sprites * shape[0], content_size or code_size
        self.paint: nn.Module
        if painter is None:
            last = nn.Linear(hidden, drawn * size**2)
            self.paint = nn.Sequential(nn.Linear(known, hidden), nn.LeakyReLU(0.2), last)
        else:
            self.paint = painter((drawn, size, size), known, False)
        self.place = nn.Linear(code_size - (content_size or 0), sprites * 2)
        nn.init.normal_(self.place.weight, 0.0, 0.1)
        self.size, self.canvas = (sprites, shape[0], size, size), shape[1:]
        self.reach = shape[1] / 8

    def forward(self, codes: Tensor, skips: Skips = ()) -> Image:
        painted, codes = (
            self.paint(codes[:, : self.content_size]),
            codes[:, self.content_size or 0 :],
        )
        # In half precision a position would be wrong by a tenth of a pixel.
        with torch.autocast(codes.device.type, enabled=False):
            codes, painted = (
                x.to(torch.promote_types(x.dtype, torch.float32)) for x in (codes, painted)
            )
            if isinstance(self.paint, FrameDecoder):  # the ink of a grey level, as below
                ink = -(1 - painted.clamp(max=1 - 1e-5)).log()
            else:
                ink = nn.functional.softplus(painted)
            ink = ink.reshape(-1, *self.size)
            y, x = (self.reach * self.place(codes)).unflatten(1, (-1, 2)).unbind(-1)
            rows, columns = (
                self._weights(n, at)[:, :, None] for n, at in zip(self.canvas, (y, x), strict=True)
            )
            # Ink adds up where sprites overlap, and the frame never exceeds white. No pixel is
            # without ink: there a Bernoulli likelihood would be infinite.
            return 1 - (-(rows @ ink @ columns.mT).sum(1) - self.BACKGROUND).exp()

    def _weights(self, n: int, shift: Tensor) -> Tensor:
        """Bilinear weights of a shift: share of each sprite pixel that each frame pixel gets.

        Args:
            n: Number of frame pixels along the axis.
            shift: Shift of each sprite from the centre, in pixels, `[b k]`.

        Returns:
            Weights `[b k n size]`.
        """
        canvas, pixels = (
            torch.arange(k, device=shift.device) - (k - 1) / 2 for k in (n, self.size[-1])
        )
        distance = canvas[:, None] - shift[..., None, None] - pixels
        return (1 - distance.abs()).clamp(min=0)
