"""Pictures of videos: strips and animations.

All of them are bytes: videos `uint8 [t c h w]`, pictures `uint8 [3 h w]`, and animations
`uint8 [t 3 h w]`. The frames have a coloured border: green at the times of the conditioning
frames, red for later predictions, grey for true frames. Rows with labels show them, with the
times of their frames and the meaning of the colours.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from video_ode.evaluation.rows import (
    BACKGROUND,
    COLOURS,
    Kind,
    Row,
    numbered,
    with_legend,
    with_names,
    with_times,
    with_titles,
)

SIDE = 128  # approximate height or width of an enlarged frame, in pixels
LINE = 16  # height of a frame of one line of pixels, in pixels
TOLERANCE = 1e-3  # times that differ by less are the same


class Scene(NamedTuple):
    """Rows that show one predicted or generated video.

    Attributes:
        context: Observed conditioning frames, each shown until the next one, then blank. None: a
            generated video.
        truth: True video, each frame shown until the next one. None: a generated video.
        known: True frames at exactly the times of the samples, blank at other times. None: a
            generated video.
        samples: Samples of the model.
        times: Times of the frames of all rows; empty if they aren't to be shown.
    """

    context: Row | None
    truth: Row | None
    known: Row | None
    samples: list[Row]
    times: Sequence[float] = ()

    @property
    def panels(self) -> list[Row]:
        """Rows of an animation."""
        return [row for row in (self.context, self.truth, *self.samples) if row is not None]

    @property
    def rows(self) -> list[Row]:
        """Rows of a strip."""
        return [row for row in (self.known, *self.samples) if row is not None]


def scene(
    frames: Tensor, times: Tensor, seen: Tensor, target_times: Tensor, samples: Tensor
) -> Scene:
    """Scene of a predicted video.

    Args:
        frames: True video, `[t c h w]`; the first `t'` frames are the conditioning frames.
        times: Times of its frames, ascending, `[t]`.
        seen: Mask of the conditioning frames that were observed, `[t']`.
        target_times: Times of the samples, `[k]`, in any order.
        samples: Samples `[s k c h w]`, the most interesting one first.
    """
    start, stop = float(times[0]), float(times[-1])
    border = float(times[len(seen) - 1]) if len(seen) else -math.inf
    at = [float(t) for t in target_times]
    # Times are computed, so they are inexact: 0.1 * 30 is slightly different from 3.
    held = (torch.searchsorted(times, target_times.to(times) + TOLERANCE, right=True) - 1).clamp(0)
    places = held.tolist()
    within = [start - TOLERANCE <= t <= stop + TOLERANCE for t in at]
    exact = [abs(float(times[i]) - t) <= TOLERANCE for i, t in zip(places, at, strict=True)]
    given = [start - TOLERANCE <= t <= border + TOLERANCE for t in at]
    shown = [g and bool(seen[i]) for g, i in zip(given, places, strict=True)]
    video = frames[held]
    return Scene(
        Row(video, ["given" if x else "none" for x in shown], "given"),
        Row(video, ["true" if x else "none" for x in within], "truth"),
        Row(video, [_kind(*x) for x in zip(exact, shown, strict=True)], "truth"),
        [
            Row(sample, ["given" if x else "predicted" for x in given], numbered("sample", i))
            for i, sample in enumerate(samples)
        ],
        at,
    )


def generated_scene(
    videos: Sequence[Tensor], times: Sequence[float] = (), name: str = "generated"
) -> Scene:
    """Scene of generated videos `[t c h w]`, for which there is neither context nor truth.

    Args:
        videos: The videos.
        times: Times of their frames; empty if they aren't to be shown.
        name: Label of the videos, before their numbers.
    """
    rows = [Row(v, ["predicted"] * len(v), numbered(name, i)) for i, v in enumerate(videos)]
    return Scene(None, None, None, rows, times)


def _kind(known: bool, given: bool) -> Kind:
    return ("given" if given else "true") if known else "none"


def strip(
    rows: Sequence[Row], columns: int = 20, zoom: int | None = None, times: Sequence[float] = ()
) -> Tensor:
    """Strip: a picture of videos below each other, with time from left to right.

    Args:
        rows: Videos of equal length and size.
        columns: Largest number of frames in a row. Of longer videos, every second frame is shown,
            or every third, and so on.
        zoom: Factor of enlargement. None: enlarge to about 128 pixels.
        times: Times of the frames, written above them; empty if they aren't to be shown.
    """
    step = math.ceil(len(rows[0].kinds) / columns)
    panels = [_panels(row, zoom)[::step] for row in rows]
    lines = [torch.cat(list(line), -1) for line in panels]
    if any(row.label for row in rows):
        lines = with_names(lines, [row.label for row in rows])
    picture = torch.cat(lines, -2)
    if len(times):
        picture = with_times(picture, panels[0].shape[-1], times[::step])
    return _with_margin(with_legend(picture, rows))


def animation(
    videos: Sequence[Sequence[Row]],
    zoom: int | None = None,
    times: Sequence[Sequence[float]] = (),
) -> Tensor:
    """Animation of videos below each other, each with panels side by side that play together.

    Args:
        videos: Panels of each video, all of equal length and size.
        zoom: Factor of enlargement. None: enlarge to about 128 pixels.
        times: Times of the frames of each video, written above its last panel; empty if they
            aren't to be shown.
    """
    lines = []
    for i, rows in enumerate(videos):
        panels = [_panels(row, zoom) for row in rows]
        panels = with_titles(panels, rows, times[i] if len(times) else ())
        lines.append(torch.cat(panels, -1))
    return _with_margin(with_legend(torch.cat(lines, -2), [row for v in videos for row in v]))


def enlarged(video: Tensor, zoom: int) -> Tensor:
    """Enlarged video or picture `[... h w]`: every pixel becomes a square of `zoom` by `zoom`."""
    return video.repeat_interleave(zoom, -2).repeat_interleave(zoom, -1)


def _panels(row: Row, zoom: int | None) -> Tensor:
    """Frames with their borders, `[t 3 h' w']`."""
    frames = row.frames
    if frames.shape[-2] == 1 and frames.shape[-1] > LINE:  # a field at scattered points
        frames = frames.expand(-1, -1, LINE, -1)
    t, _, h, w = frames.shape
    zoom = max(1, round(SIDE / max(h, w))) if zoom is None else zoom
    border = gap = max(2, zoom)
    big = enlarged(frames.cpu(), zoom).expand(-1, 3, -1, -1)
    edge, rest = border + gap, 2 * (border + gap)
    panels = torch.full((t, 3, h * zoom + rest, w * zoom + rest), BACKGROUND, dtype=torch.uint8)
    for panel, frame, kind in zip(panels, big, row.kinds, strict=True):
        colour = torch.tensor(COLOURS[kind], dtype=torch.uint8)[:, None, None]
        panel[:, gap:-gap, gap:-gap] = colour
        panel[:, edge:-edge, edge:-edge] = BACKGROUND if kind == "none" else frame
    return panels


def _with_margin(picture: Tensor, margin: int = 4) -> Tensor:
    return torch.nn.functional.pad(picture, (margin,) * 4, value=BACKGROUND)
