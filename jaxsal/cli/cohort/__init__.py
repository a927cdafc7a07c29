"""``jaxsal cohort VERB``: many scans, each verb a module of this package."""

from __future__ import annotations

from jaxsal.cli.command import Commands, in_package

COMMAND = Commands(
    "Works on many scans, listed in a table or found in a BIDS folder.",
    {
        "check": "read every file of a cohort and list all that is wrong",
        "plan": "forecast a run's lesions, time, memory and disk",
        "run": "find and explain the lesions of every scan",
        "status": "show how far a run is, also while it runs",
    },
    in_package("jaxsal.cli.cohort"),
    metavar="VERB",
    epilog="`jaxsal cohort VERB --help` describes a verb. Begin with check.",
)
