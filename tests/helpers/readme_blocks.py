"""Code blocks of the READMEs, and how each kind of them is tried.

The first word behind a fence is the language; a second one says how far a block is tried:

- none: it is run;
- ``slow``: it is run in the thorough tests, and checked in the quick ones;
- ``check``: it is checked only, since it needs a cluster, a GPU, hours, or data of one's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
TOPS = ("jaxsal", "converters", "tests", "bench")
EFFORTS = ("", "slow", "check")
LANGUAGES = ("sh", "python", "diff", "tsv", "text", "bibtex")


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        path: of the README.
        line: of its first line of text, from 1.
        language: first word behind the fence.
        effort: second word, or "".
        text: without the fence.
    """

    path: Path
    line: int
    language: str
    effort: str
    text: str

    @property
    def place(self) -> str:
        """Where it stands, for messages."""
        return f"{self.path.relative_to(ROOT)}:{self.line}"

    @property
    def code(self) -> str:
        """The text behind as many empty lines as stand above it in the README."""
        return "\n" * (self.line - 1) + self.text


def readmes() -> list[Path]:
    """All READMEs of the repository."""
    rooms = ("jaxsal", "converters", "tests", "bench")
    return [
        ROOT / "README.md",
        *(p for room in rooms for p in sorted(ROOT.glob(f"{room}/**/README.md"))),
    ]


def blocks_of(path: Path) -> list[Block]:
    """The blocks of a README, in their order."""
    found = []
    for token in MarkdownIt().parse(path.read_text(encoding="utf-8")):
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            language, effort = (*token.info.split(maxsplit=1), "", "")[:2]
            found.append(Block(path, token.map[0] + 2, language, effort, token.content))
    return found
