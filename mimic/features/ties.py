"""Equal values: atoms of a channel's distribution, and copies of samples."""

import torch
from torch import Tensor

LEAST = 10  # samples that share an atom; they must also be one in fifty of all


def atoms(z: Tensor) -> Tensor:
    """Number of each value among the atoms of its channel, `int64 [n c]`; -1: no atom.

    An atom is a value that at least ten samples, and at least one in fifty, share: each value of a
    discrete channel, or the zero of a ReLU. An atom has a probability, other values a density.

    Args:
        z: Channels `[n c]`.
    """
    found = torch.empty(z.shape, dtype=torch.int64, device=z.device)
    for i, column in enumerate(z.T):
        _, value, counts = column.unique(return_inverse=True, return_counts=True)
        is_atom = (counts >= LEAST) & (50 * counts >= len(z))
        found[:, i] = torch.where(is_atom, is_atom.cumsum(0) - 1, -1)[value]
    return found


def copies(z: Tensor) -> Tensor:
    """Samples that are copies of earlier ones, `bool [n]`.

    Samples of discrete channels are often equal by chance. A sample counts as a copy only if it
    holds a value that is no atom, of a channel in which other samples rarely share such values.

    Args:
        z: Samples `[n …]`.
    """
    flat, seen, again = z.detach().flatten(1).cpu(), set(), []
    for row in flat.numpy():
        again.append((key := row.tobytes()) in seen)
        seen.add(key)
    repeated = torch.tensor(again)
    found = torch.zeros_like(repeated)
    if repeated.any():
        first = flat[~repeated]
        continuous = atoms(first) < 0
        for column, values, free in zip(flat.T, first.T, continuous.T, strict=True):
            if free.sum() >= LEAST and 2 * len(values[free].unique()) > free.sum():
                found |= repeated & ~torch.isin(column, values[~free])
    return found.to(z.device)
