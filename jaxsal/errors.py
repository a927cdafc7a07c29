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


def require(valid: bool, name: str, rule: str, received: object) -> None:
    """Refuses a value that breaks a rule.

    Args:
        valid: whether it keeps the rule.
        name: of the setting or argument.
        rule: what it must be, such as "1 or more".
        received: the value.

    Raises:
        InputError: it is not valid.
    """
    if not valid:
        raise InputError(f"{name} must be {rule}; got {received!r}")
