"""Long loops show a bar on a terminal, and a plain line a minute elsewhere."""

import io

import pytest
from rich.console import Console

from common import progress
from common.progress import Progress, hidden, reset


@pytest.fixture
def clock(monkeypatch):
    """Time that the test sets, in s."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def run(clock, seconds, count=10, **options):
    """A loop whose items take some seconds each."""
    loop, seen = Progress(range(count), "Counting", **options), []
    for item in loop:
        seen.append(item)
        loop.note = f"loss {item}"
        clock[0] += seconds
    return seen


def test_a_pipe_gets_a_line_a_minute_and_nothing_of_a_short_loop(clock, capsys):
    assert run(clock, 5.9) == list(range(10))
    assert capsys.readouterr() == ("", "")
    run(clock, 25)
    assert capsys.readouterr().err == (
        "Counting: 3/10, 0.04/s, 0:02:55 left, loss 2\n"
        "Counting: 6/10, 0.04/s, 0:01:40 left, loss 5\n"
        "Counting: 9/10, 0.04/s, 0:00:25 left, loss 8\n"
    )


def test_the_length_may_be_unknown(clock, capsys):
    for _ in Progress(iter("abc"), "Reading"):
        clock[0] += 100
    assert capsys.readouterr().err.splitlines()[0] == "Reading: 1, 0.01/s"


def test_hidden_loops_write_nothing(clock, capsys):
    with hidden():
        run(clock, 100)
    run(clock, 100, shown=False)
    progress.show(False)
    run(clock, 100)
    reset()
    assert capsys.readouterr() == ("", "")
    run(clock, 100)
    assert capsys.readouterr().err


def test_a_terminal_gets_a_bar_after_a_second_that_goes_at_the_end(clock, monkeypatch):
    console = Console(file=io.StringIO(), force_terminal=True, width=80, _environ={})
    monkeypatch.setattr(progress, "on_terminal", lambda: True)
    monkeypatch.setattr("rich.get_console", lambda: console)
    run(clock, 0.05)
    assert console.file.getvalue() == ""
    run(clock, 2)
    shown = console.file.getvalue()
    assert "Counting" in shown
    assert "10/10" in shown
    assert shown.endswith("\x1b[1A\x1b[2K")  # the line is deleted
    loop = iter(Progress(range(9), "Failing"))
    for _ in range(3):
        next(loop)
        clock[0] += 2
    assert len(console._live_stack) == 1
    reset()  # as after an error in the body of a loop
    assert not console._live_stack
