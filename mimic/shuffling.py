"""Samples of the product of marginals, made of a batch (Predoc III, below eq. 7.1)."""

from collections.abc import Sequence

import torch
from torch import Tensor


def shuffle_channels(
    z: Tensor,
    labels: Tensor | None = None,
    positions: int = 1,
    blocks: Sequence[int] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Rows whose channels come from different samples: draws of `p(z₁) … p(z_c)`.

    The rows are put in a random order, and channel j is read `offset_j` further on. The offsets
    are distinct, so no row holds two channels of one sample; independent permutations would leave
    `c² / 2n` such pairs in each row, which draws the total correlation down. With more channels
    than samples the offsets are used evenly, which leaves as few pairs as there must be.

    Args:
        z: Channels `[n c …]` of whatever shape each.
        labels: Classes `[n]`; channels are then exchanged within a class, and row i of the result
            is of the class of row i: draws of `p(z₁ | y) … p(z_c | y)`. A class may be as small
            as a few samples; its offsets are drawn freely then, for among m centred samples
            those of different samples correlate by `-1 / (m - 1)`, which the pairs of one
            sample make up for.
        positions: Consecutive rows that come from one image; channels are then taken from
            different images, each from a position of its own.
        blocks: Number of the block that each channel belongs to, if they move in blocks.
        generator: Of the random order; the global one if none.

    Raises:
        ValueError: Fewer than two images, or rows that aren't whole images.
    """
    n, c = z.shape[:2]
    if n % positions or n // positions < 2:
        raise ValueError(
            f"got {n} rows with {positions} from each sample; shuffling needs at least 2 whole "
            "samples: raise the batch size, or set drop_last on the loader"
        )
    n_blocks = c if blocks is None else max(blocks) + 1
    if labels is None:
        source = _turned(n // positions, n_blocks, generator)
    else:
        source = _within_classes(labels[::positions], n_blocks, generator)
    if positions > 1:
        source = _with_positions(source, positions, generator)
    if blocks is not None:
        source = source[:, torch.as_tensor(blocks, device=source.device)]
    return z.gather(0, source.to(z.device).reshape(n, c, *[1] * (z.ndim - 2)).expand_as(z))


def _turned(n: int, n_blocks: int, generator: torch.Generator | None) -> Tensor:
    """Images that each block of a row comes from, `[n blocks]`."""
    device = device_of(generator)
    order = torch.randperm(n, generator=generator, device=device)
    offsets = torch.randperm(n_blocks, generator=generator, device=device) % n
    rows = torch.arange(n, device=device)[:, None]
    # Twice the order, so that no remainder need be taken of every place.
    return order.repeat(2)[rows + offsets]


def _within_classes(labels: Tensor, n_blocks: int, generator: torch.Generator | None) -> Tensor:
    """The same, from images of the class of the row's own image."""
    device, n = device_of(generator), len(labels)
    order = labels.to(device or "cpu").argsort(stable=True)
    _, size = labels.to(order.device)[order].unique_consecutive(return_counts=True)
    start = (size.cumsum(0) - size).repeat_interleave(size)
    size = size.repeat_interleave(size)
    drawn = torch.rand(n, n_blocks, generator=generator, device=order.device)
    source = order[start[:, None] + (drawn * size[:, None]).long()]
    return torch.empty_like(source).index_copy_(0, order, source)


def _with_positions(source: Tensor, positions: int, generator: torch.Generator | None) -> Tensor:
    """Rows in place of images, `[n · positions, blocks]`, every block with a turn of its own."""
    shape, device = source.shape[1:], source.device
    shift = torch.randint(positions, shape, generator=generator, device=device)
    places = (torch.arange(positions, device=device)[:, None] + shift) % positions
    return (source[:, None] * positions + places).flatten(0, 1)


def device_of(generator: torch.Generator | None) -> torch.device | None:
    """Where draws are made: on the generator's device, or the default one."""
    return None if generator is None else generator.device
