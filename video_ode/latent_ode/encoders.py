"""Recurrent encoders of sequences: from the codes of the observed frames to one vector.

They read the frames backward in time, because the vector is used to infer the state at the first
time (Chen et al. 2018; Rubanova et al. 2019).
"""

import abc
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from common.errors import check_counts
from common.typing import Codes, FieldFactory, Mask, Times, VideoTimes
from video_ode.dynamics.residual import ResidualEuler
from video_ode.times import shared_times


class SequenceEncoder(nn.Module, abc.ABC):
    """Encoder of a sequence: from codes, times and mask to a vector that describes its start.

    Attributes:
        out_features: Length h of the vector.
    """

    out_features: int

    @abc.abstractmethod
    def forward(self, codes: Codes, times: Times | VideoTimes, mask: Mask) -> Tensor:
        """Vector `[b h]`.

        Args:
            codes: Codes of the frames, `[b t d]`; those of unobserved frames are ignored.
            times: Ascending times, `[t]` or `[b t]`.
            mask: Mask of the observed frames, `[b t]`.
        """


SequenceEncoderFactory = Callable[[int], SequenceEncoder]


class GRUEncoder(SequenceEncoder):
    """GRU over the observed codes, each with the time since the previous observed frame.

    Args:
        code_size: Length of a code.
        hidden: Number of units.
    """

    def __init__(self, code_size: int, hidden: int = 128) -> None:
        super().__init__()
        check_counts(1, hidden=hidden)
        self.gru = nn.GRU(code_size + 1, hidden, batch_first=True)
        self.out_features = hidden

    def forward(self, codes: Codes, times: Times | VideoTimes, mask: Mask) -> Tensor:
        gaps = _gaps(times, mask)[..., None].to(codes)
        inputs = torch.cat([codes, gaps], -1).flip(1)
        seen = mask.flip(1)
        if bool(seen.all()):
            return self.gru(inputs)[1][0]
        # The observed frames come first, in order; a packed sequence leaves out the rest.
        order = seen.byte().sort(dim=1, descending=True, stable=True).indices
        inputs = inputs.gather(1, order[..., None].expand_as(inputs))
        lengths = seen.sum(1).clamp(min=1).cpu()
        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        return self.gru(packed)[1][0]


class ODERNNEncoder(SequenceEncoder):
    """ODE-RNN: an ODE between the observed times, and a GRU cell at each of them.

    Rubanova et al. 2019, algorithm 1, also with Euler's method. All videos of a batch must have
    the same times.

    Args:
        code_size: Length of a code.
        field: From the lengths of state and context (0) to the vector field.
        hidden: Number of units.
        steps: Number of Euler steps in a unit of time.
    """

    def __init__(
        self, code_size: int, field: FieldFactory, hidden: int = 128, steps: int = 2
    ) -> None:
        super().__init__()
        check_counts(1, hidden=hidden)
        self.ode, self.cell = ResidualEuler(hidden, 0, field, steps), nn.GRUCell(code_size, hidden)
        self.out_features = hidden

    def forward(self, codes: Codes, times: Times | VideoTimes, mask: Mask) -> Tensor:
        times = shared_times(times, type(self).__name__).cpu()  # the solver needs numbers
        h = codes.new_zeros(len(codes), self.out_features)
        for i in reversed(range(len(times))):
            if i + 1 < len(times):
                h = self.ode(h, times[[i + 1, i]]).states[:, -1]
            h = torch.where(mask[:, i, None], self.cell(codes[:, i], h), h)
        return h


def _gaps(times: Times | VideoTimes, mask: Mask) -> Tensor:
    """Time of each frame since the previous observed frame, or since the first time, `[b t]`."""
    every = times.expand(mask.shape)
    first = every[:, :1]
    seen = torch.where(mask, every, first)
    before = torch.cat([first, seen.cummax(1).values[:, :-1]], 1)
    return every - before
