"""Error for a mistake in the user's input; the command line prints it without a traceback."""

from typing import Any, get_args


class InputError(ValueError):
    """Error in the user's input; the message says what was got and what to do."""


def check_counts(least: int, **counts: int) -> None:
    """Checks that numbers given by the user are large enough.

    Args:
        least: Smallest allowed number.
        counts: Numbers by the names that the user knows.

    Raises:
        InputError: One of the numbers is below `least`.
    """
    for name, count in counts.items():
        if count < least:
            raise InputError(f"got {name} {count}; give {least} or more")


def check_words(*pairs: tuple[str, Any]) -> None:
    """Raises an `InputError` if a word is not one of the words of its `Literal` type."""
    for word, literal in pairs:
        if word not in get_args(literal):
            raise InputError(f"got {word!r}; give one of {', '.join(get_args(literal))}")
