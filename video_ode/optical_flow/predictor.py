"""Frames after the given ones by the warping ODE: the prediction mode."""

import torch
from torch import Tensor

from common.errors import InputError
from common.inputs import ArrayLike
from common.typing import ImageShape, Times, Video, Videos
from video_ode.optical_flow.losses import MotionLoss, total
from video_ode.optical_flow.motion import Motion
from video_ode.optical_flow.network import MotionPyramid
from video_ode.optical_flow.warping import CoordinateWarping, Warping
from video_ode.predictor import TrainablePredictor, finite


class WarpingPredictor(TrainablePredictor):
    """Video predictor by the warping ODE: it moves the pixels of the last given frame.

    A network estimates the velocity of the pixels from the last given frame, the anchor, and one
    or more frames before it, for times before and after it; the warping ODE carries the pixels to
    any of these times (Predoc III, eq. 5.1-5.3). After the last map of the network, the velocity
    at each place stays as it is. One frame alone does not tell how it moves: two or more are
    needed. The frames must be evenly spaced, and all observed.

    Args:
        network: Network with the other frames at `[-1]`, or `[-1, -2]` and so on. None: one other
            frame, and maps at the times from -1 to 4.
        warping: Solver of the warping ODE. None: coordinates by the network's solver.
        loss: Training loss. None: the default one.
        shape: Channels, height and width of the frames. None: any size.

    Raises:
        InputError: The network is for other frames.
    """

    def __init__(
        self,
        network: MotionPyramid | None = None,
        warping: Warping | None = None,
        loss: MotionLoss | None = None,
        shape: ImageShape | None = None,
    ) -> None:
        super().__init__()
        self.network = network or MotionPyramid((-1.0,), tuple(map(float, range(-1, 5))))
        self.past = len(self.network.others)
        if self.network.others != tuple(-1.0 - k for k in range(self.past)):
            raise InputError(
                f"got a network with other frames at {list(self.network.others)}; the prediction "
                "needs others: [-1], or [-1, -2] and so on"
            )
        self.warping = warping or CoordinateWarping(self.network.solver)
        self.motion_loss = loss or MotionLoss()
        self.shape, self.channels = shape, self.network.channels

    def motion(self, video: Video, anchor: int) -> Motion:
        """Motion around a frame of videos `[b t c h w]`, at time 0, from it and those before."""
        own, *others = (video[:, k] for k in self._seen(anchor))
        return self.network(own, others)

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
        """Frames at any times, warped from the first given frame that isn't before them.

        Frames after the last given one are warped from it, and those near the first ones from the
        first one that has enough frames before it. There is no randomness: all samples are equal.
        """
        frames, units = self.framewise(video, times, target_times, n_samples, mask, backward=True)
        self._check_frames(frames, "given")
        anchors = units.ceil().clamp(self.past, frames.shape[1] - 1).int()
        found = frames.new_empty(len(frames), len(units), *frames.shape[2:])
        for anchor in anchors.unique().tolist():
            chosen = anchors == anchor
            motion = self.motion(frames, anchor)
            asked = (units[chosen] - anchor).to(frames)
            found[:, chosen] = self.warping(frames[:, anchor], motion.field, 0.0, asked).frames
        return found.expand(n_samples, -1, -1, -1, -1, -1)

    def loss(
        self, video: ArrayLike, times: ArrayLike, mask: ArrayLike, n_cond: int, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the other frames, warped from the last of the first `n_cond` frames.

        All later frames count, and the frames before it from which the network sees the motion.
        """
        frames, units = self.framewise(video, times, mask=mask)
        anchor = n_cond - 1
        self._check_frames(frames[:, :n_cond], "conditioning")
        pyramid = self.network.pyramid(frames)
        motions = self.network.levels([level[:, self._seen(anchor)] for level in pyramid])
        others = [k for k in range(anchor - self.past, len(units)) if k != anchor]
        moments: Times = (units[others] - anchor).to(frames)
        photometric, smooth = [], []
        for video, motion in list(zip(pyramid, motions, strict=True))[: self.motion_loss.levels]:
            found = self.warping(video[:, anchor], motion.field, 0.0, moments)
            sure = motion.confident(moments)
            photometric.append(self.motion_loss(found.frames, video[:, others], sure, found.valid))
            smooth.append(self.motion_loss.smoothness(motion, video[:, anchor]))
        return total(photometric, smooth)

    def _seen(self, anchor: int) -> list[int]:
        """Numbers of the anchor and of the frames before it that the network sees."""
        return list(range(anchor, anchor - self.past - 1, -1))

    def _check_frames(self, frames: Video, name: str) -> None:
        if frames.shape[1] <= self.past:
            raise InputError(
                f"got {frames.shape[1]} {name} frames; this network sees the motion from "
                f"{self.past + 1} or more"
            )
