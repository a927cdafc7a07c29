"""Which version of this repository a result was measured with."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
_NOT_CODE = (":!bench/results", ":!*.md")  # what a benchmark writes, and texts


def commit_of(folder: Path = _ROOT) -> dict[str, Any]:
    """The commit of a working tree, ready for JSON.

    Returns:
        "commit", its hash, and "changed", whether tracked code differs from it; nothing where the
        folder is no Git repository, or Git is not installed.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return {}
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ".", *_NOT_CODE)
    return {"commit": commit, "changed": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
