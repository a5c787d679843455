"""What every model of this package can do: hand it frames and times, ask for others."""

import abc

import torch
from torch import Tensor, nn

from common.errors import InputError
from common.typing import Mask, PixelVideo, Times, Video, Videos


class VideoPredictor(nn.Module, abc.ABC):
    """A distribution over videos, given some of their frames."""

    @abc.abstractmethod
    def loss(
        self, video: Video, times: Times, mask: Mask, n_given: int, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What training minimises, and its parts by name.

        Args:
            video: `[b t c h w]` in `[0, 1]`.
            times: `[t]`, ascending.
            mask: `[b t]`: the frames that were observed; the model must not use the others.
            n_given: At test the first so many frames will be given.
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


def _listed(times: Times) -> str:
    shown = ", ".join(f"{t:g}" for t in times[:8].tolist())
    return f"[{shown}{', …' if len(times) > 8 else ''}]"
