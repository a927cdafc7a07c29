"""What a command is: options, as dataclasses declare them, and a function that runs with them."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any, NamedTuple, TypeVar

from jaxsal.options import Option, options_of

Settings = TypeVar("Settings")


class Given(dict[str, Any]):
    """The options that a user gives, by the names of the fields that declare them."""

    def of(self, settings: type[Settings], **values: Any) -> Settings:
        """The settings given, with these values instead of what is given."""
        names = {field.name for field in fields(settings)}  # type: ignore[arg-type]
        return settings(**{k: v for k, v in self.items() if k in names} | values)


class Group(NamedTuple):
    """Options that stand together in a command's help, under a title."""

    title: str
    options: tuple[Option, ...]


def group(
    settings: type, title: str = "options", *, only: Sequence[str] = (), without: Sequence[str] = ()
) -> Group:
    """The options that a dataclass declares: all of them, only some, or without some."""
    chosen = (each for each in options_of(settings) if not only or each.name in only)
    return Group(title, tuple(each for each in chosen if each.name not in without))


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        description: what it does, for its help.
        groups: its options, or what returns them.
        run: does it with the options given; returns the exit status, None for 0.
        configurable: whether its options may also stand in a file, ``--config FILE``.
    """

    description: str
    groups: tuple[Group, ...] | Callable[[], tuple[Group, ...]]
    run: Callable[[Given], int | None]
    configurable: bool = True

    def run_with(self, options: Namespace) -> int | None:
        """Runs the command with what a parser found."""
        return self.run(Given({k: v for k, v in vars(options).items() if v is not None}))


@dataclass(frozen=True)
class Commands:
    """Commands by name.

    Attributes:
        description: what they have in common.
        commands: by name, a summary in a few words; and the command, or the name of the module
            that has it as ``COMMAND`` and is loaded when it is called.
        metavar: what stands for a name in the help.
        epilog: the help's last paragraph.
    """

    description: str
    commands: Mapping[str, tuple[str, Command | Commands | str]]
    metavar: str = "COMMAND"
    epilog: str | None = None


def loaded(command: Command | Commands | str) -> Command | Commands:
    """The command of a module, given its name."""
    if not isinstance(command, str):
        return command
    found: Command | Commands = import_module(command).COMMAND
    return found
