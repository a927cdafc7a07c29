"""The official validator of BIDS, on folders of results.

By hand: `bids-validator-deno FOLDER`. The package on PyPI brings the program and BIDS's schema, so
nothing is fetched while it runs.
"""

from __future__ import annotations

import json
import subprocess
import sysconfig
from pathlib import Path

import pytest

_PROGRAM = Path(sysconfig.get_path("scripts")) / "bids-validator-deno"


def bids_issues(folder: Path, severity: str = "error") -> list[str]:
    """What the validator finds in a dataset; skips the test where it cannot run."""
    try:
        subprocess.run([_PROGRAM, "--version"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"bids-validator-deno cannot run: {error}")
    command = [_PROGRAM, folder, "--format", "json", "--max-rows", "-1"]
    told = json.loads(subprocess.run(command, check=False, capture_output=True).stdout)
    return [
        f"{issue['code']} {issue.get('subCode', '')} {issue['location']}"
        for issue in told["issues"]["issues"]
        if issue["severity"] == severity
    ]
