"""Normal scores of heavy-tailed channels, which leave total correlation as it is."""

import torch
from torch import Tensor

HEAVY = 4.0  # kurtosis above which tails are heavy
KNOTS = 4096  # greatest number of knots of a channel's map


class NormalScores:
    """Increasing maps that make the heavy-tailed channels of a sample normal, one for each.

    Total correlation does not change, but outliers no longer hide it from a critic (van der
    Waerden scores). A map is linear between the values that it was fitted to, and grows as a
    logarithm beyond them; equal values get the middle of their scores. Other channels are left as
    they are.

    Args:
        z: Sample `[n c …]`, n > 1; all positions of a channel have one map.
        heavier_than: Kurtosis above which a channel has heavy tails; that of a normal one is 3.
    """

    def __init__(self, z: Tensor, heavier_than: float = HEAVY) -> None:
        values = z.movedim(1, 0).flatten(1)
        centred = values - values.mean(1, keepdim=True)
        variance = centred.square().mean(1)
        kurtosis = centred.pow(4).mean(1) / variance.square()  # NaN for a constant channel
        self.heavy = (kurtosis > heavier_than).nonzero().flatten()
        n = values.shape[1]
        count = min(n, KNOTS)
        # Of the sorted values, so that the least and the greatest are knots.
        chosen = torch.arange(count, device=z.device) * (n - 1) // (count - 1)
        self.knots = values[self.heavy].sort().values[:, chosen]
        levels = (chosen.double() + 0.5) / n
        self.scores = torch.special.ndtri(levels).to(z.dtype)

    def __call__(self, z: Tensor) -> Tensor:
        """Scores of values `[m c …]` of the same channels."""
        if not len(self.heavy):
            return z
        channels = z.index_select(1, self.heavy).movedim(1, 0)
        values = channels.flatten(1).contiguous()
        # The two differ where a value is equal to several knots.
        scores = (self._between(values, right=False) + self._between(values, right=True)) / 2
        above = (values - self.knots[:, -1:]).relu().log1p()
        below = (self.knots[:, :1] - values).relu().log1p()
        found = (scores + above - below).reshape(channels.shape).movedim(0, 1)
        return z.index_copy(1, self.heavy, found)

    def _between(self, values: Tensor, right: bool) -> Tensor:
        after = torch.searchsorted(self.knots, values, right=right)
        after = after.clamp(1, self.knots.shape[1] - 1)
        low, high = self.knots.gather(1, after - 1), self.knots.gather(1, after)
        share = ((values - low) / (high - low)).nan_to_num(nan=float(right)).clamp(0, 1)
        return self.scores[after - 1] + share * (self.scores[after] - self.scores[after - 1])
