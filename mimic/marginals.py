"""Heavy-tailed channels made normal one by one, which leaves what they share as it is."""

import torch
from torch import Tensor

HEAVY = 10.0  # a kurtosis
KNOTS = 4096  # of a channel's map, at most


class NormalScores:
    """Increasing maps, one of each channel, that make heavy-tailed channels of a sample normal.

    Total correlation doesn't change, but outliers no longer hide it from a critic (scores of van
    der Waerden). Between the values that a map was fitted to it is linear, beyond them it grows as
    a logarithm. Others are left as they are: scores would close the gaps of channels with several
    modes.

    Args:
        z: The sample, `[n c …]`, n > 1; all positions of a channel have one map.
        heavier_than: The kurtosis above which a channel has heavy tails; 3 is a normal one's.
    """

    def __init__(self, z: Tensor, heavier_than: float = HEAVY) -> None:
        values = z.movedim(1, 0).flatten(1)
        centred = values - values.mean(1, keepdim=True)
        variance = centred.square().mean(1).clamp(min=torch.finfo(z.dtype).tiny)
        self.heavy = centred.pow(4).mean(1) > heavier_than * variance.square()
        count = min(values.shape[1], KNOTS)
        chosen = torch.linspace(0, values.shape[1] - 1, count, device=z.device).long()
        self.knots = values[:, chosen].sort().values
        levels = (torch.arange(count, device=z.device, dtype=torch.float64) + 0.5) / count
        self.scores = torch.special.ndtri(levels).to(z.dtype)

    def __call__(self, z: Tensor) -> Tensor:
        """Of values of the same channels, `[m c …]`."""
        channels = z.movedim(1, 0)
        values = channels.flatten(1).contiguous()
        # Of values that are equal to several knots the middle score is taken.
        scores = (self._between(values, right=False) + self._between(values, right=True)) / 2
        above = (values - self.knots[:, -1:]).relu().log1p()
        below = (self.knots[:, :1] - values).relu().log1p()
        found = torch.where(self.heavy[:, None], scores + above - below, values)
        return found.reshape(channels.shape).movedim(0, 1)

    def _between(self, values: Tensor, right: bool) -> Tensor:
        after = torch.searchsorted(self.knots, values, right=right)
        after = after.clamp(1, self.knots.shape[1] - 1)
        low, high = self.knots.gather(1, after - 1), self.knots.gather(1, after)
        share = ((values - low) / (high - low)).nan_to_num(nan=float(right)).clamp(0, 1)
        return self.scores[after - 1] + share * (self.scores[after] - self.scores[after - 1])
