"""Losses of optical flow that is learned without its truth."""

import abc
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.errors import check_counts, check_positive, check_shares
from common.nn.warping import sampled
from common.typing import Image, Video
from video_ode.optical_flow.motion import Motion
from video_ode.optical_flow.warping import inside, pixel_places

CHARBONNIER = 1e-3  # differences well below it count as squares
LEAST_ERROR = 1e-6  # added to mean squared errors: PSNR above 60 dB is worth little
SSIM_1, SSIM_2 = 0.01**2, 0.03**2


class PhotometricLoss(nn.Module, abc.ABC):
    """Abstract loss between true frames and frames that were warped from another one."""

    @abc.abstractmethod
    def forward(
        self, warped: Tensor, truth: Tensor, confidence: Tensor, visible: Tensor
    ) -> Tensor:
        """Mean loss, a scalar.

        Args:
            warped: Warped frames `[b c h w]` in `[0, 1]`.
            truth: True frames of the same shape.
            confidence: Probability that a pixel is seen in the frame that was warped, `[b 1 h w]`.
            visible: Pixels that count, 1 or 0, `[b 1 h w]`.
        """


class RobustLoss(PhotometricLoss):
    """Charbonnier loss and structural dissimilarity; it leaves the confidence alone.

    `(1 - a) √(d² + ε²) + a (1 - SSIM) / 2`, where SSIM has windows of 3 x 3 pixels.

    Args:
        structure: Share `a` of the structural dissimilarity.
    """

    def __init__(self, structure: float = 0.85) -> None:
        super().__init__()
        check_shares(structure=structure)
        self.structure = structure

    def forward(
        self, warped: Tensor, truth: Tensor, confidence: Tensor, visible: Tensor
    ) -> Tensor:
        return _mean(difference(warped, truth, self.structure), visible)


class LaplaceMixture(PhotometricLoss):
    """Negative log-likelihood of the differences as a mixture of two Laplace distributions.

    A narrow one where the pixel is seen in the warped frame, and a wide one where it is hidden or
    new; the confidence is the probability of the first. It is the mixture that SEA-RAFT (Wang et
    al. 2024) has for errors of supervised flow, and the differences are those of `RobustLoss`.

    Args:
        structure: Share of the structural dissimilarity.
        narrow: Scale of the narrow distribution, in grey levels from 0 to 1.
        wide: Scale of the wide distribution.
    """

    def __init__(self, structure: float = 0.85, narrow: float = 0.03, wide: float = 0.3) -> None:
        super().__init__()
        check_shares(structure=structure)
        check_positive(narrow=narrow, wide=wide)
        self.structure, self.narrow, self.wide = structure, narrow, wide

    def forward(
        self, warped: Tensor, truth: Tensor, confidence: Tensor, visible: Tensor
    ) -> Tensor:
        found = difference(warped, truth, self.structure)
        share = confidence.clamp(1e-4, 1 - 1e-4)
        near = share.log() - math.log(self.narrow) - found / self.narrow
        far = (1 - share).log() - math.log(self.wide) - found / self.wide
        # In units of the narrow scale, so that it has the size of the other losses.
        return -self.narrow * _mean(torch.logaddexp(near, far), visible)


class MotionLoss(nn.Module):
    """Loss of a motion that is learned from frames alone: photometric loss and smoothness.

    Args:
        photometric: Loss between warped frames and true ones. None: `RobustLoss`.
        smooth: Weight of the edge-aware smoothness of the velocity.
        edge: How much an edge of the frame lowers the smoothness; 0: not at all.
        steady: Weight of the mean change of the velocity from one map to the next in time. The
            frames alone don't tell how fast the pixels move at each moment between them.
        order: Order of the derivative of the velocity in the smoothness.
        check: Share of the training from which on hidden pixels, by the forward-backward check,
            are left out; only the estimation mode has both directions. 1: never.
        mixture: Weight of the negative PSNR, in units of 10 dB, of frames that are warped from
            both given frames and mixed; it is what trains the confidence for `RobustLoss`.
        levels: Number of levels of the pyramid whose motions have a loss, finest first.

    Raises:
        InputError: Numbers out of range.
    """

    def __init__(
        self,
        photometric: PhotometricLoss | None = None,
        smooth: float = 0.7,
        edge: float = 10.0,
        steady: float = 0.05,
        order: Literal[1, 2] = 1,
        check: float = 0.2,
        mixture: float = 0.3,
        levels: int = 3,
    ) -> None:
        super().__init__()
        check_counts(0, smooth=smooth, edge=edge, steady=steady, mixture=mixture)
        check_shares(check=check)
        check_counts(1, levels=levels)
        self.photometric = photometric or RobustLoss()
        self.smooth, self.edge, self.steady, self.order = smooth, edge, steady, order
        self.check, self.mixture, self.levels = check, mixture, levels

    def forward(self, warped: Video, truth: Video, confidence: Tensor, visible: Tensor) -> Tensor:
        """Photometric loss of frames `[b t c h w]`, see `PhotometricLoss`.

        Args:
            warped: Warped frames.
            truth: True frames.
            confidence: Probability that a pixel is seen in the warped frame, `[b t h w]`.
            visible: Pixels that count, `bool [b t h w]`.
        """
        rows = (confidence.unsqueeze(2), visible.unsqueeze(2).to(warped))
        return self.photometric(*(x.flatten(0, 1) for x in (warped, truth, *rows)))

    def mixed(self, found: Video, truth: Video) -> Tensor:
        """Weighted loss of frames that were mixed from both given ones: their negative PSNR."""
        error = (found - truth).square().flatten(2).mean(2)
        return self.mixture * (error + LEAST_ERROR).log10().mean()

    def smoothness(self, motion: Motion, frame: Image) -> Tensor:
        """Weighted smoothness of all maps of the velocity, on the grid of the anchor."""
        maps = motion.velocity.flatten(1, 2)
        loss = self.smooth * smoothness(maps, frame, self.edge, self.order)
        if len(motion.times) > 1:
            loss = loss + self.steady * motion.velocity.diff(dim=1).abs().mean()
        return loss


def total(
    photometric: Sequence[Tensor], smooth: Sequence[Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Training loss: photometric loss and smoothness, means over the levels; and both by name."""
    parts = [torch.stack(tuple(losses)).mean() for losses in (photometric, smooth)]
    names = ("photometric", "smoothness")
    return parts[0] + parts[1], {n: x.detach() for n, x in zip(names, parts, strict=True)}


def difference(x: Tensor, y: Tensor, structure: float) -> Tensor:
    """Difference of frames at each pixel `[b 1 h w]`, `structure` of it from SSIM."""
    colour = ((x - y).square() + CHARBONNIER**2).sqrt()
    if structure:
        colour = (1 - structure) * colour + structure * (1 - _ssim(x, y)) / 2
    return colour.mean(1, keepdim=True)


def smoothness(
    motion: Tensor, frame: Tensor, edge: float = 10.0, order: Literal[1, 2] = 1
) -> Tensor:
    """Edge-aware smoothness: mean change of a motion from pixel to pixel, less so at edges.

    `|∂m| exp(-edge |∂I|)`, along rows and along columns (Heise et al. 2013); for order 2,
    `|∂²m|`, which is 0 for motions that change evenly, such as those of a road seen from a car.

    Args:
        motion: Flow or velocity `[b m h w]`.
        frame: Frame `[b c h w]` in `[0, 1]` on the same grid.
        edge: How much an edge of the frame lowers the loss; 0: not at all.
        order: Order of the derivative of the motion.
    """
    parts = []
    for axis in (-1, -2):
        steps, change = motion.diff(dim=axis), frame.diff(dim=axis).abs().mean(1, keepdim=True)
        if order == 2 and change.shape[axis] > 1:
            steps, n = steps.diff(dim=axis), change.shape[axis] - 1
            change = torch.maximum(change.narrow(axis, 0, n), change.narrow(axis, 1, n))
        parts.append((steps.abs() * (-edge * change).exp()).mean())
    return torch.stack(parts).sum()


def visible_both_ways(flow: Tensor, back: Tensor) -> Tensor:
    """Pixels that are seen in the other frame too, by the forward-backward check.

    There the backward flow leads back: `|f + b|² < 0.01 (|f|² + |b|²) + 0.5`, with `b` at the
    place to which `f` leads (Sundaram et al. 2010).

    Args:
        flow: Flow from the first frame to the second, `[b 2 h w]` in pixels.
        back: Flow from the second frame to the first.

    Returns:
        `bool [b h w]` on the grid of the first frame; false where the flow leads outside.
    """
    places = pixel_places(flow) + flow
    back = sampled(back, places)
    error = (flow + back).square().sum(1)
    length = flow.square().sum(1) + back.square().sum(1)
    return (error < 0.01 * length + 0.5) & inside(places, *flow.shape[-2:])


def _ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity at each pixel, with windows of 3 x 3 pixels."""

    def mean(z: Tensor) -> Tensor:
        # Several times as fast as avg_pool2d.
        z = functional.pad(z, (1,) * 4, mode="replicate")
        z = z[..., :-2] + z[..., 1:-1] + z[..., 2:]
        return (z[..., :-2, :] + z[..., 1:-1, :] + z[..., 2:, :]) / 9

    mx, my = mean(x), mean(y)
    vx, vy = mean(x * x) - mx * mx, mean(y * y) - my * my
    cov = mean(x * y) - mx * my
    same = (2 * mx * my + SSIM_1) / (mx * mx + my * my + SSIM_1)
    return same * (2 * cov + SSIM_2) / (vx + vy + SSIM_2)


def _mean(values: Tensor, visible: Tensor) -> Tensor:
    return (values * visible).sum() / visible.sum().clamp(min=1)
