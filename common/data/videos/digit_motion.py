"""Laws of motion of the digits in Moving MNIST, after three published generators."""

import abc
import math
from typing import ClassVar

import numpy as np

from common.data.videos.simulated import (
    START,
    Motion,
    MotionState,
    VideoDraws,
    directions,
    whole_and_fraction,
)
from common.errors import InputError


class DigitMotion(Motion):
    """Base class: motion and drawing of the digits in one generator.

    The position of a digit is its upper left corner.

    Args:
        free: Side of the canvas minus side of a digit, in px: the largest coordinate of a corner.
        speed: Speed of the digits, in the unit that `MovingDigits` describes.

    Raises:
        InputError: The generator does not allow this speed.

    Attributes:
        side: Side of a digit in the original generator, in px.
    """

    side: ClassVar[int] = 28

    def __init__(self, free: int, speed: float) -> None:
        self.free, self.speed, self.stochastic = free, speed, False

    @staticmethod
    @abc.abstractmethod
    def usual_speed(canvas: int) -> float:
        """Default speed on a canvas of this side."""

    @abc.abstractmethod
    def pixels(self, corners: np.ndarray) -> np.ndarray:
        """Whole pixels where the generator draws digits with these corners."""

    @abc.abstractmethod
    def overlap(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Bytes of the overlap of two digits; may write into its arguments."""

    def randomize(self) -> None:
        """Switches to random velocities: each later collision draws a new one."""
        self.stochastic = True


class TorontoMotion(DigitMotion):
    """Motion of Srivastava et al. (2015): equal steps; a step ends and turns at the border."""

    def __init__(self, free: int, speed: float) -> None:
        super().__init__(free, speed)
        if not 0 <= speed < math.inf:
            raise InputError(f"got speed {speed}; give a share of the way, 0 or more, e.g. 0.1")

    @staticmethod
    def usual_speed(canvas: int) -> float:
        return 0.1

    def randomize(self) -> None:
        raise InputError(
            "got stochastic with toronto, which has no random velocities; choose svg or srvp"
        )

    def start(self, draws: VideoDraws) -> MotionState:
        drawn = draws(3, START)
        velocity = self.free * self.speed * directions(2 * math.pi * drawn[..., 2])
        # The first frame shows the state after the first step.
        return self.travel(MotionState(self.free * drawn[..., :2], velocity), 1.0, 0, draws)

    def travel(
        self, state: MotionState, duration: float, frame: int, draws: VideoDraws
    ) -> MotionState:
        place, velocity = state.positions + duration * state.velocities, state.velocities
        velocity = _inward(velocity, place <= 0, place >= self.free)
        return MotionState(place.clip(0, self.free), velocity)

    def pixels(self, corners: np.ndarray) -> np.ndarray:
        return np.floor(corners)

    def overlap(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.maximum(a, b)


class AddedMotion(DigitMotion):
    """Base class of svg and srvp: whole velocities along each axis; overlapping digits add up.

    Attributes:
        n_places: A corner starts at one of `free + n_places` pixels along each axis.
    """

    n_places: ClassVar[int]

    def __init__(self, free: int, speed: float) -> None:
        super().__init__(free, speed)
        if not (0 <= speed < math.inf and speed == int(speed)):
            raise InputError(f"got speed {speed}; give whole px, 0 or more, e.g. 4")

    @staticmethod
    def usual_speed(canvas: int) -> float:
        return float(max(1, round(4 * canvas / 64)))

    def start(self, draws: VideoDraws) -> MotionState:
        drawn = draws(4, START)
        place = np.floor((self.free + self.n_places) * drawn[..., :2])
        return MotionState(place, self.velocity(drawn[..., 2:]))

    def velocity(self, drawn: np.ndarray) -> np.ndarray:
        """Velocities from uniform numbers: whole numbers from `-speed` to `speed`."""
        return np.floor((2 * self.speed + 1) * drawn) - self.speed

    def pixels(self, corners: np.ndarray) -> np.ndarray:
        # Positions halfway between pixels are common; rounding errors must not decide them.
        return np.rint(corners.round(6))

    def overlap(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        a += np.minimum(b, ~a, out=b)  # min(a + b, 255) in bytes
        return a


class SVGMotion(AddedMotion):
    """Motion of Denton and Fergus (2018): after each step a digit is put back onto the canvas.

    A digit that has left the canvas is put back at the upper or left border, or one pixel before
    the lower or right border. Its velocity across the border is reversed. If stochastic, that
    velocity is drawn among those that lead away from the border, and the velocity along the border
    is drawn again too.
    """

    side = 32
    n_places = 0

    def travel(
        self, state: MotionState, duration: float, frame: int, draws: VideoDraws
    ) -> MotionState:
        place, velocity = state.positions + duration * state.velocities, state.velocities
        low, high = place < 0, place >= self.free
        place = place.clip(0, self.free - 1)
        if not self.stochastic:
            return MotionState(place, _inward(velocity, low, high))
        for axis in (0, 1):  # the order matters: the second axis may replace the draw of the first
            hit = (low | high)[..., axis, None]
            if hit.any():
                drawn = draws.later(2, frame, axis)
                new = self.velocity(drawn)
                size = min(1, self.speed) + np.floor(self.speed * drawn[..., axis])
                new[..., axis] = np.where(low[..., axis], size, -size)
                velocity = np.where(hit, new, velocity)
        return MotionState(place, velocity)


class SRVPMotion(AddedMotion):
    """Motion of Franceschi et al. (2020): digits are reflected exactly at the border.

    A digit travels the rest of the step with the reflected velocity. If stochastic, a new velocity
    is drawn and its sign is chosen so that it leads away from the border.
    """

    EPS = 1e-8
    n_places = 1

    def path(self, draws: VideoDraws, times: np.ndarray) -> MotionState:
        if self.stochastic:
            return super().path(draws, times)
        # Without random draws the steps do not matter: fold the straight path at the borders.
        start, velocity = (initial[:, None] for initial in self.start(draws))
        ahead = start + velocity * np.add(*whole_and_fraction(times))[:, None, None]
        laps = np.where(velocity < 0, np.ceil(ahead / self.free) - 1, ahead // self.free)
        back, rest = laps % 2 == 1, ahead - self.free * laps
        place = np.where(back, self.free - rest, rest)
        return MotionState(place, np.where(back, -velocity, velocity))

    def travel(
        self, state: MotionState, duration: float, frame: int, draws: VideoDraws
    ) -> MotionState:
        place, velocity = state.positions + duration * state.velocities, state.velocities.copy()
        bounce = 0
        while len((out := np.nonzero(self._outside(place).any(-1)))[0]):
            new = self.velocity(draws.later(2, frame, bounce)[out])
            place[out], velocity[out] = self._reflected(place[out], velocity[out], new)
            bounce += 1
        return MotionState(place.clip(0, self.free), velocity)

    def _outside(self, place: np.ndarray) -> np.ndarray:
        return (place < -self.EPS) | (place > self.free + self.EPS)

    def _reflected(self, place: np.ndarray, velocity: np.ndarray, new: np.ndarray) -> MotionState:
        """State after the first reflection, of digits that went straight beyond a border.

        Args:
            place: Positions beyond the border, `[n 2]`.
            velocity: Velocities before the reflection, `[n 2]`.
            new: Velocities after it; their signs across the border are corrected.
        """
        outside, high = self._outside(place), velocity > 0
        wall = np.where(high, self.free, 0.0)
        # The border that was met first is the one that was met the longest time ago.
        ago = np.divide(place - wall, velocity, out=np.zeros_like(place), where=outside)
        rest = ago.max(-1, keepdims=True)
        hit = outside & (ago >= rest - self.EPS)
        met = np.where(hit, wall, place - rest * velocity)
        new = _inward(new, hit & ~high, hit & high)
        return MotionState(met + rest * new, new)


MOTIONS: dict[str, type[DigitMotion]] = {
    "toronto": TorontoMotion,
    "svg": SVGMotion,
    "srvp": SRVPMotion,
}


def _inward(velocity: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Velocities with signs that lead away from the border at 0 (`low`) or at `free` (`high`)."""
    return np.where(low, abs(velocity), np.where(high, -abs(velocity), velocity))
