"""Commands made of functions: arguments reach them, and mistakes end them with one message."""

import pytest

from common.errors import InputError, check_counts
from common.training.cli import run_command


def times(a: int, b: int = 2) -> None:
    """A product.

    Args:
        a: One.
        b: Another.
    """
    check_counts(1, a=a, b=b)
    print(a * b)


def broken(word: str = "x") -> None:
    """Fails of itself.

    Args:
        word: What it says.
    """
    raise ValueError(word)


def wrapped() -> None:
    """Fails because of what was given."""
    try:
        raise InputError("got it wrong")
    except InputError as error:
        raise ValueError("can't be done") from error


def test_one_function_is_the_command_and_several_are_subcommands(capsys):
    run_command([times], ["3", "--b", "4"])
    run_command([times, broken], ["times", "5"])
    assert capsys.readouterr().out.split() == ["12", "10"]


@pytest.mark.parametrize(
    ("functions", "args", "message"),
    [
        ([times], ["3", "--b", "0"], "error: got b 0; give 1 or more\n"),
        ([wrapped], [], "error: got it wrong\n"),
    ],
)
def test_mistakes_of_the_user_end_it_with_one_message(functions, args, message, capsys):
    with pytest.raises(SystemExit) as end:
        run_command(functions, args)
    assert end.value.code == 2
    assert capsys.readouterr().err == message


def test_other_errors_keep_their_trace():
    with pytest.raises(ValueError, match="its own"):
        run_command([broken], ["--word", "its own"])
