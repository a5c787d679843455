"""Wave equation on a square that is driven by a dying source: the physics of the wave sets.

    w'' = c² Δw + f0 exp(-20 t) 1_disc(x),    w = w' = 0 at t = 0

(Donà et al. 2021). `WaveSolver` gives the numbers of their solver, an explicit Runge-Kutta method
on a finite-difference stencil, many times faster.
"""

import itertools
from collections.abc import Callable

import numpy as np

SIDE = 64  # pixels of a side of the published grid, one unit of length apart
CENTRE, RADIUS = 32.0, 5.0  # of the disc, in units of length; its rim doesn't belong to it
DECAY = 20.0  # of the source, per unit of time
FRAME_TIME = 1e-3  # between two frames of the simulation, in units of time
STENCIL = (-5 / 2, 4 / 3, -1 / 12)  # fourth order: weights of the points 0, 1 and 2 steps away

Rate = Callable[[float, np.ndarray], np.ndarray]  # (time, state) -> rate of change


class WaveSolver:
    """Solver of the wave equation on a grid, for any speed and strength of the source.

    Second derivatives are taken by the stencil of fourth order, time steps by Runge-Kutta's
    3/8 rule. At zero start the lines on and beyond the walls stay 0. On the points inside, the
    stencil is a symmetric matrix along each axis. In its eigenvectors each mode is an oscillator
    of its own, and a step is the same 2×2 matrix at all times. So the numbers are those of the
    stencil, up to rounding, without its work.

    Args:
        resolution: Number of grid points per unit of length. Point `resolution * i` of a finer
            grid is the place of pixel `i` of the published one, and the walls, at 1 and 62 units
            of length, are the same.
        source: Shape of the source, `[s s]`, with `s = 64 * resolution`. None: 1 in the points
            of the published disc, otherwise 0.
        steps: Number of time steps from one frame to the next. None: `resolution`, which keeps
            the share of a grid cell that a wave travels in a step, and so the stability.
    """

    def __init__(
        self, resolution: int = 1, source: np.ndarray | None = None, steps: int | None = None
    ) -> None:
        self.side = SIDE * resolution
        self.inside = slice(resolution + 1, (SIDE - 2) * resolution)
        self.steps = resolution if steps is None else steps
        values, self.modes = np.linalg.eigh(second_derivative(61 * resolution - 1, resolution))
        self.stiffness = -(values[:, None] + values)
        source = disc(resolution) if source is None else source
        self.drive = self.modes.T @ source[self.inside, self.inside] @ self.modes

    def evolve(self, speed: float, force: float, n_frames: int) -> np.ndarray:
        """Coefficients of the modes of w and of its rate of change, `float64 [t 2 m m]`.

        Args:
            speed: Speed `c` of the waves, in units of length per unit of time.
            force: Strength `f0` of the source.
            n_frames: Number of frames; the first is that of time 0.
        """
        by_w, by_v, push = self._frame_matrix(speed)
        push, product, decay = force * push, np.empty_like(push), np.exp(-DECAY * FRAME_TIME)
        path = np.zeros((n_frames, 2, *self.drive.shape))
        for (w, v), new in itertools.pairwise(path):
            np.multiply(by_w, w, out=new)
            new += np.multiply(by_v, v, out=product)
            new += push
            push *= decay
        return path

    def fields(self, modes: np.ndarray) -> np.ndarray:
        """Fields on the grid, `[t s s]`, from the coefficients of their modes, `[t m m]`."""
        whole = np.zeros((len(modes), self.side, self.side), modes.dtype)
        vectors = self.modes.astype(modes.dtype)
        whole[:, self.inside, self.inside] = vectors @ (modes @ vectors.T)
        return whole

    def _frame_matrix(self, speed: float) -> list[np.ndarray]:
        """States a frame after w = 1, after w' = 1 and after a source of strength 1 alone."""
        one, zero = np.ones_like(self.drive), np.zeros_like(self.drive)
        dt, states = FRAME_TIME / self.steps, []
        for start, force in (((one, zero), 0.0), ((zero, one), 0.0), ((zero, zero), 1.0)):
            rate, state = self._rate(speed, force), np.stack(start)
            for step in range(self.steps):
                state = runge_kutta(rate, step * dt, state, dt)
            states.append(state)
        return states

    def _rate(self, speed: float, force: float) -> Rate:
        """Rate of change of the state `[2 m m]`: of w and of w'."""

        def rate(time: float, state: np.ndarray) -> np.ndarray:
            push = force * np.exp(-DECAY * time) * self.drive
            return np.stack([state[1], push - speed**2 * self.stiffness * state[0]])

        return rate


def runge_kutta(rate: Rate, time: float, state: np.ndarray, dt: float) -> np.ndarray:
    """State after a step of Runge-Kutta's 3/8 rule, of fourth order.

    Args:
        rate: Function of time and state: rate of change of the state.
        time: Time at the start of the step.
        state: State at that time.
        dt: Length of the step.
    """
    a = rate(time, state)
    b = rate(time + dt / 3, state + dt * a / 3)
    c = rate(time + 2 * dt / 3, state + dt * (b - a / 3))
    d = rate(time + dt, state + dt * (a - b + c))
    return state + dt * (a + 3 * (b + c) + d) / 8


def second_derivative(n: int, per_unit: int = 1) -> np.ndarray:
    """Matrix `[n n]` of the stencil of fourth order; beyond the ends the values are 0."""
    near = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    return per_unit**2 * np.select([near == k for k in range(3)], STENCIL)


def disc(resolution: int = 1) -> np.ndarray:
    """The published source, `[s s]`: 1 in the points of the disc, otherwise 0."""
    square = (np.arange(SIDE * resolution) / resolution - CENTRE) ** 2
    return (square[:, None] + square < RADIUS**2).astype(float)
