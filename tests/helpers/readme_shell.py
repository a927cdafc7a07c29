"""A shell for the READMEs' blocks: it knows the few commands that they use, and no other.

``jaxsal`` runs in this process, so that compiled programs are shared. What cannot be run in a test
is checked: an option that does not exist, an extra that ``pyproject.toml`` does not have.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import shlex
import shutil
import tomllib
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from helpers.readme_blocks import ROOT, Block
from helpers.readme_workspace import give_window

from jaxsal.cli.building import build
from jaxsal.cli.main import COMMAND, main
from jaxsal.cli.parser import Parser

Words = list[str]


class Shell:
    """Runs or checks the lines of blocks, one README's in one shell.

    Args:
        workspace: the current folder. A model that lies there gives way to the first one that is
            converted to its name.
    """

    def __init__(self, workspace: Path) -> None:
        self._variables = {"SLURM_ARRAY_TASK_ID": "1"}
        self._models = {path.parent.name: path.parent for path in workspace.glob("*/model.json")}

    def jaxsal_commands(self, block: Block) -> list[Words]:
        """What a block gives to ``jaxsal``."""
        return [command[1:] for command, _ in self.commands(block.text) if command[0] == "jaxsal"]

    def run(self, block: Block, *, really: bool) -> None:
        """Runs a block in the current folder, or only checks it."""
        for command, target in self.commands(block.text):
            try:
                output = self._one(command, really)
            except (Exception, SystemExit) as error:
                pytest.fail(f"{block.place}: {shlex.join(command)}: {error!r}")
            if target and really:
                Path(target).write_text(output, encoding="utf-8")

    def commands(self, text: str) -> Iterator[tuple[Words, str | None]]:
        """The commands of a text in their words, and the file that each one's output goes to."""
        for line in text.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars="&;|>")
            lexer.whitespace_split, lexer.commenters = True, "#"
            tokens = [word for token in lexer for word in self._expanded(token)]
            command: Words = []
            while tokens:
                token = tokens.pop(0)
                if token in ("&&", ";"):
                    yield command, None
                    command = []
                elif token == ">":
                    yield command, tokens.pop(0)
                    command = []
                else:
                    command.append(token)
            if command:
                yield command, None

    def _expanded(self, token: str) -> Words:
        if token.startswith("$") and token[1:] in self._variables:
            return shlex.split(self._variables[token[1:]])
        return [re.sub(r"\$(\w+)", lambda found: self._variables[found[1]], token)]

    def _one(self, command: Words, really: bool) -> str:
        while command and (assigned := re.fullmatch(r"([A-Za-z_]+)=(.*)", command[0])):
            self._variables[assigned[1]] = assigned[2]
            command = command[1:]
        if not command:
            return ""
        name, *words = command
        if name == "do":
            return self._one(words, really)
        if name == "for":  # a loop's lines are checked, for its first value
            assert not really, "loops are only checked"
            self._variables[words[0]] = words[2]
            return ""
        if name == "jaxsal":
            return self._jaxsal(words) if really else self._checked(words)
        return _OTHERS[name](words)

    def _jaxsal(self, words: Words) -> str:
        name = _value("--out", words) if words[0] == "convert" else ""
        if model := self._models.pop(name, None):
            shutil.rmtree(model)
        printed, said = io.StringIO(), io.StringIO()
        with warnings.catch_warnings():  # which also restores how they are shown
            warnings.simplefilter("default")
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(said):
                status = main(words)
        assert status == 0, f"exit status {status}: {said.getvalue()}"
        if words[0] == "convert":
            give_window(Path(name))
        return printed.getvalue()

    def _checked(self, words: Words) -> str:
        parser = Parser(prog="jaxsal")
        build(parser, COMMAND, words)
        parser.parse_args(words)
        return ""


def _value(option: str, words: Words) -> str:
    return words[words.index(option) + 1]


def _echo(words: Words) -> str:
    return " ".join(words) + "\n"


def _pip(words: Words) -> str:
    """``pip install`` of this package, and of packages that one of its extras lists."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras: Mapping[str, list[str]] = project["optional-dependencies"]
    listed = {re.split(r"[<>=\[]", one)[0] for extra in extras.values() for one in extra}
    command, *packages = words
    assert command == "install"
    for package in packages:
        own = re.fullmatch(r"\.(?:\[(.+)\])?", package)
        wanted = own[1].split(",") if own and own[1] else []
        assert set(wanted) <= set(extras), f"no such extra: {package}"
        assert own or package == "-e" or package in listed | {"dask-jobqueue"}, package
    return ""


def _pre_commit(words: Words) -> str:
    assert words == ["run", "--all-files"]
    assert (ROOT / ".pre-commit-config.yaml").is_file()
    return ""


def _pytest(words: Words) -> str:
    """Files exist, and options are among these."""
    options = {"-n", "2", "-m", ""}
    for word in words:
        assert word in options or (ROOT / word.partition("::")[0]).exists(), word
    return ""


def _python(words: Words) -> str:
    """``python -m MODULE …``: the module exists."""
    option, module, *_ = words
    assert option == "-m"
    assert importlib.util.find_spec(module), f"no module {module}"
    return ""


def _dask(words: Words) -> str:
    """A command of Dask with options that it has."""
    from distributed.cli import dask_scheduler, dask_worker

    commands = {"scheduler": dask_scheduler.main, "worker": dask_worker.main}
    known = {name for option in commands[words[0]].params for name in option.opts}
    assert {word for word in words if word.startswith("-")} <= known
    return ""


_OTHERS: dict[str, Callable[[Words], str]] = {
    "cd": lambda words: "",
    "dask": _dask,
    "done": lambda words: "",
    "echo": _echo,
    "pip": _pip,
    "pre-commit": _pre_commit,
    "pytest": _pytest,
    "python": _python,
    "sed": lambda words: "",
}
