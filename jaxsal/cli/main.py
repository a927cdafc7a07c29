"""``jaxsal COMMAND``: parses, runs, and turns a user's mistake into one sentence."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, ModuleType

from jaxsal import __version__
from jaxsal.cli import (
    bench,
    cohort,
    convert,
    demo,
    evaluate,
    experiment,
    explain,
    info,
    phantoms,
    predict,
    preprocess,
    report,
    train,
)
from jaxsal.cli.parser import Parser
from jaxsal.errors import InputError, OutputError

_COMMANDS: tuple[ModuleType, ...] = (
    demo,
    convert,
    info,
    preprocess,
    predict,
    explain,
    cohort,
    report,
    evaluate,
    experiment,
    train,
    phantoms,
    bench,
)
_MISTAKE, _FAILURE, _INTERRUPTED, _TERMINATED = 2, 1, 130, 143
_NO_MEMORY = "out of memory; use smaller windows (--roi) or give explain a smaller --memory"


class _Terminated(KeyboardInterrupt):
    """SIGTERM, by which batch systems end a job; what Ctrl-C cleans up, this does too."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status.

    0, 2 for a user's mistake, 1 for a failure, or what the command itself returns.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    name = " ".join([parser.prog, options.command, *filter(None, [getattr(options, "verb", "")])])
    warnings.showwarning = lambda message, *_, **__: print(
        f"{name}: warning: {message}", file=sys.stderr
    )
    try:
        with _terminable():
            status: int | None = options.run(options)
        sys.stdout.flush()
    except OutputError as error:
        return _say(name, str(error), _FAILURE)
    except InputError as error:
        return _say(name, str(error), _MISTAKE)
    except KeyboardInterrupt as error:
        status = _TERMINATED if isinstance(error, _Terminated) else _INTERRUPTED
        _say(name, str(error) or "interrupted; no results were written", status)
        if arguments is None:  # as a program: Python's own exit may crash in JAX's computation
            sys.stdout.flush()
            os._exit(status)
        return status
    except MemoryError:
        return _say(name, _NO_MEMORY, _FAILURE)
    except RuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):  # how JAX says it
            raise
        return _say(name, _NO_MEMORY, _FAILURE)
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        return _say(name, str(error), _FAILURE)
    else:
        return status or 0
    return 0


@contextmanager
def _terminable() -> Iterator[None]:
    """Turns SIGTERM into an exception; signals can be handled in the main thread only."""

    def terminate(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would stop the cleaning up
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _say(name: str, message: str, status: int) -> int:
    print(f"{name}: error: {message}", file=sys.stderr)
    return status


def _parser() -> Parser:
    parser = Parser(
        prog="jaxsal",
        description="Instance-level, quantitative saliency for 3D lesion segmentation.",
        epilog="`jaxsal COMMAND --help` describes a command. Begin with `jaxsal demo`.",
    )
    parser.add_argument("--version", action="version", version=f"jaxsal {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in _COMMANDS:
        module.add_parser(commands)
    return parser
