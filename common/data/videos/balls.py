"""Bouncing balls, simulated when they are served."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from common.data.base import Split
from common.data.videos.base import Clip
from common.data.videos.simulated import (
    REDRAWN,
    START,
    Motion,
    MotionState,
    Simulated,
    Simulator,
    VideoDraws,
    directions,
    straight_on,
)
from common.errors import InputError, check_counts
from common.typing import Integers, PixelVideo, Times


class BallTrajectories(NamedTuple):
    """Motion of the balls as (y, x), `float64 [b t n 2]`.

    Attributes:
        centres: Centres of the balls in px, from the upper left corner of the canvas.
        velocities: Velocities in px per frame; at a collision, those just after it.
    """

    centres: Tensor
    velocities: Tensor


class BouncingBalls(Simulated[BallTrajectories]):
    """Balls of equal mass that bounce off the walls and off one another without loss of energy.

    The default radius and speed are those of Sutskever et al. (2008), but here the motion is
    solved exactly from collision to collision. Balls start at random places without overlap. Their
    velocities are normally distributed, and scaled to the same energy in all videos.

    Args:
        n_balls: Number of balls in a video.
        radius: Radius of the balls, in px.
        speed: Root mean square of the speeds of the balls, in px per frame.
        canvas: Height and width of a frame, in px.
    """

    def __init__(
        self,
        n_balls: int = 3,
        radius: float = 3.84,
        speed: float = 0.92,
        canvas: int = 32,
        **serving: Any,
    ) -> None:
        super().__init__(**serving)
        self.n_balls, self.canvas, self.shape = n_balls, canvas, (1, canvas, canvas)
        self.motion = ElasticMotion(n_balls, radius, speed, canvas)

    def simulator(self, split: Split) -> "BallSimulator":
        return BallSimulator(split, self.motion, self.n_balls, self.canvas)

    def baselines(self, clip: Clip, n_cond: int) -> dict[str, PixelVideo]:
        """`constant velocity`: straight on from the last conditioning frame; no collisions."""
        simulator = self.simulator("test")
        balls = simulator.trajectories(clip.number, clip.times)
        centres = straight_on(balls.centres, balls.velocities, clip.times, n_cond)
        frames = simulator.drawn(centres).to(clip.frames.device)
        frames[:, :n_cond] = clip.frames[:, :n_cond]
        return {"constant velocity": frames}


class BallSimulator(Simulator[BallTrajectories]):
    """Renderer of the bouncing balls of one split.

    Args:
        split: The split.
        motion: Law of motion of the balls.
        n_balls: Number of balls in a video.
        canvas: Height and width of a frame, in px.
    """

    def __init__(self, split: Split, motion: "ElasticMotion", n_balls: int, canvas: int) -> None:
        super().__init__(split, n_balls)
        self.motion, self.canvas = motion, canvas

    def trajectories(self, numbers: Integers, times: Times) -> BallTrajectories:
        """Exact motion of the balls at any times from 0 on."""
        draws = self.draws(numbers, times)
        state = self.motion.path(draws, times.cpu().double().numpy())
        return BallTrajectories(*map(torch.from_numpy, state))

    def videos(self, numbers: Integers, times: Times) -> PixelVideo:
        return self.drawn(self.trajectories(numbers, times).centres)

    def drawn(self, centres: Tensor) -> PixelVideo:
        """Frames of balls with these centres: white discs with an edge one pixel wide."""
        pixels = torch.arange(self.canvas, dtype=torch.float32) + 0.5
        frames = []
        for centre in centres.unbind(1):
            y, x = (pixels - centre[..., None].float()).square().unbind(2)
            distance = (y[..., :, None] + x[..., None, :]).sqrt()
            inside = (self.motion.radius + 0.5 - distance).clamp(0, 1).amax(1)
            frames.append((255 * inside).round().byte())
        return torch.stack(frames, 1)[:, :, None]


class ElasticMotion(Motion):
    """Exact motion of discs of equal mass in a square box, from one collision to the next.

    Args:
        n_balls: Number of discs.
        radius: Radius of the discs, in px.
        speed: Root mean square of their speeds, in px per frame.
        canvas: Side of the box, in px.

    Raises:
        InputError: There is no disc, the speed is negative, or the discs do not fit into the box.
    """

    ATTEMPTS = 10000

    def __init__(self, n_balls: int, radius: float, speed: float, canvas: int) -> None:
        check_counts(1, n_balls=n_balls)
        check_counts(0, speed=speed)
        free = canvas - 2 * radius
        if not 0 < radius < canvas / 2:
            raise InputError(
                f"got radius {radius} on a canvas of {canvas}; give less than half of the canvas"
            )
        # Places are drawn until no balls overlap. This is the approximate share of such draws.
        apart = max(0.0, 1 - math.pi * (2 * radius / free) ** 2) ** math.comb(n_balls, 2)
        if apart < 0.01:
            raise InputError(
                f"got {n_balls} balls of radius {radius} on a canvas of {canvas}, where they "
                "hardly fit; lower n_balls or radius or raise canvas"
            )
        self.radius, self.speed, self.free = radius, speed, free
        self.pairs = np.triu_indices(n_balls, 1)

    def start(self, draws: VideoDraws) -> MotionState:
        angle, size = np.moveaxis(draws(2, START), -1, 0)
        # Box-Muller transform: two independent normal numbers for each ball.
        normal = np.sqrt(-2 * np.log1p(-size))[..., None] * directions(2 * math.pi * angle)
        energy = np.square(normal).sum(-1).mean(-1)[:, None, None]
        return MotionState(self._places(draws), self.speed * normal / np.sqrt(energy))

    def travel(
        self, state: MotionState, duration: float, frame: int, draws: VideoDraws
    ) -> MotionState:
        place, velocity = state.positions.copy(), state.velocities.copy()
        left = np.full(len(place), duration)
        while True:
            events = self._collisions(place, velocity)
            event = events.argmin(1)
            wait = events[np.arange(len(events)), event]
            step = np.minimum(wait, left)
            place += velocity * step[:, None, None]
            hit = np.flatnonzero(wait < left)
            if not len(hit):
                return MotionState(place, velocity)
            left -= step
            velocity[hit] = self._after(place[hit], velocity[hit], event[hit])

    def _collisions(self, place: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        """Times until the next collisions, `[b events]`.

        First the time of each ball to its next wall along y and along x, then the time of each
        pair of balls until it meets. Infinite: no such collision.
        """
        wall = self.radius + self.free * (velocity > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            walls = np.where(velocity, (wall - place) / velocity, np.inf)
            i, j = self.pairs
            gap, closing = place[:, j] - place[:, i], velocity[:, j] - velocity[:, i]
            # Smaller solution t of |gap + t closing| = 2 radius.
            a, b = np.square(closing).sum(-1), (gap * closing).sum(-1)
            root = b**2 - a * (np.square(gap).sum(-1) - 4 * self.radius**2)
            pairs = np.where((b < 0) & (root > 0), (-b - np.sqrt(root)) / a, np.inf)
        # If two balls touch, rounding errors may give a negative time.
        return np.concatenate([walls.reshape(len(walls), -1), pairs], 1).clip(0)

    def _after(self, place: np.ndarray, velocity: np.ndarray, event: np.ndarray) -> np.ndarray:
        """Velocities after the collisions with the numbers `event`, one in each video.

        A wall reverses one component of the velocity. Two balls exchange their components along
        the line through their centres.
        """
        n_walls = place[0].size
        at_wall = np.arange(n_walls) == event[:, None]
        velocity = np.where(at_wall.reshape(velocity.shape), -velocity, velocity)
        met = np.flatnonzero(event >= n_walls)
        i, j = (ball[event[met] - n_walls] for ball in self.pairs)
        line = place[met, j] - place[met, i]
        line /= np.sqrt(np.square(line).sum(-1, keepdims=True))
        closing = ((velocity[met, i] - velocity[met, j]) * line).sum(-1, keepdims=True) * line
        velocity[met, i] -= closing
        velocity[met, j] += closing
        return velocity

    def _places(self, draws: VideoDraws) -> np.ndarray:
        """Random centres of balls that do not overlap, `[b n 2]`."""
        i, j = self.pairs
        place = np.zeros((len(draws.numbers), draws.n_objects, 2))
        overlap = np.ones(len(place), dtype=bool)
        for attempt in range(self.ATTEMPTS):
            drawn = self.radius + self.free * draws(2, REDRAWN + attempt)
            place[overlap] = drawn[overlap]
            gap = np.square(place[:, i] - place[:, j]).sum(-1)
            overlap = (gap < 4 * self.radius**2).any(-1)
            if not overlap.any():
                return place
        raise InputError("found no place for the balls; lower n_balls or radius or raise canvas")
