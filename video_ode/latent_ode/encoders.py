"""Recurrent encoders: codes of the observed frames to one vector about the first time.

They read backward in time, so that the last thing they see is the state that is asked for
(Chen et al. 2018; Rubanova et al. 2019).
"""

import abc
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from common.typing import Codes, FieldFactory, Mask, Times
from video_ode.dynamics.residual import ResidualEuler


class SequenceEncoder(nn.Module, abc.ABC):
    """Codes, times and masks of frames to a vector `[b h]` about the first time.

    Attributes:
        out_features: Length h of the vector.
    """

    out_features: int

    @abc.abstractmethod
    def forward(self, codes: Codes, times: Times, mask: Mask) -> Tensor:
        """The vector.

        Args:
            codes: `[b t d]`; those of unobserved frames are ignored.
            times: `[t]`, ascending.
            mask: `[b t]`: the observed frames.
        """


SequenceEncoderFactory = Callable[[int], SequenceEncoder]


class GRUEncoder(SequenceEncoder):
    """A GRU over the observed codes and the time that has passed before each.

    Args:
        code_size: Length of a code.
        hidden: Units.
    """

    def __init__(self, code_size: int, hidden: int = 128) -> None:
        super().__init__()
        self.gru = nn.GRU(code_size + 1, hidden, batch_first=True)
        self.out_features = hidden

    def forward(self, codes: Codes, times: Times, mask: Mask) -> Tensor:
        gaps = _gaps(times, mask)[..., None].to(codes)
        inputs = torch.cat([codes, gaps], -1).flip(1)
        seen = mask.flip(1)
        if bool(seen.all()):
            return self.gru(inputs)[1][0]
        # Observed frames to the front, in order; a packed sequence leaves out the rest.
        order = seen.byte().sort(dim=1, descending=True, stable=True).indices
        inputs = inputs.gather(1, order[..., None].expand_as(inputs))
        lengths = seen.sum(1).clamp(min=1).cpu()
        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        return self.gru(packed)[1][0]


class ODERNNEncoder(SequenceEncoder):
    """An ODE carries the state from one observed time to the next, a GRU takes in each code.

    Rubanova et al. 2019, algorithm 1, with Euler's method as there.

    Args:
        code_size: Length of a code.
        field: From sizes of state and context (none) to the vector field.
        hidden: Units.
        steps: Euler steps in a unit of time.
    """

    def __init__(
        self, code_size: int, field: FieldFactory, hidden: int = 128, steps: int = 2
    ) -> None:
        super().__init__()
        self.ode, self.cell = ResidualEuler(hidden, 0, field, steps), nn.GRUCell(code_size, hidden)
        self.out_features = hidden

    def forward(self, codes: Codes, times: Times, mask: Mask) -> Tensor:
        times = times.cpu()  # the solver asks for numbers
        h = codes.new_zeros(len(codes), self.out_features)
        for i in reversed(range(len(times))):
            if i + 1 < len(times):
                h = self.ode(h, times[[i + 1, i]]).states[:, -1]
            h = torch.where(mask[:, i, None], self.cell(codes[:, i], h), h)
        return h


def _gaps(times: Times, mask: Mask) -> Tensor:
    """Time from the observed frame before each, or from the first time, `[b t]`."""
    seen = torch.where(mask, times.expand(mask.shape), times[0])
    before = torch.cat([times[0].expand(len(mask), 1), seen.cummax(1).values[:, :-1]], 1)
    return times - before
