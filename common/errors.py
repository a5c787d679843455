"""The error that stands for a user's input: the command line prints it without a traceback."""

from typing import Any, get_args


class InputError(ValueError):
    """Something given by the user doesn't fit; the message says what was got and what to do."""


def check_counts(least: int, **counts: int) -> None:
    """Raises an `InputError` if one of the numbers, named as the user knows it, is too small."""
    for name, count in counts.items():
        if count < least:
            raise InputError(f"got {name} {count}; give {least} or more")


def check_words(*pairs: tuple[str, Any]) -> None:
    """Raises an `InputError` if a word is not one of the words of its `Literal` type."""
    for word, literal in pairs:
        if word not in get_args(literal):
            raise InputError(f"got {word!r}; give one of {', '.join(get_args(literal))}")
