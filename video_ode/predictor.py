"""What every model of this package can do: hand it frames and times, ask for others."""

import abc

import torch
from torch import Tensor, nn

from common.errors import InputError
from common.typing import Mask, PixelVideo, Times, Video, Videos


class VideoPredictor(nn.Module, abc.ABC):
    """A distribution over videos, given some of their frames.

    Attributes:
        shape: Channels, height and width of its frames; any if none.
    """

    shape: tuple[int, int, int] | None = None

    @abc.abstractmethod
    def loss(
        self, video: Video, times: Times, mask: Mask, n_cond: int, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What training minimises, and its parts by name.

        Args:
            video: `[b t c h w]` in `[0, 1]`.
            times: `[t]`, ascending.
            mask: `[b t]`: the frames that were observed; the model must not use the others.
            n_cond: At test the first so many frames will be given.
            progress: Share of training that is done, in `[0, 1]`.
        """

    @abc.abstractmethod
    def predict(
        self,
        video: Video,
        times: Times,
        target_times: Times,
        n_samples: int = 1,
        mask: Mask | None = None,
    ) -> Videos:
        """Samples of the frames at other times.

        Args:
            video: The given frames, `[b t c h w]` in `[0, 1]`.
            times: Their times `[t]`, ascending.
            target_times: Any times, ascending: before, between and after the given ones.
            n_samples: Samples of each video.
            mask: `[b t]`: the given frames that were observed; all if none.

        Returns:
            `[s b k c h w]` in `[0, 1]`, `k` the number of target times.

        Raises:
            InputError: Times that aren't ascending, or that this model can't reach.
        """


def to_unit(pixels: PixelVideo) -> Video:
    """Bytes to `[0, 1]`."""
    return pixels / 255


def to_pixels(video: Tensor) -> Tensor:
    """`[0, 1]` to bytes."""
    return (video * 255).round().clamp(0, 255).to(torch.uint8)


def check_ascending(times: Times, name: str = "times") -> None:
    """Refuses times that aren't strictly ascending."""
    if len(times) == 0 or bool((times.diff() <= 0).any()):
        raise InputError(f"got {name} {_listed(times)}; give at least one, in ascending order")


def frame_units(times: Times, target_times: Times, mask: Mask | None, name: str) -> Times:
    """Target times in frames after the first given one, for models that step by frames.

    Whole numbers are exact, so that they may be compared. On the CPU, in double precision.

    Args:
        times: Of the given frames.
        target_times: Ascending.
        mask: The observed frames; all if none.
        name: Of the model.

    Raises:
        InputError: Given frames that are missing or unevenly spaced, a target before the first.
    """
    check_ascending(times)
    gaps = times.cpu().double().diff()
    complete = mask is None or bool(mask.all())
    if not complete or (len(gaps) and float(gaps.max() - gaps.min()) > 1e-3):
        raise InputError(
            f"{name} steps from frame to frame and needs all of them, evenly spaced; set "
            "data.observed 1, or use a latent ODE for irregular times"
        )
    spacing = float(gaps[0]) if len(gaps) else 1.0
    units = (target_times - times[0]).cpu().double() / spacing
    units = torch.where((units - units.round()).abs() < 1e-3, units.round(), units)
    if float(units[0]) < 0:
        raise InputError(
            f"got target time {float(target_times[0]):g}, before the first given frame at "
            f"{float(times[0]):g}: {name} runs forward only"
        )
    return units


def _listed(times: Times) -> str:
    shown = ", ".join(f"{t:g}" for t in times[:8].tolist())
    return f"[{shown}{', …' if len(times) > 8 else ''}]"
