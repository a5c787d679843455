"""Rows of channels, and what is compared among them."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, get_args

from torch import Tensor

from common.errors import InputError

Decomposition = Literal["direct", "line", "tree"]


class Rows(NamedTuple):
    """Samples of channels, as critics see them.

    Attributes:
        z: `[n c …]`, of mean 0 and variance 1.
        labels: Classes `[n]`, or none.
        positions: Consecutive rows that come from one image.
    """

    z: Tensor
    labels: Tensor | None = None
    positions: int = 1


class Term(NamedTuple):
    """A total correlation among blocks of channels: their numbers, and the block of each."""

    channels: list[int]
    blocks: list[int]


def check_words(*pairs: tuple[str, Any]) -> None:
    """Raises an `InputError` if a word is none of those of its `Literal`."""
    for word, literal in pairs:
        if word not in get_args(literal):
            raise InputError(f"got {word!r}; give one of {', '.join(get_args(literal))}")


def check_labels(labels: Tensor, n_classes: int) -> None:
    """Raises an `InputError` if there are labels outside 0 … n_classes - 1."""
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < n_classes:
        raise InputError(
            f"got labels from {int(labels.min())} to {int(labels.max())}; with n_classes "
            f"{n_classes} they must be 0 to {n_classes - 1}"
        )


def terms(groups: Sequence[int], decomposition: Decomposition) -> list[Term]:
    """Terms whose sum is the total correlation of groups of channels.

    `line` is the chain `Σ I(x_1 … x_i; x_{i+1})`, `tree` splits in halves again and again (Bai et
    al. 2023); either has one term less than there are groups.

    Args:
        groups: Number of the group that each channel belongs to, from 0.
        decomposition: `direct` is one term.
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
