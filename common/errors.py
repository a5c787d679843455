"""The one error that stands for a user's input: the command line prints it without a traceback."""


class InputError(ValueError):
    """Something given by the user doesn't fit; the message says what was got and what to do."""
