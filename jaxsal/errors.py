"""Errors whose message is for the user; the command line prints it without a traceback."""

from __future__ import annotations


class JaxsalError(ValueError):
    """An error that says by itself what is wrong and what to do."""


class InputError(JaxsalError):
    """A file, an argument or a combination of them that jaxsal cannot work with.

    The message states the rule, names the file or argument, says what was received and what to do.
    The command line exits with status 2.
    """


class OutputError(JaxsalError):
    """Results cannot be made or written, for a reason that lies in no scan and no argument.

    The disk is full, for instance, or memory runs out. The command line exits with status 1.
    """
