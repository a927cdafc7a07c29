"""``jaxsal cohort VERB``: many scans, each verb a module of this package."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from jaxsal.cli.cohort import check, plan, run, status

_VERBS: tuple[ModuleType, ...] = (check, plan, run, status)


def add_parser(commands: Any) -> None:
    """Adds the command's parser."""
    parser = commands.add_parser(
        "cohort",
        help="work on many scans: check, plan, run, look how far a run is",
        description="Works on many scans, listed in a table or found in a BIDS folder.",
        epilog="`jaxsal cohort VERB --help` describes a verb. Begin with check.",
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for module in _VERBS:
        module.add_parser(verbs)
