"""Implicit decoder (Yin et al. 2023): the value of a frame at any point, from a code.

A model with this decoder is continuous in space as well as in time: trained on one grid, it
predicts on a finer or irregular one.
"""

import abc
import math

import torch
from torch import Tensor, nn

from common.errors import check_counts, check_positive
from common.typing import Image, ImageShape
from video_ode.frames.base import FrameDecoder, Output, Skips, output_range, refuse_skips

MOST_VALUES = 2**14  # that are decoded at once: few enough for the cache


class PointDecoder(FrameDecoder):
    """Decoder of frames that can decode single points."""

    @abc.abstractmethod
    def at(self, codes: Tensor, points: Tensor) -> Tensor:
        """Values `[n c p]`.

        Args:
            codes: Codes `[n d]`.
            points: Rows and columns in pixels, `[p 2]`; pixel centres are whole numbers.
        """


class CoordinateDecoder(PointDecoder):
    """Implicit neural representation: a Fourier network whose layers are shifted by the code.

    It is the decoder of DINo (Yin et al. 2023, eq. 6), a multiplicative filter network (Fathony et
    al. 2021): `h₁ = s₁(x)`, `h_{l+1} = (W_l h_l + b_l + A_l code) ⊙ s_{l+1}(x)`, with sines
    `s_l(x) = sin(ω_l x + φ_l)` of the point x.

    Args:
        shape: Channels, height and width of a frame.
        code_size: Length of a code.
        skips: Must be false: there are no skip connections.
        width: Number of sines of each layer.
        layers: Number of layers.
        waves: Standard deviation of the initial frequencies, in waves across the longer side.
        output: Range of the frames: 0 to 1 by a `sigmoid`, or any (`identity`).

    Raises:
        InputError: `skips` is true, or numbers are below their minimum.
    """

    def __init__(
        self,
        shape: ImageShape,
        code_size: int,
        skips: bool = False,
        width: int = 64,
        layers: int = 3,
        waves: float = 4.0,
        output: Output = "sigmoid",
    ) -> None:
        super().__init__()
        refuse_skips(self, skips)
        check_counts(1, code_size=code_size, width=width, layers=layers)
        check_positive(waves=waves)
        self.shape, self.output = shape, output
        scale = 2 * math.pi * waves / max(shape[1:]) / math.sqrt(layers + 1)
        self.sines = nn.ModuleList(nn.Linear(2, width) for _ in range(layers + 1))
        for layer in self.sines:
            nn.init.normal_(layer.weight, 0.0, scale)  # type: ignore[arg-type]
            nn.init.uniform_(layer.bias, -math.pi, math.pi)  # type: ignore[arg-type]
        self.mixes = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.codes = nn.ModuleList(nn.Linear(code_size, width, bias=False) for _ in range(layers))
        self.last = nn.Linear(width, shape[0])

    def forward(self, codes: Tensor, skips: Skips = ()) -> Image:
        _, h, w = self.shape
        rows, columns = torch.arange(h).to(codes), torch.arange(w).to(codes)
        return self.at(codes, torch.cartesian_prod(rows, columns)).unflatten(2, (h, w))

    def at(self, codes: Tensor, points: Tensor) -> Tensor:
        sines = [layer(points).sin() for layer in self.sines]  # [p width] each
        # In parts: the activations of all points of all frames may not fit into memory.
        parts = codes.split(max(1, MOST_VALUES // len(points)))
        return torch.cat([self._values(part, sines) for part in parts])

    def _values(self, codes: Tensor, sines: list[Tensor]) -> Tensor:
        h = sines[0][None]
        for mix, code, sine in zip(self.mixes, self.codes, sines[1:], strict=True):
            h = (mix(h) + code(codes)[:, None]) * sine
        return output_range(self.last(h).transpose(1, 2), self.output)
