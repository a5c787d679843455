"""Latent dynamics by transposed convolutions over time: the temporal generator of TGAN."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from common.errors import InputError, check_counts
from common.ode.evaluations import Evaluations
from common.typing import Sample, Times
from video_ode.dynamics.base import Dynamics, Solved, whole_frames


class Deconvolution1d(Dynamics):
    """Temporal generator of TGAN: transposed 1-D convolutions (Saito et al. 2017, section 4.1).

    It makes a fixed number of frames from `z0`, all at once. Each convolution but the first one
    doubles their number, which is `2 ** len(widths)`, 16 by default. States are vectors with
    numbers from -1 to 1.

    Args:
        size: Length of the state.
        context_size: Length of the context, an input beside `z0`.
        widths: Numbers of channels of the convolutions, without those of the last one.

    Raises:
        InputError: No width, or widths below 1.
    """

    starts_at_z0 = False

    def __init__(
        self, size: int, context_size: int, widths: tuple[int, ...] = (512, 256, 128, 128)
    ) -> None:
        super().__init__()
        check_counts(1, size=size, widths=widths, number_of_widths=len(widths))
        self.n_frames = 2 ** len(widths)
        layers: list[nn.Module] = [nn.ConvTranspose1d(size + context_size, widths[0], 1)]
        for before, after in pairwise([*widths, size]):
            doubling = nn.ConvTranspose1d(before, after, 4, stride=2, padding=1)
            layers += [nn.BatchNorm1d(before), nn.ReLU(), doubling]
        self.net = nn.Sequential(*layers, nn.Tanh())
        for layer in self.net:
            if isinstance(layer, nn.ConvTranspose1d):
                nn.init.xavier_uniform_(layer.weight, math.sqrt(2))

    def solve(self, z0: Sample, times: Times, context: Tensor | None) -> Solved:
        frames = whole_frames(self, times)
        if frames[-1] >= self.n_frames:
            raise InputError(
                f"got a path of {frames[-1] + 1} frames, but Deconvolution1d makes "
                f"{self.n_frames}; ask for earlier times, or give more widths"
            )
        if z0.ndim != 2:
            raise InputError(
                f"got a first state of shape {tuple(z0.shape)}, but Deconvolution1d needs vectors "
                "[b size]; use ConvLSTM or NeuralODE for feature maps"
            )
        known = z0 if context is None else torch.cat([z0, context], 1)
        return Solved(self.net(known[:, :, None]).transpose(1, 2)[:, frames], Evaluations(1))
