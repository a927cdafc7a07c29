"""``PYTHONPATH=tests python -m helpers.fault_table [COMMAND ...]``: operations × faults × outcome.

Every operation on files of a toy run of each command (all of them unless some are named) is made to
fail in every way; the table says what came of it, and ends with how often there was what. With
``--share 0.1`` a tenth of the operations is tried, chosen by chance. The exit status is 1 if
something was not survived.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from helpers.fault_cases import CASES
from helpers.fault_trials import Trial, Trials, table


def part(name: str, share: float, seed: int, number: int, parts: int) -> list[tuple[Trial, str]]:
    """The outcomes of every so many-th trial of a command, from one process."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Trials(CASES[name], Path(folder) / "trials") as trials,
    ):
        chosen = trials.all if share == 1 else trials.some(share, seed)
        return list(trials.outcomes(chosen[number::parts]))


def main() -> int:
    """Prints the tables; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m helpers.fault_table")
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=", ".join(CASES))
    parser.add_argument("--share", type=float, default=1, help="of the operations")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--processes", type=int, default=1, help="that share the trials")
    asked = parser.parse_args()
    if asked.share < 1:
        print(f"seed {asked.seed}")
    bad = False
    with ProcessPoolExecutor(asked.processes, get_context("spawn")) as pool:
        for name in asked.commands or CASES:
            shares = [
                pool.submit(part, name, asked.share, asked.seed, number, asked.processes)
                for number in range(asked.processes)
            ]
            told = table([outcome for each in shares for outcome in each.result()])
            print(f"\njaxsal {name}\n\n{told}", flush=True)
            bad |= "WRONG" in told
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
