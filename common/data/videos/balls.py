"""Bouncing balls, simulated on the fly."""

import math
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from common.data.base import Split
from common.data.videos.base import Clip
from common.data.videos.simulated import (
    REDRAWN,
    START,
    Draws,
    Motion,
    Simulated,
    State,
    checked,
    directions,
    straight_on,
)
from common.errors import InputError
from common.typing import Integers, PixelVideo, Times


class Balls(NamedTuple):
    """Where balls are; `float64 [b t n 2]` as (y, x), in px and px a frame.

    Attributes:
        centres: From the canvas's upper left corner.
        velocities: Just after a collision, if there is one.
    """

    centres: Tensor
    velocities: Tensor


class BouncingBalls(Simulated):
    """Balls of equal mass that bounce off the walls and one another without loss of energy.

    As in Sutskever et al. (2008), whose radius and speed are the defaults, but solved exactly from
    collision to collision. Balls start anywhere that none overlap, with normally distributed
    velocities scaled to the same energy in all videos.

    Args:
        n_balls: Balls in a video.
        radius: Theirs, in px.
        speed: Root of their mean squared speed, in px a frame.
        canvas: Height and width.
        n_train: Videos of an epoch.
        n_val: Videos for validation.
        n_test: Videos for testing.
        frame_step: Time between two frames of a validation or test video, in training frames.
        n_frames: Frames of a training video.
        n_eval_frames: Frames of a validation or test video; as in training if none.
        batch_size: Videos per device and step.
        num_workers: Loader processes.
        observed: Share of the frames that a model may see.
        pattern: Which: `random` ones, other in each video, or `regular`, evenly spaced.
    """

    def __init__(
        self,
        n_balls: int = 3,
        radius: float = 3.84,
        speed: float = 0.92,
        canvas: int = 32,
        n_train: int = 10000,
        n_val: int = 500,
        n_test: int = 1000,
        frame_step: float = 1.0,
        n_frames: int = 20,
        n_eval_frames: int | None = None,
        batch_size: int = 32,
        num_workers: int = 0,
        observed: float = 1.0,
        pattern: Literal["random", "regular"] = "random",
    ) -> None:
        super().__init__(
            n_train, n_val, n_test, frame_step, n_frames, n_eval_frames,
            batch_size, num_workers, observed, pattern,
        )  # fmt: skip
        self.n_balls, self.canvas, self.shape = n_balls, canvas, (1, canvas, canvas)
        self.motion = ElasticMotion(n_balls, radius, speed, canvas)

    def trajectories(self, split: Split, numbers: Integers, times: Times | None = None) -> Balls:
        """The exact states, at the times that are served if none are given."""
        times = self.times(split) if times is None else times
        draws = Draws(split, checked(numbers, times), self.n_balls)
        centres, velocities = self.motion.path(draws, times.cpu().double().numpy())
        return Balls(torch.from_numpy(centres), torch.from_numpy(velocities))

    def videos(self, split: Split, numbers: Integers, times: Times) -> PixelVideo:
        return self._drawn(self.trajectories(split, numbers, times).centres)

    def baselines(self, clip: Clip, n_cond: int) -> dict[str, PixelVideo]:
        """`constant velocity`: from the last given frame straight on, without any collision."""
        balls = self.trajectories("test", clip.number, clip.times)
        centres = straight_on(balls.centres, balls.velocities, clip.times, n_cond)
        frames = self._drawn(centres).to(clip.frames.device)
        frames[:, :n_cond] = clip.frames[:, :n_cond]
        return {"constant velocity": frames}

    def _drawn(self, centres: Tensor) -> PixelVideo:
        """Discs with an edge one pixel wide."""
        pixels = torch.arange(self.canvas, dtype=torch.float32) + 0.5
        frames = []
        for centre in centres.unbind(1):
            y, x = (pixels - centre[..., None].float()).square().unbind(2)
            distance = (y[..., :, None] + x[..., None, :]).sqrt()
            inside = (self.motion.radius + 0.5 - distance).clamp(0, 1).amax(1)
            frames.append((255 * inside).round().byte())
        return torch.stack(frames, 1)[:, :, None]


class ElasticMotion(Motion):
    """Discs of equal mass in a square box, moved exactly from one collision to the next."""

    ATTEMPTS = 10000

    def __init__(self, n_balls: int, radius: float, speed: float, canvas: int) -> None:
        if n_balls < 1 or speed < 0:
            raise InputError(f"got n_balls {n_balls} and speed {speed}; give 1 and 0 or more")
        free = canvas - 2 * radius
        if not 0 < radius < canvas / 2:
            raise InputError(f"got radius {radius} on a canvas of {canvas}; give less than half")
        # Places are drawn until no balls overlap: this is about the share of draws that are kept.
        apart = max(0.0, 1 - math.pi * (2 * radius / free) ** 2) ** math.comb(n_balls, 2)
        if apart < 0.01:
            raise InputError(
                f"got {n_balls} balls of radius {radius} on a canvas of {canvas}, where they "
                "hardly fit; lower n_balls or radius or raise canvas"
            )
        self.radius, self.speed, self.free = radius, speed, free
        self.pairs = np.triu_indices(n_balls, 1)

    def start(self, draws: Draws) -> State:
        angle, size = np.moveaxis(draws(2, START), -1, 0)
        # Box-Muller: two independent normal numbers for each ball.
        normal = np.sqrt(-2 * np.log1p(-size))[..., None] * directions(2 * math.pi * angle)
        energy = np.square(normal).sum(-1).mean(-1)[:, None, None]
        return self._places(draws), self.speed * normal / np.sqrt(energy)

    def travel(self, state: State, duration: float, frame: int, draws: Draws) -> State:
        place, velocity = state[0].copy(), state[1].copy()
        left = np.full(len(place), duration)
        while True:
            events = self._collisions(place, velocity)
            event = events.argmin(1)
            wait = events[np.arange(len(events)), event]
            step = np.minimum(wait, left)
            place += velocity * step[:, None, None]
            hit = np.flatnonzero(wait < left)
            if not len(hit):
                return place, velocity
            left -= step
            velocity[hit] = self._after(place[hit], velocity[hit], event[hit])

    def _collisions(self, place: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        """Times to each ball's next wall, along y and x, then to the meeting of each pair."""
        wall = self.radius + self.free * (velocity > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            walls = np.where(velocity, (wall - place) / velocity, np.inf)
            i, j = self.pairs
            gap, closing = place[:, j] - place[:, i], velocity[:, j] - velocity[:, i]
            # |gap + t closing| = 2 radius, first of two solutions.
            a, b = np.square(closing).sum(-1), (gap * closing).sum(-1)
            root = b**2 - a * (np.square(gap).sum(-1) - 4 * self.radius**2)
            pairs = np.where((b < 0) & (root > 0), (-b - np.sqrt(root)) / a, np.inf)
        # Where they touch, rounding may put the collision into the past.
        return np.concatenate([walls.reshape(len(walls), -1), pairs], 1).clip(0)

    def _after(self, place: np.ndarray, velocity: np.ndarray, event: np.ndarray) -> np.ndarray:
        """Turns one component at a wall; exchanges those along the line of two balls' centres."""
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

    def _places(self, draws: Draws) -> np.ndarray:
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
