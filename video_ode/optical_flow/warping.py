"""Warping ODE: frames that a velocity field moves (Predoc III, section 5.4).

Places are `[b 2 h w]`: column x to the right and row y down, in pixels, with the centre of the
first pixel at (0, 0). Velocities are pixels in a unit of time.
"""

import abc
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from common.errors import InputError, check_counts
from common.nn.warping import sampled
from common.ode.solve import Solver
from common.typing import Image, Times, Video

Velocity = Callable[[Tensor, Tensor], Tensor]  # (time, places [b 2 h w]) -> velocity [b 2 h w]


class Warped(NamedTuple):
    """Frames at other times, warped from one frame.

    Attributes:
        frames: Frames `[b t c h w]`.
        displacement: From each pixel to the place in the given frame that it shows, in pixels,
            `[b t 2 h w]`: the backward optical flow.
        valid: Whether that place is inside the given frame, `bool [b t h w]`.
    """

    frames: Video
    displacement: Tensor
    valid: Tensor


class Warping(abc.ABC):
    """Abstract solver of the warping ODE: from a frame and a velocity field to other frames."""

    @abc.abstractmethod
    def __call__(self, frame: Image, velocity: Velocity, start: float, times: Times) -> Warped:
        """Frames at other times, before or after that of the given frame.

        Args:
            frame: Given frame of each video, `[b c h w]`.
            velocity: Velocity field, a function of a scalar time and places.
            start: Time of the given frame.
            times: Times of the frames, `[t]`, in any order.

        Raises:
            InputError: No time, or times that aren't finite.
            SolveError: The solver failed.
        """


class CoordinateWarping(Warping):
    """Warping by the backward coordinate map: the given frame is sampled only once.

    A pixel at time t shows the point that moves there, `dp/ds = v(s, p)`. Its place at the time
    t₀ of the given frame is found by solving this ODE backward from the pixel, from t to t₀, and
    the given frame is sampled there. So frames stay sharp however many steps the solver takes.

    Args:
        solver: Solver of the ODE.
    """

    def __init__(self, solver: Solver) -> None:
        self.solver = solver

    def __call__(self, frame: Image, velocity: Velocity, start: float, times: Times) -> Warped:
        pixels = pixel_places(frame)
        solver = self.solver
        places = [moved(solver, velocity, pixels, time, start) for time in _checked(times)]
        frames = torch.stack([sampled(frame, place) for place in places], 1)
        return _warped(frames, torch.stack(places, 1), pixels)


class RepeatedWarping(Warping):
    """Repeated warping, literally as in the report (eq. 5.2): each step samples the last frame.

    Euler steps `x(t + h) = Warp(x(t), -h v(t, ·))`, whose frames blur with every step.

    Args:
        steps: Number of steps in a unit of time.
    """

    def __init__(self, steps: int = 1) -> None:
        check_counts(1, steps=steps)
        self.steps = steps

    def __call__(self, frame: Image, velocity: Velocity, start: float, times: Times) -> Warped:
        pixels = pixel_places(frame)
        found = [self._at(frame, pixels, velocity, start, time) for time in _checked(times)]
        frames, places = (torch.stack(parts, 1) for parts in zip(*found, strict=True))
        return _warped(frames, places, pixels)

    def _at(
        self, frame: Tensor, pixels: Tensor, velocity: Velocity, start: float, time: float
    ) -> tuple[Tensor, Tensor]:
        n = max(1, round(abs(time - start) * self.steps))
        step, moved = (time - start) / n, torch.zeros_like(pixels)
        for k in range(n):
            back = -step * velocity(pixels.new_tensor(start + k * step), pixels)
            frame, moved = sampled(frame, pixels + back), back + sampled(moved, pixels + back)
        return frame, pixels + moved


def moved(solver: Solver, velocity: Velocity, places: Tensor, start: float, end: float) -> Tensor:
    """Places `[b 2 h w]` at the time `end` of the points that are at `places` at `start`."""
    solution = solver.end(lambda t, state: (velocity(t, state[0]),), (places,), start, end)
    return solution.state[0].to(places)


def pixel_places(frame: Image) -> Tensor:
    """Places of the pixels of frames `[b c h w]`, `[b 2 h w]`, in single precision or better."""
    b, _, h, w = frame.shape
    dtype = torch.promote_types(frame.dtype, torch.float32)  # half precision can't count to 257
    rows, columns = (torch.arange(n, dtype=dtype, device=frame.device) for n in (h, w))
    places = torch.stack(torch.meshgrid(columns, rows, indexing="xy"))
    return places.expand(b, -1, -1, -1)


def inside(places: Tensor, h: int, w: int) -> Tensor:
    """Mask `[… h' w']` of the places `[… 2 h' w']` that are inside an image of this size."""
    x, y = places.unbind(-3)
    return (x >= 0) & (x <= w - 1) & (y >= 0) & (y <= h - 1)


def _checked(times: Times) -> list[float]:
    if not times.numel() or not bool(times.isfinite().all()):
        raise InputError(f"got times {times.tolist()}; give one or more finite times")
    return times.tolist()


def _warped(frames: Tensor, places: Tensor, pixels: Tensor) -> Warped:
    h, w = pixels.shape[-2:]
    return Warped(frames, places - pixels[:, None], inside(places, h, w))
