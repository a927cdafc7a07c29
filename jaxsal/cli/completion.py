"""``jaxsal --print-completion SHELL``: names of commands and options at the TAB key."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from jaxsal.cli.building import build
from jaxsal.cli.command import Commands
from jaxsal.cli.parser import Parser

_HELP = (
    "print a script that completes command lines, and exit; for bash: jaxsal --print-completion "
    "bash > ~/.local/share/bash-completion/completions/jaxsal"
)


class Completion(argparse.Action):
    """Prints the script and ends the program."""

    def __init__(self, *, command: Commands, **settings: Any) -> None:
        shells = ("bash", "zsh", "tcsh")
        super().__init__(default=argparse.SUPPRESS, choices=shells, help=_HELP, **settings)
        self._command = command

    def __call__(self, parser: Any, namespace: Any, shell: Any, option: Any = None) -> None:
        """Prints the script and ends the program."""
        import shtab

        whole = Parser(prog=parser.prog)
        build(whole, self._command, None)
        _complete_paths(whole, shtab.FILE)
        print(shtab.complete(whole, shell))
        parser.exit()


def _complete_paths(parser: argparse.ArgumentParser, files: Any) -> None:
    for action in parser._actions:
        if action.type is Path:
            action.complete = files  # type: ignore[attr-defined]
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                _complete_paths(below, files)
