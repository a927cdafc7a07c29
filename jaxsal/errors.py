"""Errors and warnings whose message is for the user, and checks that raise them."""

from __future__ import annotations

import errno
import math
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral
from typing import Any

_LONGEST = 2000  # characters of a line


def printable(text: str) -> str:
    """A text as a terminal and a table can bear it, whatever file it quotes.

    Control characters, and halves of characters, are written as Python writes them; what is left of
    a line of more than 2,000 characters is cut off.
    """
    lines = (line[:_LONGEST] + "…" * (len(line) > _LONGEST) for line in text.split("\n"))
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode()
        for c in "\n".join(lines)
    )


class JaxsalError(ValueError):
    """An error that says by itself what is wrong and what to do."""

    def __str__(self) -> str:
        return printable(super().__str__())


class InputError(JaxsalError):
    """A file, an argument or a combination of them that jaxsal cannot work with.

    The message states the rule, names the file or argument, says what was received and what to do.
    The command line exits with status 2.
    """


class OutputError(JaxsalError):
    """Results cannot be made or written, for a reason that lies in no scan and no argument.

    The disk is full, for instance, or memory runs out. The command line exits with status 1.
    """


# A folder was given that cannot be written; any other error is the machine's, such as a full disk.
_MISTAKES = {
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL),
}


def unwritable(folder: object, error: OSError) -> JaxsalError:
    """What to raise when results cannot be written into a folder.

    Returns:
        An InputError if the folder is the wrong one, an OutputError if it is right and the disk
        fails or is full.
    """
    reason = f"cannot write into {folder}: {error.strerror or error}"
    if error.errno in _MISTAKES:
        return InputError(f"{reason}; choose another folder, or see to its rights")
    return OutputError(f"{reason}; see to the disk and its space, and give the same command again")


_AT_WORK = "at work on "


@contextmanager
def at_work_on(what: object) -> Iterator[None]:
    """Has errors of the block that nobody foresaw name what it works on, such as a file."""
    try:
        yield
    except JaxsalError:
        raise
    except Exception as error:
        error.add_note(f"{_AT_WORK}{what}")
        raise


def at_work(error: BaseException) -> list[str]:
    """What an error was raised at work on, the innermost first."""
    notes = getattr(error, "__notes__", ())
    return [note.removeprefix(_AT_WORK) for note in notes if note.startswith(_AT_WORK)]


# What may stand between a user's line and the place in jaxsal that warns.
_BETWEEN = {"jaxsal", "jaxsal_converters", "jax", "flax", "jaxtyping", *sys.stdlib_module_names}


def warn(text: str) -> None:
    """Issues a warning at the line of the user's that called jaxsal.

    In a thread of jaxsal's own, where there is no such line, it is at the thread's beginning.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _package(frame.f_globals) in _BETWEEN:
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)


def _package(names: Mapping[str, Any]) -> str:
    return str(names.get("__name__", "")).partition(".")[0]


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


def require_one_of(name: str, value: str, known: Sequence[str]) -> None:
    """Raises InputError unless the value is one of those known."""
    if value not in known:
        raise InputError(f"{name} must be one of {', '.join(known)}; got {value!r}")


def require_whole(name: str, value: object, least: int = 1) -> None:
    """Raises InputError unless the value is a whole number of at least so much."""
    if not isinstance(value, Integral) or value < least:
        raise InputError(f"{name} must be a whole number of at least {least}, got {value}")


def require_seed(value: int) -> None:
    """Raises InputError unless the value can seed random numbers on every device."""
    if not isinstance(value, Integral) or not 0 <= value < 2**31:
        raise InputError(f"seed must be from 0 to 2147483647, got {value}")


def require_memory(value: int | None) -> None:
    """Raises InputError unless the value is None or a positive number of bytes."""
    if value is not None and value <= 0:
        raise InputError(f"memory must be more than zero, got {value} bytes")


def require_voxel_size(sizes: Sequence[float]) -> None:
    """Raises InputError unless these can be the sizes of voxels in mm along three axes."""
    if len(sizes) != 3 or not all(0 < size < math.inf for size in sizes):
        raise InputError(f"a voxel size is three numbers of mm, all more than 0; got {sizes}")
