"""Latent dynamics by recurrent steps from frame to frame."""

import torch
from torch import Tensor, nn

from common.errors import check_counts
from common.ode.evaluations import Evaluations
from common.typing import FieldFactory, Sample, Times
from video_ode.dynamics.base import Dynamics, Solved, Stepwise, whole_frames
from video_ode.dynamics.shapes import spread


class GRU(Stepwise):
    """Gated recurrent unit `y_{t+1} = GRUCell(z_{t+1}, y_t)`, an ablation of SRVP.

    With `noise` it is the motion generator of MoCoGAN (Tulyakov et al. 2018, section 3.1): new
    noise is an input of each step, and the state at the first time is one step after `z0`.

    Args:
        size: Length of the state, a vector.
        context_size: Length of the context.
        noise: Number of standard normal inputs of each step, beside the context.

    Raises:
        InputError: `noise` is below 0.
    """

    def __init__(self, size: int, context_size: int, noise: int = 0) -> None:
        super().__init__()
        check_counts(0, noise=noise)
        self.cell = nn.GRUCell(context_size + noise, size)
        self.noise, self.starts_at_z0 = noise, noise == 0

    def step(self, z: Sample, context: Tensor | None) -> Sample:
        noise = torch.randn(len(z), self.noise, dtype=z.dtype, device=z.device)
        return self.cell(noise if context is None else torch.cat([context, noise], 1), z)


class MLPDynamics(Stepwise):
    """Multilayer perceptron `y_{t+1} = f(y_t, z_{t+1})` without residual, an ablation of SRVP.

    Args:
        size: Length of the state.
        context_size: Length of the context.
        field: From the lengths of state and context to the network `f`.
    """

    def __init__(self, size: int, context_size: int, field: FieldFactory) -> None:
        super().__init__()
        self.field = field(size, context_size)

    def step(self, z: Sample, context: Tensor | None) -> Sample:
        return self.field(z.new_zeros(()), z, context)


class ConvLSTM(Dynamics):
    """Convolutional LSTM of feature maps, the temporal generator of TGANv2 (Saito et al. 2020).

    `z0` is the input of the first step, and zeros are the inputs of the others; the state of a
    frame is the hidden state after its step. Convolutions are 3 × 3, without peepholes.

    Args:
        size: Number of channels of the state. A vector is a feature map of one pixel.
        context_size: Number of channels of the context, an input of each step.
    """

    starts_at_z0 = False

    def __init__(self, size: int, context_size: int) -> None:
        super().__init__()
        self.input = nn.Conv2d(size + context_size, 4 * size, 3, padding=1)
        self.hidden = nn.Conv2d(size, 4 * size, 3, padding=1, bias=False)

    def solve(self, z0: Sample, times: Times, context: Tensor | None) -> Solved:
        frames = whole_frames(self, times)
        z = z0 if z0.ndim == 4 else z0[..., None, None]
        known = [] if context is None else [spread(context, z)]
        first, later = (self.input(torch.cat([x, *known], 1)) for x in (z, torch.zeros_like(z)))
        states, h, c = [], torch.zeros_like(z), torch.zeros_like(z)
        for i in range(frames[-1] + 1):
            gates = (later if i else first) + self.hidden(h)
            forget, enter, leave, new = gates.chunk(4, 1)
            c = forget.sigmoid() * c + enter.sigmoid() * new.tanh()
            h = leave.sigmoid() * c.tanh()
            states.append(h.reshape(z0.shape))
        return Solved([states[i] for i in frames], Evaluations(len(states)))


class ConvGRU(Stepwise):
    """Convolutional GRU of feature maps that gets no input but the context.

    A vector is a feature map of one pixel.

    Args:
        size: Number of channels of the state.
        context_size: Number of channels of the context, an input of each step.
    """

    def __init__(self, size: int, context_size: int) -> None:
        super().__init__()
        self.cell = ConvGRUCell(context_size, size)

    def step(self, z: Sample, context: Tensor | None) -> Sample:
        maps = z if z.ndim == 4 else z[..., None, None]
        x = maps[:, :0] if context is None else spread(context, maps)
        return self.cell(x, maps).reshape(z.shape)


class ConvGRUCell(nn.Module):
    """Gated recurrent unit of feature maps by 3 × 3 convolutions (Ballas et al. 2016).

    Args:
        n_in: Number of channels of the input.
        size: Number of channels of the state.
    """

    def __init__(self, n_in: int, size: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(n_in + size, 2 * size, 3, padding=1)
        self.new = nn.Conv2d(n_in + size, size, 3, padding=1)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """State after the input `x`, from the state `h` before it."""
        reset, keep = self.gates(torch.cat([x, h], 1)).sigmoid().chunk(2, 1)
        return keep * h + (1 - keep) * self.new(torch.cat([x, reset * h], 1)).tanh()
