"""Rows of pictures: videos with the kinds of their frames, and the text that says what is what."""

import functools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont
from torch import Tensor

Colour = tuple[int, int, int]
Kind = Literal["given", "predicted", "true", "none"]
COLOURS: dict[Kind, Colour] = {
    "given": (64, 170, 92),
    "predicted": (214, 72, 64),
    "true": (150, 150, 150),
    "none": (56, 56, 56),
}
BACKGROUND = 28  # grey level behind text, between frames, and in place of a missing frame
WHITE: Colour = (225, 225, 225)
HEIGHT = 16  # of a line of text, in pixels
SIZE = 11  # of the font, in pixels
GAP = 6  # around words, in pixels


class Row(NamedTuple):
    """Row of a picture: a video, and the kind of each of its frames.

    Attributes:
        frames: Video `[t c h w]` of bytes.
        kinds: Kind of each frame, which gives the colour of its border; a frame of kind `none` is
            left blank.
        label: What the row shows, in a few words; an empty text for a row without a label.
    """

    frames: Tensor
    kinds: Sequence[Kind]
    label: str = ""


def numbered(name: str, index: int) -> str:
    """Label of one of several rows, numbered from 1."""
    return f"{name} {index + 1}"


def with_times(picture: Tensor, width: int, times: Sequence[float]) -> Tensor:
    """Picture `[3 h w]` of lines of frames of this width, below the times of the frames."""
    first = picture.shape[-1] - width * len(times)
    texts = [_text("", first), *(_text(_time(t), width) for t in times)]
    return torch.cat([torch.cat(texts, -1), picture], -2)


def with_names(lines: Sequence[Tensor], names: Sequence[str]) -> list[Tensor]:
    """Lines `[3 h w]` to the right of their names."""
    space = max(map(_width, names))
    pairs = zip(names, lines, strict=True)
    return [torch.cat([_text(name, space, line.shape[-2]), line], -1) for name, line in pairs]


def with_titles(
    panels: Sequence[Tensor], rows: Sequence[Row], times: Sequence[float]
) -> list[Tensor]:
    """Panels `[t 3 h w]` below the labels of their rows, the last one also below its times.

    Without labels the panels are as they were.
    """
    if not any(row.label for row in rows):
        return list(panels)
    width, titled = panels[0].shape[-1], []
    for panel, row in zip(panels, rows, strict=True):
        titles = _text(row.label, width).repeat(len(panel), 1, 1, 1)
        for i, time in enumerate(times if row is rows[-1] else ()):
            space = min(_width(_time(time)), width)
            titles[i, ..., width - space :] = _text(_time(time), space)
        titled.append(torch.cat([titles, panel], -2))
    return titled


def with_legend(picture: Tensor, rows: Sequence[Row]) -> Tensor:
    """Picture `[… 3 h w]`, with the meaning of the colours below if the rows have labels."""
    if not any(row.label for row in rows):
        return picture
    found = {kind for row in rows for kind in row.kinds} - {"none"}
    words = [(kind, colour) for kind, colour in COLOURS.items() if kind in found]
    line = _words(words, picture.shape[-1], HEIGHT)
    return torch.cat([picture, line.expand(*picture.shape[:-3], -1, -1, -1)], -2)


def _time(time: float) -> str:
    return f"t = {round(time, 3) + 0.0:g}"


def _text(text: str, width: int, height: int = HEIGHT) -> Tensor:
    return _words([(text, WHITE)], width, height)


def _words(words: Sequence[tuple[str, Colour]], width: int, height: int) -> Tensor:
    """Picture `[3 h w]` of bytes of a line of words, cut where it is too long."""
    image = PILImage.new("RGB", (width, height), (BACKGROUND,) * 3)
    draw, left = ImageDraw.Draw(image), GAP
    for word, colour in words:
        draw.text((left, height // 2), word, colour, _font(), anchor="lm")
        left += _width(word)
    return torch.from_numpy(np.array(image)).movedim(-1, 0)


def _width(text: str) -> int:
    return round(_font().getlength(text)) + 2 * GAP


@functools.cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(SIZE)
