"""``jaxsal COMMAND``: parses, runs, and turns a user's mistake into one sentence."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence

from jaxsal import __version__
from jaxsal.cli.building import Completion, build
from jaxsal.cli.command import Commands, in_package
from jaxsal.cli.interruption import Terminated, terminable
from jaxsal.cli.parser import Parser
from jaxsal.errors import InputError, OutputError, at_work, printable

COMMAND = Commands(
    "Instance-level, quantitative saliency for 3D lesion segmentation.",
    {
        "demo": "the whole job on a bundled model and a synthetic brain; needs no file",
        "convert": "convert a PyTorch checkpoint (needs the extra: jaxsal[convert])",
        "info": "show a model's architecture, channels, threshold, receptive field and layers",
        "preprocess": "register a cohort's images, resample them, remove skulls and bias fields",
        "predict": "find the lesions of a scan",
        "explain": "find the lesions of a scan and map what each of them rests on",
        "cohort": "work on many scans: check, plan, run, look how far a run is",
        "bids": "work on a BIDS dataset as BIDS-Apps do: participant level, then group level",
        "report": "make a page of a cohort's results, to read in a browser",
        "view": "look at results in a browser, slice by slice",
        "evaluate": "measure how good a network is, and choose its threshold",
        "experiment": "ask the paper's questions of a network and scans: a table and a figure each",
        "detector": "tell false lesions by their maps: fit on one cohort, apply to another",
        "train": "train a network on a cohort with references (needs the extra: jaxsal[train])",
        "phantoms": "write synthetic patients, to train on or to try commands with",
        "bench": "measure a model's speed on this device, and forecast what a scan takes",
    },
    in_package("jaxsal.cli"),
    epilog="`jaxsal COMMAND --help` describes a command. Begin with `jaxsal demo`.",
)
_MISTAKE, _FAILURE, _FAULT, _INTERRUPTED, _TERMINATED = 2, 1, 70, 130, 143
_LONGEST = 300  # characters of an error that nobody foresaw
_INTERRUPTION = "interrupted; no results were written, the same command begins again"
_NO_MEMORY = "out of memory; use smaller windows (--roi) or give explain a smaller --memory"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status.

    0, 2 for a user's mistake, 1 for a failure of the machine, 70 for a fault of jaxsal's own, or
    what the command itself returns. With ``--debug`` errors are raised as they are.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    name = "jaxsal"
    warnings.showwarning = lambda message, *_, **__: print(
        f"{name}: warning: {printable(str(message))}", file=sys.stderr
    )
    try:
        options = _parser(words).parse_args(words)
    except InputError as error:  # a saliency method of another package
        return _say(name, str(error), _MISTAKE)
    name = options.prog
    try:
        with terminable():
            status: int | None = options.command.run_with(options)
        sys.stdout.flush()
    except Exception as error:
        if vars(options).get("debug"):
            raise
        return _failed(name, error)
    except KeyboardInterrupt as error:
        status = _TERMINATED if isinstance(error, Terminated) else _INTERRUPTED
        _say(name, str(error) or _INTERRUPTION, status)
        if arguments is None:  # as a program: Python's own exit may crash in JAX's computation
            sys.stdout.flush()
            os._exit(status)
        return status
    return status or 0


def _failed(name: str, error: Exception) -> int:
    """Says in one sentence why a command failed, and returns the exit status."""
    if isinstance(error, BrokenPipeError):  # the reader of our output, `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if isinstance(error, InputError):
        return _say(name, str(error), _MISTAKE)
    if isinstance(error, (OutputError, OSError)):
        return _say(name, str(error), _FAILURE)
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):  # how JAX says it
        return _say(name, _NO_MEMORY, _FAILURE)
    return _say(name, _fault(error), _FAULT)


def _fault(error: Exception) -> str:
    """One sentence of an error that nobody foresaw."""
    said = " ".join(str(error).split())[:_LONGEST]
    places = "".join(f", at work on {what}" for what in at_work(error)[:1])
    return (
        f"a fault of jaxsal's own{places} ({type(error).__name__}: {said}); no file is "
        "half-written. Please report it with the traceback, which the same command shows with "
        "--debug: see Security in jaxsal/README.md"
    )


def _say(name: str, message: str, status: int) -> int:
    print(f"{name}: error: {printable(message)}", file=sys.stderr)
    return status


def _parser(words: Sequence[str]) -> Parser:
    parser = Parser(prog="jaxsal")
    parser.add_argument("--version", action="version", version=f"jaxsal {__version__}")
    parser.add_argument("--print-completion", action=Completion, command=COMMAND)
    build(parser, COMMAND, words)
    return parser
