"""Which process on which host left something behind, and whether it is still at work."""

from __future__ import annotations

import os
import re
import socket


def host() -> str:
    """This host's name, as it can be part of a file's."""
    return re.sub(r"[^\w.-]", "_", socket.gethostname())


def lives(process: int) -> bool:
    """Whether there is such a process on this host."""
    try:
        os.kill(process, 0)  # sends nothing
    except (ProcessLookupError, OverflowError):  # the latter: no process has such a number
        return False
    except OSError:  # another user's
        return True
    return True
