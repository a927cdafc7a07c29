"""``python killed_run.py N ARGUMENTS``: jaxsal, killed at the N-th change of a file; 0 for never.

A kill lets nothing be cleaned up, as a power cut does not.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from jaxsal.cli.main import main

_changes = 0


def _deadly(change: Any, at: int) -> Any:
    def call(*arguments: Any, **options: Any) -> Any:
        global _changes
        _changes += 1
        if _changes == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return change(*arguments, **options)

    return call


if __name__ == "__main__":
    for name in ("replace", "fsync", "mkdir", "unlink", "rmdir"):
        setattr(os, name, _deadly(getattr(os, name), int(sys.argv[1])))
    sys.exit(main(sys.argv[2:]))
