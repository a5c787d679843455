"""Samples of the product of marginals, made of a batch (Predoc III, below eq. 7.1)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mimic.features.inputs import Numbers, as_channels


def shuffle_channels(
    z: Numbers,
    labels: Tensor | None = None,
    positions: int = 1,
    blocks: Sequence[int] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Rows whose channels come from different samples: samples of `p(z₁) … p(z_c)`.

    The rows are put in a random order, and channel j is read `offset_j` rows further on. The
    offsets are distinct, so no row holds two channels of one sample; independent permutations
    would leave `c² / 2n` such pairs in each row, which lowers the total correlation. With more
    channels than samples the offsets are used evenly, which leaves as few pairs as possible.

    Args:
        z: Channels `[n c …]`, each of any shape.
        labels: Classes `[n]`. Channels are then exchanged within a class, and row i of the result
            is of the class of row i: samples of `p(z₁ | y) … p(z_c | y)`. A class may be as small
            as a few samples, so its offsets are drawn freely: among m centred samples those of
            different samples correlate by `-1 / (m - 1)`, and the pairs of one sample make up
            for that.
        positions: Number of consecutive rows that come from one image. Channels are then taken
            from different images, each from a position of its own.
        blocks: Block of each channel, if channels move in blocks.
        generator: Source of the random order. None: the global one.

    Raises:
        ValueError: Fewer than two images, or rows that are not whole images.
    """
    checked = as_channels(z)
    z = z if isinstance(z, Tensor) else checked
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
    """Source image of each block of a row, `[n blocks]`."""
    device = device_of(generator)
    order = torch.randperm(n, generator=generator, device=device)
    offsets = torch.randperm(n_blocks, generator=generator, device=device) % n
    rows = torch.arange(n, device=device)[:, None]
    # Twice the order, so that no remainder need be taken of every place.
    return order.repeat(2)[rows + offsets]


def _within_classes(labels: Tensor, n_blocks: int, generator: torch.Generator | None) -> Tensor:
    """Source image of each block, among the images of the row's own class, `[n blocks]`."""
    device, n = device_of(generator), len(labels)
    order = labels.to(device or "cpu").argsort(stable=True)
    _, size = labels.to(order.device)[order].unique_consecutive(return_counts=True)
    start = (size.cumsum(0) - size).repeat_interleave(size)
    size = size.repeat_interleave(size)
    drawn = torch.rand(n, n_blocks, generator=generator, device=order.device)
    source = order[start[:, None] + (drawn * size[:, None]).long()]
    return torch.empty_like(source).index_copy_(0, order, source)


def _with_positions(source: Tensor, positions: int, generator: torch.Generator | None) -> Tensor:
    """Source rows instead of images, `[n · positions, blocks]`, with a shift for each block."""
    shape, device = source.shape[1:], source.device
    shift = torch.randint(positions, shape, generator=generator, device=device)
    places = (torch.arange(positions, device=device)[:, None] + shift) % positions
    return (source[:, None] * positions + places).flatten(0, 1)


def device_of(generator: torch.Generator | None) -> torch.device | None:
    """Device on which a generator draws. None: the default device."""
    return None if generator is None else generator.device
