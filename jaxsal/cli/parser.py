"""Command lines as they are typed: names in full, their misspellings, several values at once."""

from __future__ import annotations

import argparse
import difflib
import math
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

from jaxsal.cli.config import with_file
from jaxsal.errors import InputError
from jaxsal.options import Option

_OPTION = re.compile(r"--?[a-zA-Z][^=\s]*(?=$|=)")  # no number, and no sentence
_UNLIMITED = ("*", "+", argparse.REMAINDER)


class Switch(argparse.Action):
    """``--NAME`` and ``--no-NAME``; the help shows the one that changes the default."""

    def __init__(self, option_strings: Sequence[str], dest: str, **settings: Any) -> None:
        (self.shown,) = option_strings
        name = self.shown.removeprefix("--").removeprefix("no-")
        super().__init__([f"--{name}", f"--no-{name}"], dest, nargs=0, **settings)

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        """Stores what is asked for."""
        setattr(namespace, self.dest, not option.startswith("--no-"))


class Several(argparse.Action):
    """An option with several values, for which a single one may stand."""

    def __init__(self, *, count: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.count = count

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        """Stores them; whether their number is right is checked by the settings."""
        setattr(namespace, self.dest, values * (self.count if len(values) == 1 else 1))


class _Formatter(argparse.HelpFormatter):
    """Switches in one word, and names that have hyphens on one line."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if isinstance(action, Switch):
            return action.shown
        return super()._format_action_invocation(action)


class Parser(argparse.ArgumentParser):
    """A parser of a command, as those of its own commands are.

    Options are not abbreviated, since a new one may change what an abbreviation means. What is not
    known is answered with the nearest name. Where an option may be repeated, its values may also
    follow each other: `--image A B`.

    Attributes:
        in_file: options that may also stand in a file, by flag; see `jaxsal.cli.config`.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(
            *args, **{"allow_abbrev": False, "formatter_class": _Formatter, **settings}
        )
        self._positionals.title = "arguments"
        self.in_file: dict[str, Option] = {}

    def error(self, message: str) -> NoReturn:
        """Ends the program with what is wrong, and where to read on."""
        text = f"{self.prog}: error: {message}\n`{self.prog} --help` describes the options\n"
        self.exit(2, text)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in `argparse`, but nothing stays unknown."""
        if args is None:
            args = sys.argv[1:]
        try:
            words = with_file(args, self.in_file) if self.in_file else list(args)
        except InputError as error:
            self.error(str(error))
        known = self._option_string_actions
        for option in self._options_in(words):
            if option not in known:
                self.error(f"there is no option {option}{_near(option, known)}")
        found, unknown = super().parse_known_args(self._repeated(words), namespace)
        if unknown:
            self.error(f"not expected: {' '.join(unknown)}")
        return found, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            names = [str(choice) for choice in action.choices]
            wrong = f"there is no {value!r}{_near(str(value), names)}"
            raise argparse.ArgumentError(action, f"{wrong} Choose from {', '.join(names)}")

    def _options_in(self, words: Sequence[str]) -> Iterator[str]:
        """What looks like an option of this command; its commands look at their own."""
        for word in words:
            if word == "--" or (self._subparsers is not None and not word.startswith("-")):
                return
            if option := _OPTION.match(word):
                yield option[0]

    def _repeated(self, words: Sequence[str]) -> list[str]:
        """The words, with an option before each of its values if it may be repeated.

        Where a value might as well be an argument that has no option, and one is lacking
        otherwise, it is the last that follows: `--image A B MODEL_DIR`. So is a value beyond those
        that an option can have, which comes before the option then: `--roi 16 16 16 MODEL_DIR`.
        """
        repeated: dict[int, str] = {}  # by position of a value after the first
        beyond: dict[int, int] = {}  # position of the option, by that of a value
        option, left, others, start = "", 0.0, 0, 0
        for place, word in enumerate(words):
            if word == "--":
                others += len(words) - place - 1
                break
            if word.startswith("-"):
                start, (option, equals, _) = place, word.partition("=")
                left = 0 if equals else self._values(option)
            elif left > 0:
                left -= 1
                action = self._option_string_actions.get(option)
                if isinstance(action, Several) and 1 < action.count < place - start:
                    beyond[place] = start
            elif isinstance(self._option_string_actions.get(option), argparse._AppendAction):
                repeated[place] = option
            else:
                others += 1
        lacking = max(0, len(self._get_positional_actions()) - others)
        each = [[repeated[i], word] if i in repeated else [word] for i, word in enumerate(words)]
        taken = [*sorted(beyond, reverse=True), *sorted(repeated, reverse=True)]
        for place in taken[:lacking]:
            each[place].clear()
            each[beyond.get(place, place)].insert(0, words[place])
        return [word for pair in each for word in pair]

    def _values(self, option: str) -> float:
        """How many words an option takes at most."""
        nargs = getattr(self._option_string_actions.get(option), "nargs", 0)
        if isinstance(nargs, int):
            return nargs
        return math.inf if nargs in _UNLIMITED else 1


def _near(name: str, known: Iterable[str]) -> str:
    """The known names that begin so, or else the most similar one, asked for; "." if none is."""
    known = list(known)
    near = [each for each in known if each.startswith(name)]
    near = near or difflib.get_close_matches(name, known, n=1)
    return f": did you mean {' or '.join(near)}?" if near else "."
