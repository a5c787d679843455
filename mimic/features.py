"""From the output of a layer to rows of channels."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from mimic.shuffling import device_of
from mimic.terms import Rows

CHANNELS_FIRST = (nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d, nn.InstanceNorm1d, nn.GroupNorm)
Reduce = Literal["pool", "per_location", "map"]
# A channel whose deviation is this share of its size or less varies by rounding only.
RESOLUTION = 1e-6


class Reduction(NamedTuple):
    """How a feature becomes samples of its channels.

    Attributes:
        reduce: `pool` averages over positions, so a sample is an image. `per_location` takes a
            position for a sample, `map` an image whose channels are whole maps.
        channel_dim: Axis of the channels; the last of `[b t c]`, such as tokens or the states of a
            path, and 1 of everything else and of one-dimensional convolutions, if none.
        rows: `per_location` looks at about so many rows, of positions drawn anew each time.
        subset: Only so many channels, drawn anew each time; the others are hidden from critics.
    """

    reduce: Reduce = "pool"
    channel_dim: int | None = None
    rows: int = 1024
    subset: int | None = None

    def of(self, layer: nn.Module) -> "Reduction":
        """The same for a layer that tells by its kind where its channels are."""
        known = self.channel_dim is None and isinstance(layer, CHANNELS_FIRST)
        return self._replace(channel_dim=1) if known else self

    def __call__(
        self,
        feature: Tensor,
        labels: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Rows:
        """Rows of a feature `[b …]` in float32, with the class of each.

        Raises:
            ValueError: Fewer than two channels, or labels that don't fit.
        """
        z = self._channels_first(feature).float()
        self._check(z, labels)
        positions = 1
        if z.ndim > 2 and self.reduce == "pool":
            z = z.flatten(2).mean(2)
        elif z.ndim > 2 and self.reduce == "per_location":
            positions, z = self._locations(z.flatten(2), generator)
        if labels is not None:
            labels = labels.long().repeat_interleave(positions)
        return Rows(z, labels, positions)

    def _channels_first(self, feature: Tensor) -> Tensor:
        if feature.ndim < 2:
            raise ValueError(f"got a feature of shape {tuple(feature.shape)}; it has no channels")
        axis = self.channel_dim
        if axis is None:
            axis = -1 if feature.ndim == 3 else 1
        if not -feature.ndim < axis < feature.ndim or axis % feature.ndim == 0:
            raise ValueError(
                f"got channel_dim {axis} for a feature of shape {tuple(feature.shape)}; the "
                "batch is axis 0"
            )
        return feature.movedim(axis, 1)

    def _check(self, z: Tensor, labels: Tensor | None) -> None:
        b, c = z.shape[:2]
        if c < 2:
            raise ValueError("got a feature of 1 channel, which has none to interact with")
        if labels is not None and labels.shape != (b,):
            raise ValueError(
                f"got labels of shape {tuple(labels.shape)} for {b} samples; give one class each"
            )
        if self.subset is not None and not 2 <= self.subset <= c:
            raise ValueError(f"got subset {self.subset} of {c} channels; give 2 to {c}")

    def _locations(self, z: Tensor, generator: torch.Generator | None) -> tuple[int, Tensor]:
        """About `rows` rows of `[b c l]`: the same positions of each image, image by image."""
        b, c, n = z.shape
        count = max(1, min(n, self.rows // b))
        if count < n:
            chosen = torch.randperm(n, generator=generator, device=device_of(generator))[:count]
            z = z.index_select(2, chosen.to(z.device))
        return count, z.transpose(1, 2).reshape(b * count, c)


def standardize(rows: Rows, n_classes: int | None = None) -> tuple[Rows, Tensor]:
    """Channels of mean 0 and variance 1, which leaves total correlation as it is.

    Within classes the mean of each class is taken off, not the common one.

    Args:
        rows: Of the channels.
        n_classes: Classes, if within them.

    Returns:
        The rows, and which channels are dead `[c]`: those don't vary and are 0 now.

    Raises:
        ValueError: All channels are dead.
    """
    size = rows.z.detach().abs().amax(_all_but_channels(rows.z), keepdim=True)
    z = centre(rows, n_classes).z
    over = _all_but_channels(z)
    variance = z.square().mean(over, keepdim=True)
    dead = variance.detach().sqrt() <= RESOLUTION * size
    if bool(dead.all()):
        within = "" if n_classes is None else ", or every class has one sample in the batch"
        raise ValueError(
            f"all {z.shape[1]} channels are constant over the batch, so there is no interaction "
            f"to measure: the layer has collapsed, or isn't the one you meant{within}"
        )
    # The inner where keeps the gradient of the square root finite.
    deviation = torch.where(dead, 1.0, variance).sqrt()
    return rows._replace(z=torch.where(dead, 0.0, z / deviation)), dead.flatten()


def centre(rows: Rows, n_classes: int | None = None) -> Rows:
    """Channels of mean 0, within each class if classes are given."""
    z = rows.z
    if n_classes is not None and rows.labels is not None:
        return rows._replace(z=z - _class_means(z, rows.labels, n_classes))
    return rows._replace(z=z - z.mean(_all_but_channels(z), keepdim=True))


def _all_but_channels(z: Tensor) -> list[int]:
    return [axis for axis in range(z.ndim) if axis != 1]


def _class_means(z: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """For each row, the mean of its class; over positions too if channels have any."""
    flat = z.reshape(*z.shape[:2], -1).mean(2)
    sums = flat.new_zeros(n_classes, z.shape[1]).index_add(0, labels, flat)
    counts = flat.new_zeros(n_classes).index_add(0, labels, flat.new_ones(len(z)))
    means = sums / counts.clamp(min=1)[:, None]
    return means[labels].reshape(*z.shape[:2], *[1] * (z.ndim - 2))


def hide_channels(rows: Rows, subset: int | None, generator: torch.Generator | None) -> Rows:
    """All channels but a random subset set to 0."""
    if subset is None:
        return rows
    c = rows.z.shape[1]
    shown = torch.randperm(c, generator=generator, device=device_of(generator))[:subset]
    mask = torch.zeros(c, dtype=torch.bool, device=rows.z.device)
    mask[shown.to(rows.z.device)] = True
    return rows._replace(z=rows.z * mask.reshape(1, c, *[1] * (rows.z.ndim - 2)))


def add_noise(rows: Rows, deviation: float, generator: torch.Generator | None) -> Rows:
    """Gaussian noise on every channel.

    Channels that are functions of fewer numbers than there are channels have infinite total
    correlation; with noise it is finite.
    """
    if deviation == 0:
        return rows
    z = rows.z
    device = device_of(generator) or z.device
    noise = torch.randn(z.shape, generator=generator, device=device, dtype=z.dtype)
    return rows._replace(z=z + deviation * noise.to(z.device))
