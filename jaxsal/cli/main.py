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
from jaxsal.errors import InputError, OutputError

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
        "report": "make a page of a cohort's results, to read in a browser",
        "evaluate": "measure how good a network is, and choose its threshold",
        "experiment": "ask the paper's questions of a network and scans: a table and a figure each",
        "train": "train a network on a cohort with references (needs the extra: jaxsal[train])",
        "phantoms": "write synthetic patients, to train on or to try commands with",
        "bench": "measure a model's speed on this device, and forecast what a scan takes",
    },
    in_package("jaxsal.cli"),
    epilog="`jaxsal COMMAND --help` describes a command. Begin with `jaxsal demo`.",
)
_MISTAKE, _FAILURE, _INTERRUPTED, _TERMINATED = 2, 1, 130, 143
_NO_MEMORY = "out of memory; use smaller windows (--roi) or give explain a smaller --memory"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status.

    0, 2 for a user's mistake, 1 for a failure, or what the command itself returns.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    name = "jaxsal"
    warnings.showwarning = lambda message, *_, **__: print(
        f"{name}: warning: {message}", file=sys.stderr
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
    except OutputError as error:
        return _say(name, str(error), _FAILURE)
    except InputError as error:
        return _say(name, str(error), _MISTAKE)
    except KeyboardInterrupt as error:
        status = _TERMINATED if isinstance(error, Terminated) else _INTERRUPTED
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


def _say(name: str, message: str, status: int) -> int:
    print(f"{name}: error: {message}", file=sys.stderr)
    return status


def _parser(words: Sequence[str]) -> Parser:
    parser = Parser(prog="jaxsal")
    parser.add_argument("--version", action="version", version=f"jaxsal {__version__}")
    parser.add_argument("--print-completion", action=Completion, command=COMMAND)
    build(parser, COMMAND, words)
    return parser
