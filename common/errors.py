"""The error that stands for a user's input: the command line prints it without a traceback."""


class InputError(ValueError):
    """Something given by the user doesn't fit; the message says what was got and what to do."""


def check_counts(least: int, **counts: int) -> None:
    """Raises an `InputError` if one of the numbers, named as the user knows it, is too small."""
    for name, count in counts.items():
        if count < least:
            raise InputError(f"got {name} {count}; give {least} or more")
