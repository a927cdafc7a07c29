"""The one error a user's mistake raises."""

from __future__ import annotations


class InputError(ValueError):
    """A file, an argument or a combination of them that jaxsal cannot work with.

    The message states the rule, names the file or argument, says what was received and what to do.
    The command line prints it without a traceback and exits with status 2.
    """


class OutputError(InputError):
    """Results cannot be written, of whatever scan."""
