"""Signals that ask a run to stop. It is imported before torch, so that no signal finds it missing.

While the libraries load, and while a model trains, a signal is only noted: `LastCheckpoint` saves
and ends the run after the batch. At any other time there is nothing to save, and the program ends
at once.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPPING = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT)


class Stopped(SystemExit):
    """End of a run by a signal, with the usual exit status 128 + its number.

    Args:
        number: Number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.name = signal.Signals(number).name


class _State:
    """State of the signal handlers: their process, the received signal, and if it is deferred."""

    process = os.getpid()
    number: int | None = None
    deferred = False


def catch(deferred: bool = False) -> dict[int, Any]:
    """Installs the handlers, and returns the ones that were there before.

    A signal that is ignored stays so: `nohup` lets a run outlive its terminal in this way.

    Args:
        deferred: Only note the signals.
    """
    _State.process, _State.deferred = os.getpid(), deferred
    handled = [n for n in STOPPING if signal.getsignal(n) != signal.SIG_IGN]
    return {number: signal.signal(number, _note) for number in handled}


@contextmanager
def caught() -> Iterator[None]:
    """Context with the handlers; outside the main thread, which gets all signals, it is empty.

    Raises:
        Stopped: A signal came while the libraries loaded.
    """
    try:
        before = catch()
    except ValueError:
        before = {}
    try:
        if _State.number not in (None, signal.SIGUSR1):
            raise Stopped(_State.number)
        yield
    finally:
        _State.number = None
        for number, handler in before.items():
            signal.signal(number, handler)


def noted() -> int | None:
    """Signal number that asked the training to stop. None: no signal so far."""
    return _State.number


def defer(training: bool) -> None:
    """Says whether a model trains, so that signals are only noted."""
    _State.deferred = training


def _note(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _State.process:
        return  # a data worker: the process that it works for decides
    if number == signal.SIGINT == _State.number:
        # The second Ctrl-C: end now, as if there were no handler.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    _State.number = number
    if number == signal.SIGHUP:
        _replace_terminal()
    # SIGUSR1 is an early warning: a scheduler may send it long before the training begins.
    if not _State.deferred and number != signal.SIGUSR1:
        raise Stopped(number)


def _replace_terminal() -> None:
    """Sends all output nowhere if the terminal is gone, where each write would be an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        try:
            os.write(stream, b"")
        except OSError:
            os.dup2(nowhere, stream)
    os.close(nowhere)
