"""Decomposition of a total correlation into a sum of terms, each with a critic of its own."""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

Decomposition = Literal["direct", "line", "tree"]


class Term(NamedTuple):
    """Total correlation among blocks of channels.

    Attributes:
        channels: Indices of the channels.
        blocks: Block of each of these channels.
    """

    channels: list[int]
    blocks: list[int]


def terms(groups: Sequence[int], decomposition: Decomposition) -> list[Term]:
    """Terms whose sum is the total correlation of groups of channels (Bai et al. 2023).

    Args:
        groups: Group of each channel, numbered from 0.
        decomposition: `direct`: one term. `line`: the chain `Σ I(x_1 … x_i; x_{i+1})`. `tree`:
            mutual information of two halves, then of the halves of each half, and so on. `line`
            and `tree` have one term less than there are groups.
    """
    count = max(groups) + 1
    if decomposition == "direct":
        return [Term(list(range(len(groups))), list(groups))]
    if decomposition == "line":
        pairs = [(range(i), range(i, i + 1)) for i in range(1, count)]
    else:
        pairs = list(_halves(range(count)))
    return [_pair_term(groups, *pair) for pair in pairs]


def _halves(part: range) -> Iterator[tuple[range, range]]:
    if len(part) > 1:
        left, right = part[: len(part) // 2], part[len(part) // 2 :]
        yield left, right
        yield from _halves(left)
        yield from _halves(right)


def _pair_term(groups: Sequence[int], left: range, right: range) -> Term:
    channels = [i for i, g in enumerate(groups) if g in left or g in right]
    return Term(channels, [int(groups[i] in right) for i in channels])
