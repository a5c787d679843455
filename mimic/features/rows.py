"""Rows of channels: samples of a layer's channels, as critics see them."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from common.errors import InputError
from mimic.features.inputs import OddBatchError, check_labels
from mimic.features.shuffling import device_of

# Parts whose output has its channels at axis 1, or at the last one, with the name of their number.
FIRST: dict[type[nn.Module], str] = {_ConvNd: "out_channels", _NormBase: "num_features"}
FIRST |= {nn.GroupNorm: "num_channels"}
LAST: dict[type[nn.Module], str] = {nn.Linear: "out_features", nn.LayerNorm: "normalized_shape"}
LAST |= {nn.RMSNorm: "normalized_shape", nn.Embedding: "embedding_dim"}
LAST |= {nn.MultiheadAttention: "embed_dim"}
Reduce = Literal["pool", "per_location", "map"]
# A channel whose deviation is this share of its size or less varies by rounding only.
RESOLUTION = 1e-6


class Rows(NamedTuple):
    """Samples of channels.

    Attributes:
        z: Channels, `[n c]`, or `[n c …]` where a channel is a map.
        labels: Classes `[n]`. None: no classes.
        positions: Number of consecutive rows that come from one image.
        still: Values that get no noise, `bool` as z. None: all get noise.
    """

    z: Tensor
    labels: Tensor | None = None
    positions: int = 1
    still: Tensor | None = None

    def noisy(self, deviation: float, generator: torch.Generator | None = None) -> "Rows":
        """The rows with Gaussian noise on every channel.

        Channels that are functions of fewer numbers than there are channels have infinite total
        correlation; with noise it is finite.
        """
        if deviation == 0:
            return self
        device = device_of(generator) or self.z.device
        noise = torch.randn(self.z.shape, generator=generator, device=device, dtype=self.z.dtype)
        noise = deviation * noise.to(self.z.device)
        return self._replace(
            z=self.z + (noise if self.still is None else noise.masked_fill(self.still, 0))
        )

    def images(self, chosen: Tensor) -> "Rows":
        """The rows of the images with these indices."""
        p = self.positions
        z, labels, still = (
            None if each is None else each.unflatten(0, (-1, p))[chosen].flatten(0, 1)
            for each in (self.z, self.labels, self.still)
        )
        assert z is not None
        return Rows(z, labels, p, still)


class Reduction(NamedTuple):
    """Rules by which the output of a layer becomes rows of channels.

    Attributes:
        reduce: `pool`: averages over positions, so a sample is an image. `per_location`: every
            position is a sample. `map`: a sample is an image, and its channels are whole maps.
        channel_dim: Axis of the channels. None: the one that the layer tells, see `of`; without a
            layer, the last axis of `[b t c]`, such as tokens, and axis 1 of everything else.
        rows: Approximate number of rows under `per_location`, at positions drawn anew each time.
        subset: Number of channels that critics see, drawn anew each time. None: all channels.
        n_classes: Number of classes, for rows within classes. None: labels are ignored.
        told: Axis and number of channels that a layer tells, and whether other parts of it have
            their channels elsewhere; an axis of 0: the layer tells nothing. None: no layer.
    """

    reduce: Reduce = "pool"
    channel_dim: int | None = None
    rows: int = 1024
    subset: int | None = None
    n_classes: int | None = None
    told: tuple[int, int, bool] | None = None

    def of(self, layer: nn.Module) -> "Reduction":
        """The same rules for a layer, whose last part with channels tells where they are."""
        found = [place for part in layer.modules() if (place := _place(part)) is not None]
        axis, count = found[-1] if found else (0, 0)
        return self._replace(told=(axis, count, len({axis for axis, _ in found}) > 1))

    def describe(self, feature: Tensor) -> str:
        """Number and shape of the channels of a feature."""
        shape = list(self._channels_first(feature).shape)
        what = f"shape {shape[2:]}" if shape[2:] else "single numbers"
        return f"{shape[1]} channels of {what}"

    def standard(
        self,
        feature: Tensor,
        labels: Tensor | None,
        generator: torch.Generator,
        mask: Tensor | None = None,
    ) -> tuple[Rows, Tensor]:
        """Standardised rows for critics, and the number of dead channels.

        Raises:
            ValueError: The feature, or the labels, are not fit to be measured.
        """
        rows, dead = standardize(self(feature, labels, generator, mask), self.n_classes)
        return hide_channels(rows, self.subset, generator), dead.sum()

    def __call__(
        self,
        feature: Tensor,
        labels: Tensor | None = None,
        generator: torch.Generator | None = None,
        mask: Tensor | None = None,
    ) -> Rows:
        """Rows of a feature `[b …]` in float32, with the class of each row.

        Positions where a mask `bool [b …]` is false, such as padding, are left out of averages.

        Raises:
            ValueError: Fewer than two channels, or labels that are missing or do not fit.
        """
        z = self._channels_first(feature).float()
        labels = self._checked(z, labels)
        positions = 1
        if mask is not None:
            z = _masked_mean(z, mask, self.reduce)
        elif z.ndim > 2 and self.reduce == "pool":
            z = z.flatten(2).mean(2)
        elif z.ndim > 2 and self.reduce == "per_location":
            positions, z = self._locations(z.flatten(2), generator)
        if labels is not None:
            labels = labels.long().repeat_interleave(positions)
        return Rows(z, labels, positions)

    def _channels_first(self, feature: Tensor) -> Tensor:
        if feature.ndim < 2:
            raise ValueError(f"got a feature of shape {tuple(feature.shape)}; it has no channels")
        axis = self._axis(feature)
        if not -feature.ndim < axis < feature.ndim or axis % feature.ndim == 0:
            raise ValueError(
                f"got channel_dim {axis} for a feature of shape {tuple(feature.shape)}; the "
                "batch is axis 0"
            )
        return feature.movedim(axis, 1)

    def _axis(self, feature: Tensor) -> int:
        """Axis of the channels of a feature."""
        if self.channel_dim is not None:
            return self.channel_dim
        usual = -1 if feature.ndim == 3 else 1
        if feature.ndim == 2 or self.told is None:
            return usual
        axis, count, mixed = self.told
        fits = [i for i in range(1, feature.ndim) if feature.shape[i] == count]
        if axis % feature.ndim in fits and not (mixed and len(fits) > 1):
            return axis
        if len(fits) == 1:
            return fits[0]  # the layer moves its channels behind its last part
        if axis == 0 and feature.ndim > 3:
            return usual
        raise ValueError(
            f"got a feature of shape {tuple(feature.shape)}, and its layer doesn't tell which "
            "axis has the channels; give channel_dim"
        )

    def _checked(self, z: Tensor, labels: Tensor | None) -> Tensor | None:
        """Labels within which the rows are compared."""
        b, c = z.shape[:2]
        if c < 2:
            raise ValueError("got a feature of 1 channel; give one of 2 channels or more")
        if self.subset is not None and not 2 <= self.subset <= c:
            raise ValueError(f"got subset {self.subset} of {c} channels; give 2 to {c}")
        if self.n_classes is None:
            return None
        if labels is None:
            raise ValueError(
                f"n_classes is {self.n_classes}, so the penalty is within classes and needs the "
                "labels; say where in the batch they are (labels=), or leave out n_classes"
            )
        check_labels(labels, self.n_classes)
        if labels.shape != (b,):
            raise ValueError(
                f"got labels of shape {tuple(labels.shape)} for {b} samples; give one class each"
            )
        return labels

    def _locations(self, z: Tensor, generator: torch.Generator | None) -> tuple[int, Tensor]:
        """About `rows` rows of `[b c l]`: the same positions of each image, image by image."""
        b, c, n = z.shape
        count = max(1, min(n, self.rows // b))
        if count < n:
            chosen = torch.randperm(n, generator=generator, device=device_of(generator))[:count]
            z = z.index_select(2, chosen.to(z.device))
        return count, z.transpose(1, 2).reshape(b * count, c)


def _masked_mean(z: Tensor, mask: Tensor, reduce: Reduce) -> Tensor:
    """Averages of `[b c …]` over the positions of a mask `[b …]`."""
    if reduce != "pool" or z.ndim < 3 or mask.shape != (len(z), *z.shape[2:]):
        raise InputError(
            f"got a mask of shape {list(mask.shape)} for channels of shape {list(z.shape)}, "
            f"reduced by {reduce}; a mask needs reduce pool, and a value for each position"
        )
    inside = mask.bool()[:, None].to(z.device)
    if not bool(inside.flatten(1).any(1).all()):
        raise OddBatchError("got a sample whose mask leaves no position; leave that sample out")
    sums = z.masked_fill(~inside, 0).flatten(2).sum(2)
    return sums / inside.flatten(2).sum(2)


def _place(part: nn.Module) -> tuple[int, int] | None:
    """Axis and number of the channels of a part's output. None: a part that doesn't tell."""
    for axis, kinds in ((1, FIRST), (-1, LAST)):
        for kind, attribute in kinds.items():
            if isinstance(part, kind):
                count = getattr(part, attribute)
                if isinstance(count, int):
                    return axis, count
                if len(count) == 1:  # a norm over several axes has no axis of channels
                    return axis, int(count[0])
    if isinstance(part, nn.RNNBase):
        return -1, (part.proj_size or part.hidden_size) * (1 + part.bidirectional)
    return None


def standardize(rows: Rows, n_classes: int | None = None) -> tuple[Rows, Tensor]:
    """Channels of mean 0 and variance 1, which leaves total correlation as it is.

    Within classes the mean of each class is subtracted, not the common mean.

    Returns:
        The rows, and which channels are dead, `bool [c]`: these do not vary and are set to 0.

    Raises:
        ValueError: Fewer than two images, or all channels are dead.
    """
    if (count := len(rows.z) // rows.positions) < 2:
        raise OddBatchError(
            f"got a batch of {count}: what channels share can't be seen in fewer than 2 samples; "
            "raise the batch size, or set drop_last on the loader"
        )
    size = rows.z.detach().abs().amax(_all_but_channels(rows.z), keepdim=True)
    z = centre(rows, n_classes).z
    variance = z.square().mean(_all_but_channels(z), keepdim=True)
    dead = variance.detach().sqrt() <= RESOLUTION * size
    if bool(dead.all()):
        within = "" if n_classes is None else ", or every class has one sample in the batch"
        raise OddBatchError(
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


def hide_channels(rows: Rows, subset: int | None, generator: torch.Generator | None) -> Rows:
    """All channels except a random subset set to 0."""
    if subset is None:
        return rows
    c = rows.z.shape[1]
    shown = torch.randperm(c, generator=generator, device=device_of(generator))[:subset]
    mask = torch.zeros(c, dtype=torch.bool, device=rows.z.device)
    mask[shown.to(rows.z.device)] = True
    return rows._replace(z=rows.z * mask.reshape(1, c, *[1] * (rows.z.ndim - 2)))


def _all_but_channels(z: Tensor) -> list[int]:
    return [axis for axis in range(z.ndim) if axis != 1]


def _class_means(z: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """Mean of each row's class, also over positions if channels are maps."""
    flat = z.reshape(*z.shape[:2], -1).mean(2)
    sums = flat.new_zeros(n_classes, z.shape[1]).index_add(0, labels, flat)
    counts = flat.new_zeros(n_classes).index_add(0, labels, flat.new_ones(len(z)))
    means = sums / counts.clamp(min=1)[:, None]
    return means[labels].reshape(*z.shape[:2], *[1] * (z.ndim - 2))
