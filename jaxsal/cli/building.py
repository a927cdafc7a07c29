"""The parser of a command line, from commands and the options that dataclasses declare.

Of many commands only the one that is called is loaded. ``jaxsal --print-completion SHELL`` has all
of them, for names of commands and options at the TAB key.
"""

from __future__ import annotations

import argparse
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from jaxsal.cli.command import Command, Commands, Group, group
from jaxsal.cli.config import Config
from jaxsal.cli.parser import Parser, Several, Switch
from jaxsal.errors import InputError
from jaxsal.options import Option, described


def build(parser: Parser, command: Command | Commands, words: Sequence[str] | None) -> None:
    """Adds a command to a parser, with what the words call of the commands below it.

    Args:
        parser: gets the options, and parsers of the commands below.
        command: what is called.
        words: the command line after the command's name; None: add all commands below.
    """
    parser.description = command.description
    if isinstance(command, Commands):
        parser.epilog = command.epilog
        verbs = parser.add_subparsers(title="commands", metavar=command.metavar, required=True)
        for name, summary in command.summaries.items():
            below = verbs.add_parser(name, help=summary)
            if words is None or name in words[:1]:
                build(below, command.load(name), words and words[1:])
        return
    parser.set_defaults(command=command, prog=parser.prog)
    groups = command.groups
    options = add_groups(parser, groups() if callable(groups) else groups)
    if command.configurable:
        parser.in_file = {each.flag: each for each in options if not each.positional}
        options += add_groups(parser, (group(Config),))
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=_DEBUG)
    parser.usage = " ".join([parser.prog, *usage(options), "[options]"])


Container = argparse._ActionsContainer


def add_groups(parser: Parser, groups: tuple[Group, ...]) -> list[Option]:
    """Adds options, which it returns; those that a user does not give leave nothing behind.

    Raises:
        InputError: two have the same name, as an option of another package's method may have.
    """
    exclusive: dict[str, Container] = {}
    titled: dict[str, Container] = {"options": parser}
    added: list[Option] = []
    for title, options in groups:
        for option in options:
            if any(option.flag == each.flag or option.name == each.name for each in added):
                raise InputError(f"{title}: there is an option --{option.flag} already; rename it")
            if title not in titled:
                titled[title] = parser.add_argument_group(title)
            place = titled[title]
            if option.exclusive:
                if option.exclusive not in exclusive:
                    exclusive[option.exclusive] = place.add_mutually_exclusive_group()
                place = exclusive[option.exclusive]
            _add(place, option)
            added.append(option)
    return added


def usage(options: Iterable[Option]) -> Iterator[str]:
    """What must be given, in words."""
    for option in options:
        if option.default is MISSING and option.positional:
            yield option.metavar or option.name
        elif option.default is MISSING:
            yield f"--{option.flag} {option.metavar}"


def _add(place: Container, option: Option) -> None:
    required = option.default is MISSING
    settings: dict[str, Any] = {"help": _help(option), "default": argparse.SUPPRESS}
    if option.kind is bool:
        flag = f"--{'no-' if option.default else ''}{option.flag}"
        place.add_argument(flag, dest=option.name, action=Switch, **settings)
        return
    settings |= {"metavar": option.metavar, "type": _reader(option)}
    settings["choices"] = option.choices or None
    if option.repeated:
        settings["action"] = "append"
    elif option.parse is None and typing.get_origin(option.kind) is tuple:
        parts = typing.get_args(option.kind)
        count = 1 if parts[-1] is Ellipsis else len(parts)
        settings |= {"nargs": "+", "action": Several, "count": count}
    if not option.positional:
        flags = (f"--{flag}" for flag in (option.flag, *option.also))
        place.add_argument(*flags, dest=option.name, required=required, **settings)
    elif required:
        place.add_argument(option.name, **settings)
    else:
        settings["default"] = None  # argparse would read its own mark of what is suppressed
        place.add_argument(option.name, nargs="?", **settings)


def _help(option: Option) -> str:
    shown = option.default_shown
    text = f"{option.help}; default: {shown}" if shown else option.help
    return text.replace("``", "").replace("%", "%%")


def _reader(option: Option) -> Callable[[str], Any]:
    """From a word to a value."""
    kind = option.kind
    if typing.get_origin(kind) is tuple:
        kind = typing.get_args(kind)[0]
    parse = option.parse or (str if typing.get_origin(kind) is typing.Literal else kind)
    if parse in (str, Path):
        return parse
    rule = None if option.parse else f"must be {described(kind)}"

    def read(word: str) -> Any:
        try:
            return parse(word)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{rule or error}; got {word!r}") from error

    return read


_DEBUG = "show the traceback of an error instead of one sentence"
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
