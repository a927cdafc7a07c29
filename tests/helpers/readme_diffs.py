"""The READMEs' diffs, applied to a copy of the package, and commands that run in the copy."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from helpers.readme_blocks import ROOT, Block

_FOLDERS = {"jaxsal": "jaxsal", "converters": "jaxsal_converters"}
_FILE = re.compile(r"^--- (\S+)\n\+\+\+ b/(\S+)\n", re.MULTILINE)
_RUN = """
import json, sys
from jaxsal.cli.building import build
from jaxsal.cli.main import COMMAND, main
from jaxsal.cli.parser import Parser
names = {}
for kind, step in json.loads(sys.argv[1]):
    if kind == "python":
        exec(step, names)
    elif kind == "check":
        parser = Parser(prog="jaxsal")
        build(parser, COMMAND, step)
        parser.parse_args(step)
    else:
        status = main(step)
        assert status == 0, f"{step}: exit status {status}"
"""


class Copy:
    """A copy of the package whose files diffs change.

    Args:
        folder: to copy to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for source, package in _FOLDERS.items():
            shutil.copytree(ROOT / source, folder / package)

    def apply(self, block: Block) -> None:
        """Changes what a block of unified diffs says; line numbers behind @@ do not count."""
        parts = _FILE.split(block.text)
        assert not parts[0].strip(), f"{block.place}: begins with no file"
        for before, after, hunks in zip(*[iter(parts[1:])] * 3, strict=True):
            self._change(before, after, hunks, block.place)

    def _change(self, before: str, after: str, hunks: str, place: str) -> None:
        top, _, rest = after.partition("/")
        path = self._folder / _FOLDERS[top] / rest
        text = "" if before == "/dev/null" else path.read_text(encoding="utf-8")
        for hunk in re.split(r"^@@.*\n", hunks, flags=re.MULTILINE)[1:]:
            lines = [line or " " for line in hunk.splitlines()]
            old = "".join(f"{line[1:]}\n" for line in lines if line[0] in " -")
            new = "".join(f"{line[1:]}\n" for line in lines if line[0] in " +")
            assert text.count(old) == 1 or not text, f"{place}: not found once in {after}:\n{old}"
            text = text.replace(old, new) if old else new
        path.write_text(text, encoding="utf-8")

    def run(self, steps: Sequence[tuple[str, Any]]) -> None:
        """Runs steps in one process that imports the copy, in the current folder.

        Args:
            steps: ("jaxsal", the words of a command), ("check", words that are only parsed) or
                ("python", code).
        """
        environment = {**os.environ, "PYTHONPATH": str(self._folder)}
        program = [sys.executable, "-c", _RUN, json.dumps(steps)]
        done = subprocess.run(program, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
