"""Progress of long loops: a bar on a terminal, and a plain line a minute in pipes and files."""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, ClassVar, Generic, TypeVar

T = TypeVar("T")
PAUSE = 60.0  # seconds from one line to the next
DELAY = 1.0  # seconds before a bar appears
REDRAWN = 0.25  # seconds from one state of a bar to the next


class _State:
    """State of this module: if loops show their progress, and the bars on the terminal."""

    shown = True
    bars: ClassVar[list["_Bar"]] = []


def show(shown: bool) -> None:
    """Says whether the loops of this process show their progress."""
    _State.shown = shown


@contextmanager
def hidden(hide: bool = True) -> Iterator[None]:
    """Context in which loops don't show their progress, if `hide` is true."""
    before, _State.shown = _State.shown, _State.shown and not hide
    try:
        yield
    finally:
        _State.shown = before


def reset() -> None:
    """Takes bars off the terminal that an error left there, and lets loops show theirs again."""
    _State.shown = True
    while _State.bars:
        _State.bars[-1].close()


def on_terminal() -> bool:
    """True if standard output and standard error are a terminal that can show a bar."""
    both = sys.stdout.isatty() and sys.stderr.isatty()
    return both and os.environ.get("TERM") != "dumb"


class Progress(Generic[T]):
    """Items of a long loop, one by one, while the progress of the loop is shown.

    On a terminal a bar appears after a second, and goes when the loop ends. Elsewhere there is a
    line a minute, so nothing for a loop of less than a minute.

    Args:
        items: Items.
        title: What the loop does, such as `Reading videos`.
        total: Number of items. None: the length of `items`, or unknown if they have none.
        shown: Whether there is something to see, if `show` doesn't forbid it.

    Attributes:
        note: Text behind the numbers, such as the loss. The loop may change it at any time.
    """

    def __init__(
        self, items: Iterable[T], title: str, total: int | None = None, shown: bool = True
    ) -> None:
        length = len(items) if isinstance(items, Sized) else None
        self.items, self.title, self.shown = items, title, shown
        self.total = length if total is None else total
        self.note = ""

    def __iter__(self) -> Iterator[T]:
        if not (self.shown and _State.shown):
            yield from self.items
            return
        display = (_Bar if on_terminal() else Lines)(self.title, self.total)
        try:
            for done, item in enumerate(self.items, 1):
                yield item
                display.at(done, self.note)
        finally:
            display.close()


class Lines:
    """Plain lines about a loop, one a minute, on standard error.

    Args:
        title: What the loop does.
        total: Number of items. None: unknown.
    """

    def __init__(self, title: str, total: int | float | None) -> None:
        self.title, self.total = title, total
        self._begin = self._told = time.monotonic()

    def at(self, done: int, note: str = "") -> None:
        """Writes a line if one is due.

        Args:
            done: Number of items that are done.
            note: Text behind the numbers.
        """
        if time.monotonic() - self._told < PAUSE:
            return
        self._told = time.monotonic()
        of = f"/{self.total:g}" if self.total else ""
        parts = [f"{done}{of}", *self._pace(done), note]
        write_line(f"{self.title}: {', '.join(part for part in parts if part)}")

    def close(self) -> None:
        """Does nothing: a line is complete."""

    def _pace(self, done: int) -> list[str]:
        seconds = time.monotonic() - self._begin
        known = [f"{done / max(seconds, 1e-9):.3g}/s"]
        return [*known, left(seconds * (self.total - done) / done)] if self.total else known


class _Bar(Lines):
    """Bar on the terminal, below any other that is shown."""

    def __init__(self, title: str, total: int | float | None) -> None:
        super().__init__(title, total)
        self._told += DELAY - REDRAWN
        self._live: Any = None
        self._task: Any = None

    def at(self, done: int, note: str = "") -> None:
        if time.monotonic() - self._told < REDRAWN:
            return
        self._told = time.monotonic()
        if self._live is None:
            self._live = _live()
            self._task = self._live.add_task(self.title, total=self.total, text="")
            self._live.start()
            _State.bars.append(self)
        text = "  ".join([*self._pace(done), note])
        self._live.update(self._task, completed=done, text=text)

    def close(self) -> None:
        if self in _State.bars:
            _State.bars.remove(self)
            self._live.stop()


def left(seconds: float) -> str:
    """Time left as text, such as `0:03:25 left`."""
    return f"{timedelta(seconds=max(0, round(seconds)))} left"


def write_line(text: str) -> None:
    """Writes a line to standard error, at once."""
    print(text, file=sys.stderr, flush=True)


def _live() -> Any:
    # Imported here, because most programs need no bar.
    from rich import get_console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Live

    texts = [TextColumn(f"{{task.{x}}}", markup=False) for x in ("description", "fields[text]")]
    columns = (texts[0], BarColumn(20), MofNCompleteColumn(), texts[1])
    # The console that Lightning's bars use, too: one below the other.
    return Live(*columns, console=get_console(), transient=True)
