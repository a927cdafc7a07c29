"""What a command is: options, as dataclasses declare them, and a function that runs with them."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple, TypeVar

from jaxsal.options import Option, options_of

Settings = TypeVar("Settings")


class Given(dict[str, Any]):
    """The options that a user gives, by the names of the fields that declare them."""

    def of(self, settings: type[Settings], **values: Any) -> Settings:
        """The settings, as their options are given, with these values instead."""
        names = {each.name for each in options_of(settings)}
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
        values = {name: value for name, value in vars(options).items() if value is not None}
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return self.run(Given(values | lists))


@dataclass(frozen=True)
class Commands:
    """Commands by name.

    Attributes:
        description: what they have in common.
        summaries: what each does, in a few words, by name.
        load: from a name to the command.
        metavar: what stands for a name in the help.
        epilog: the help's last paragraph.
    """

    description: str
    summaries: Mapping[str, str]
    load: Callable[[str], Command | Commands]
    metavar: str = "COMMAND"
    epilog: str | None = None


def in_package(package: str) -> Callable[[str], Command | Commands]:
    """Loads commands that are each a module of a package, which has it as ``COMMAND``."""

    def load(name: str) -> Command | Commands:
        found: Command | Commands = import_module(f"{package}.{name}").COMMAND
        return found

    return load
