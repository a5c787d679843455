"""Optical flow between two frames, and frames between them: the estimation mode."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from common.errors import InputError
from common.inputs import ArrayLike, as_pixels
from common.nn.shipped import with_weights
from common.ode.solve import Solver
from common.typing import FlowField, Image, ImageShape, Mask, Times, Video, Videos
from video_ode.optical_flow.losses import MotionLoss, total, visible_both_ways
from video_ode.optical_flow.motion import Motion
from video_ode.optical_flow.network import MotionPyramid
from video_ode.optical_flow.warping import CoordinateWarping, Warping
from video_ode.predictor import Request, TrainablePredictor, finite
from video_ode.times import shared_times

WEIGHTS = Path(__file__).with_name("flow.safetensors")
ONE_STEP = Solver("euler", step_size=1.0)
LEAST = 1e-3  # least weight of the unmoved frames, so that weights are never all 0


class Flows(NamedTuple):
    """Optical flow between two frames, in pixels to the right and down.

    Attributes:
        flow: From the first frame to the last, on the grid of the first, `[b 2 h w]`.
        back: From the last frame to the first, on the grid of the last.
        visible: Where a point of the first frame is seen in the last one too, by the
            forward-backward check, `bool [b h w]`.
    """

    flow: FlowField
    back: FlowField
    visible: Tensor


class FlowEstimator(TrainablePredictor):
    """Optical flow by the warping ODE, in estimation mode: from two frames of a video.

    A network estimates the velocity of the pixels from the two frames, for times from the first
    (0) to the last (1). The warping ODE carries the pixels along. So it gives the flow and also
    frames at any times (Predoc III, section 5.4). A frame between the two is warped from both,
    each with a motion of its own, and mixed by nearness in time and by confidence.

    Args:
        network: Network with the one other frame at the time 1. None: the default one, with one
            Euler step as its solver: a frame at time t is moved by t times the map of its time.
        warping: Solver of the warping ODE. None: coordinates by the network's solver. The maps
            suit the solver that they were trained with.
        loss: Training loss. None: the default one.
        shape: Channels, height and width of the frames. None: any size.

    Raises:
        InputError: The network is for other frames.
    """

    # A method without arguments, because checkpoints may name no others.
    @classmethod
    def pretrained(cls) -> "FlowEstimator":
        """Model with the weights that ship, which suits frames of any size.

        `python -m video_ode.optical_flow.train_flow` makes them again. It is in evaluation mode.
        """
        return with_weights(cls(), WEIGHTS)

    def __init__(
        self,
        network: MotionPyramid | None = None,
        warping: Warping | None = None,
        loss: MotionLoss | None = None,
        shape: ImageShape | None = None,
    ) -> None:
        super().__init__()
        self.network = network or MotionPyramid(solver=ONE_STEP)
        if self.network.others != (1.0,):
            raise InputError(
                f"got a network with other frames at {list(self.network.others)}; the estimation "
                "needs others: [1]"
            )
        self.warping = warping or CoordinateWarping(self.network.solver)
        self.motion_loss = loss or MotionLoss()
        self.shape, self.channels = shape, self.network.channels

    def flows(self, first: ArrayLike, last: ArrayLike) -> Flows:
        """Optical flow between two frames.

        Args:
            first: First frames, `[b c h w]`: bytes, or floats in `[0, 1]`.
            last: Last frames of the same shape.

        Raises:
            InputError: Frames of another kind or of different shapes.
        """
        first, last = self._pair(first, last)
        forward, backward = self.motions(first, last)
        start = first.new_zeros(1)
        # The last frame, warped to the time of the first one, and the other way round.
        flow = self.warping(last, forward.field, 1.0, start).displacement[:, 0]
        back = self.warping(first, backward.field, 1.0, start).displacement[:, 0]
        return Flows(flow, back, visible_both_ways(flow, back))

    def between(self, first: ArrayLike, last: ArrayLike, shares: Times) -> Video:
        """Frames `[b t c h w]` between two frames, from 0 (the first) to 1 (the last).

        Shares below 0 and above 1 continue the motion.

        Args:
            first: First frames, `[b c h w]`: bytes, or floats in `[0, 1]`.
            last: Last frames of the same shape.
            shares: Times of the frames, `[t]`.

        Raises:
            InputError: Frames of another kind or of different shapes.
        """
        return self._between(*self._pair(first, last), shares)

    def velocities(self, first: ArrayLike, last: ArrayLike, shares: Times) -> Video:
        """Velocity of each pixel at the times of `between`, `[b t 2 h w]`, in pixels.

        The unit of time is the distance of the two frames; the motion is that of the first frame.
        """
        motion, _ = self.motions(*self._pair(first, last))
        return motion.at(shares)

    def motions(self, first: Image, last: Image) -> tuple[Motion, Motion]:
        """Motion of the first frame, at times from 0 to 1, and that of the last frame back."""
        return self.network(torch.cat([first, last]), [torch.cat([last, first])]).split()

    @torch.no_grad()
    @finite(axis=2)
    def predict(
        self,
        video: ArrayLike,
        times: ArrayLike,
        target_times: ArrayLike,
        n_samples: int = 1,
        mask: ArrayLike | None = None,
    ) -> Videos:
        """Frames at any times, from the two given frames around each of them.

        Before the first and after the last given frame, the motion of the nearest pair goes on.
        There is no randomness: all samples are equal.
        """
        asked = self.checked(video, times, target_times, n_samples, mask)
        return torch.cat([self._video(*each[:3]) for each in _alike(asked)]).expand(
            n_samples, -1, -1, -1, -1, -1
        )

    def loss(
        self, video: ArrayLike, times: ArrayLike, mask: ArrayLike, n_cond: int, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the motion from the first frame to the last, and back, without its truth.

        All frames between count too, at their fractional times: only frames, not flows, are known.
        """
        frames, at, _, seen_frames = self.checked(video, times, mask=mask)
        at = shared_times(at, type(self).__name__)
        if len(at) < 2:
            raise InputError("got videos of 1 frame; give 2 or more: raise data.n_frames")
        check_observed(seen_frames)
        at = ((at - at[0]) / (at[-1] - at[0])).to(frames)
        both = self.network.pyramid(torch.cat([frames, frames.flip(1)]))
        motions = self.network.levels([level[:, [0, -1]] for level in both])
        check = progress > self.motion_loss.check
        found = [
            self._level_loss(*each, at, check)
            for each in list(zip(both, motions, strict=True))[: self.motion_loss.levels]
        ]
        photometric, smooth = zip(*found, strict=True)
        return total(photometric, smooth)

    def _level_loss(
        self, both: Video, motion: Motion, at: Times, check: bool
    ) -> tuple[Tensor, Tensor]:
        """Photometric loss and smoothness on one level.

        Args:
            both: Videos, and then the same ones backward.
            motion: Motions of their first frames.
            at: Times of the frames, from 0 to 1.
            check: Whether pixels must pass the forward-backward check.
        """
        moments = (at, 1 - at.flip(0))
        sides = list(zip(both.chunk(2), motion.split(), moments, strict=True))
        starts = [self.warping(video[:, -1], way.field, 1.0, at[:1]) for video, way, _ in sides]
        seen = [start.valid for start in starts]
        if check:
            flows = [start.displacement[:, 0].detach() for start in starts]
            seen = [visible_both_ways(*pair)[:, None] for pair in (flows, flows[::-1])]
        losses, between = [], []
        for i, (video, way, times) in enumerate(sides):
            back = sides[1 - i][1].confident(at[-1:])
            losses.append(self.motion_loss(starts[i].frames, video[:, :1], back, seen[i]))
            later = self.warping(video[:, 0], way.field, 0.0, times[1:])
            visible = torch.cat([later.valid[:, :-1], later.valid[:, -1:] & seen[1 - i]], 1)
            sure = way.confident(times[1:])
            losses.append(self.motion_loss(later.frames, video[:, 1:], sure, visible))
            between.append((later.frames[:, :-1], sure[:, :-1]))
        if len(at) > 2:
            (one, nearer), (two, later_sure) = between
            video, shares = sides[0][0], at[1:-1]
            still = blended(video[:, 0], video[:, -1], shares)
            found = _mixed(one, two.flip(1), still, nearer, later_sure.flip(1), shares)
            losses.append(self.motion_loss.mixed(found, video[:, 1:-1]))
        return torch.stack(losses).sum(), self.motion_loss.smoothness(motion, both[:, 0])

    def _pair(self, first: ArrayLike, last: ArrayLike) -> tuple[Image, Image]:
        weight = next(self.parameters())
        one, two = (as_pixels(x, 4, self.shape, weight) for x in (first, last))
        if one.shape != two.shape:
            raise InputError(
                f"got frames of {list(one.shape)} and {list(two.shape)}; give two of equal shape"
            )
        return one, two

    def _between(self, first: Image, last: Image, shares: Times) -> Video:
        forward, backward = self.motions(first, last)
        shares = shares.to(first)
        one = self.warping(first, forward.field, 0.0, shares).frames
        two = self.warping(last, backward.field, 0.0, 1 - shares).frames
        still = blended(first, last, shares.clamp(0, 1))
        sure = forward.confident(shares), backward.confident(1 - shares)
        return _mixed(one, two, still, *sure, shares)

    def _video(self, video: Video, times: Tensor, target_times: Tensor) -> Video:
        """Frames at the target times, from videos whose frames are all observed."""
        if len(times) < 2:
            raise InputError(
                f"got 1 observed frame; {type(self).__name__} estimates motion from two or more"
            )
        first = (torch.searchsorted(times, target_times, right=True) - 1).clamp(0, len(times) - 2)
        found = video.new_empty(len(video), len(target_times), *video.shape[2:])
        for i in first.unique().tolist():
            chosen = first == i
            shares = (target_times[chosen] - times[i]) / (times[i + 1] - times[i])
            found[:, chosen] = self._between(video[:, i], video[:, i + 1], shares)
        return found


def blended(first: Image, last: Image, shares: Times) -> Video:
    """Frames `[b t c h w]` between two frames `[b c h w]`: mixtures of both, without motion."""
    return torch.lerp(first[:, None], last[:, None], shares[:, None, None, None].to(first))


def _mixed(
    one: Video, two: Video, still: Video, sure_of_one: Tensor, sure_of_two: Tensor, shares: Times
) -> Video:
    """Mixture of frames that were warped from the first (0) and from the last frame (1).

    The weights are nearness in time times confidence; beyond the ends, the nearer frame counts
    alone. Where neither is sure, the frames `still`, which are mixed without motion, count.
    """
    near = shares.clamp(0, 1)[:, None, None]
    neither = LEAST + (1 - sure_of_one) * (1 - sure_of_two)
    weights = torch.stack([(1 - near) * sure_of_one, near * sure_of_two, neither]).unsqueeze(3)
    return (weights * torch.stack([one, two, still])).sum(0) / weights.sum(0)


def check_observed(mask: Mask) -> None:
    """Checks that a model may see all frames.

    Raises:
        InputError: It may not.
    """
    if not bool(mask.all()):
        raise InputError(
            f"got videos with {int((~mask).sum())} unobserved frames, but the motion needs all; "
            "set data.observed 1"
        )


def _alike(asked: Request) -> Iterator[Request]:
    """Requests of videos that have their times and all observed frames in common."""
    video, times, targets, mask = asked
    if times.ndim == 1 and targets.ndim == 1 and bool((mask == mask[:1]).all()):
        yield Request(video[:, mask[0]], times[mask[0]], targets, mask)
        return
    for i, seen in enumerate(mask):
        own, target = (x[i] if x.ndim == 2 else x for x in (times, targets))
        yield Request(video[i : i + 1, seen], own[seen], target, mask[i : i + 1])
