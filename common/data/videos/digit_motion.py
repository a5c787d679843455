"""How the digits of Moving MNIST move, by the rules of three generators."""

import abc
import math
from typing import ClassVar

import numpy as np

from common.data.videos.simulated import START, Draws, Motion, State, directions, frames_and_parts
from common.errors import InputError


class DigitMotion(Motion):
    """How the digits of one generator move and are drawn.

    Args:
        free: Canvas less digit: how far from the upper left a corner may be, in px.
        speed: As `MovingDigits` says.

    Raises:
        InputError: The generator knows no such speed.
    """

    side: ClassVar[int] = 28

    def __init__(self, free: int, speed: float) -> None:
        self.free, self.speed, self.stochastic = free, speed, False

    @staticmethod
    @abc.abstractmethod
    def usual(canvas: int) -> float:
        """The speed on such a canvas."""

    @abc.abstractmethod
    def pixels(self, corners: np.ndarray) -> np.ndarray:
        """Whole pixels at which the generator draws."""

    @abc.abstractmethod
    def overlap(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Bytes where digits overlap; may change what it is given."""

    def randomize(self) -> None:
        """Draw a new velocity at each collision from now on."""
        self.stochastic = True


class TorontoMotion(DigitMotion):
    """Srivastava et al. (2015): steps of equal length, ended and turned round at the border."""

    def __init__(self, free: int, speed: float) -> None:
        super().__init__(free, speed)
        if not 0 <= speed < math.inf:
            raise InputError(f"got speed {speed}; give a part of the way, 0 or more, e.g. 0.1")

    @staticmethod
    def usual(canvas: int) -> float:
        return 0.1

    def randomize(self) -> None:
        raise InputError("got stochastic with toronto, whose digits can't; choose svg or srvp")

    def start(self, draws: Draws) -> State:
        drawn = draws(3, START)
        velocity = self.free * self.speed * directions(2 * math.pi * drawn[..., 2])
        # The first frame comes after the first step.
        return self.travel((self.free * drawn[..., :2], velocity), 1.0, 0, draws)

    def travel(self, state: State, duration: float, frame: int, draws: Draws) -> State:
        place, velocity = state[0] + duration * state[1], state[1]
        velocity = _inward(velocity, place <= 0, place >= self.free)
        return place.clip(0, self.free), velocity

    def pixels(self, corners: np.ndarray) -> np.ndarray:
        return np.floor(corners)

    def overlap(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.maximum(a, b)


class AddedMotion(DigitMotion):
    """What svg and srvp share: whole velocities along each axis, digits that add up."""

    n_places: ClassVar[int]  # a corner starts on one of free + n_places pixels

    def __init__(self, free: int, speed: float) -> None:
        super().__init__(free, speed)
        if not (0 <= speed < math.inf and speed == int(speed)):
            raise InputError(f"got speed {speed}; svg and srvp need whole px, 0 or more, e.g. 4")

    @staticmethod
    def usual(canvas: int) -> float:
        return float(max(1, round(4 * canvas / 64)))

    def start(self, draws: Draws) -> State:
        drawn = draws(4, START)
        place = np.floor((self.free + self.n_places) * drawn[..., :2])
        return place, self.velocity(drawn[..., 2:])

    def velocity(self, drawn: np.ndarray) -> np.ndarray:
        """Whole numbers from `-speed` to `speed`."""
        return np.floor((2 * self.speed + 1) * drawn) - self.speed

    def pixels(self, corners: np.ndarray) -> np.ndarray:
        # Halves are common; rounding errors mustn't decide them.
        return np.rint(corners.round(6))

    def overlap(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        a += np.minimum(b, ~a, out=b)  # min(a + b, 255) in bytes
        return a


class SVGMotion(AddedMotion):
    """Denton and Fergus (2018): put back onto the canvas after each step, short of its last pixel.

    The velocity along the border's axis is turned round or, if stochastic, drawn among those
    that lead away from it, and the other one anew.
    """

    side = 32
    n_places = 0

    def travel(self, state: State, duration: float, frame: int, draws: Draws) -> State:
        place, velocity = state[0] + duration * state[1], state[1]
        low, high = place < 0, place >= self.free
        place = place.clip(0, self.free - 1)
        if not self.stochastic:
            return place, _inward(velocity, low, high)
        for axis in (0, 1):  # in this order: the second may undo what the first has drawn
            hit = (low | high)[..., axis, None]
            if hit.any():
                drawn = draws.later(2, frame, axis)
                new = self.velocity(drawn)
                size = min(1, self.speed) + np.floor(self.speed * drawn[..., axis])
                new[..., axis] = np.where(low[..., axis], size, -size)
                velocity = np.where(hit, new, velocity)
        return place, velocity


class SRVPMotion(AddedMotion):
    """Franceschi et al. (2020): reflected where the border is met, in the middle of a step.

    The rest of the step is travelled with the reflected velocity, which if stochastic is drawn
    anew and then made to lead away from the border.
    """

    EPS = 1e-8
    n_places = 1

    def path(self, draws: Draws, times: np.ndarray) -> State:
        if self.stochastic:
            return super().path(draws, times)
        # Without chance nothing depends on the steps: fold the straight way at the borders.
        start, velocity = (now[:, None] for now in self.start(draws))
        ahead = start + velocity * np.add(*frames_and_parts(times))[:, None, None]
        laps = np.where(velocity < 0, np.ceil(ahead / self.free) - 1, ahead // self.free)
        back, rest = laps % 2 == 1, ahead - self.free * laps
        place = np.where(back, self.free - rest, rest)
        return place, np.where(back, -velocity, velocity)

    def travel(self, state: State, duration: float, frame: int, draws: Draws) -> State:
        place, velocity = state[0] + duration * state[1], state[1].copy()
        bounce = 0
        while len((out := np.nonzero(self._outside(place).any(-1)))[0]):
            new = self.velocity(draws.later(2, frame, bounce)[out])
            place[out], velocity[out] = self._reflected(place[out], velocity[out], new)
            bounce += 1
        return place.clip(0, self.free), velocity

    def _outside(self, place: np.ndarray) -> np.ndarray:
        return (place < -self.EPS) | (place > self.free + self.EPS)

    def _reflected(self, place: np.ndarray, velocity: np.ndarray, new: np.ndarray) -> State:
        outside, high = self._outside(place), velocity > 0
        wall = np.where(high, self.free, 0.0)
        # The border met first is that met the longest time ago.
        ago = np.divide(place - wall, velocity, out=np.zeros_like(place), where=outside)
        rest = ago.max(-1, keepdims=True)
        hit = outside & (ago >= rest - self.EPS)
        met = np.where(hit, wall, place - rest * velocity)
        new = _inward(new, hit & ~high, hit & high)
        return met + rest * new, new


MOTIONS: dict[str, type[DigitMotion]] = {
    "toronto": TorontoMotion,
    "svg": SVGMotion,
    "srvp": SRVPMotion,
}


def _inward(velocity: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Velocities that lead away from the border at 0 where `low` and the other where `high`."""
    return np.where(low, abs(velocity), np.where(high, -abs(velocity), velocity))
