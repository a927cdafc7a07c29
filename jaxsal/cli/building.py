"""The parser of a command line; of many commands only the one that is called is loaded."""

from __future__ import annotations

from collections.abc import Sequence

from jaxsal.cli.arguments import add_groups, usage
from jaxsal.cli.command import Command, Commands, group
from jaxsal.cli.config import Config
from jaxsal.cli.parser import Parser


def build(parser: Parser, command: Command | Commands, words: Sequence[str] | None) -> None:
    """Adds a command to a parser, with what the words call of the commands below it.

    Args:
        parser: gets the options, and parsers of the commands below.
        command: what is called.
        words: the command line after the command's name; None: add all commands below.
    """
    parser.description = command.description
    if isinstance(command, Commands):
        _add_commands(parser, command, words)
        return
    parser.set_defaults(command=command, prog=parser.prog)
    groups = command.groups
    options = add_groups(parser, groups() if callable(groups) else groups)
    if command.configurable:
        parser.in_file = {each.flag: each for each in options if not each.positional}
        options += add_groups(parser, (group(Config),))
    parser.usage = " ".join([parser.prog, *usage(options), "[options]"])


def _add_commands(parser: Parser, commands: Commands, words: Sequence[str] | None) -> None:
    parser.epilog = commands.epilog
    verbs = parser.add_subparsers(title="commands", metavar=commands.metavar, required=True)
    for name, summary in commands.summaries.items():
        below = verbs.add_parser(name, help=summary)
        if words is None or name in words[:1]:
            build(below, commands.load(name), words and words[1:])
