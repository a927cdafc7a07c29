"""``python -m fuzz``: how many cases of each kind of file were refused, computed, or a fault."""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
from collections import Counter
from pathlib import Path
from time import perf_counter

from fuzz.catalogue import KINDS
from fuzz.judging import GOOD, Files, Judge, Kind, Verdict
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded


def verdicts(kind: Kind, cases: int, seed: int, root: Path) -> list[tuple[Files, Verdict]]:
    """What became of the sound files, of the seeds, and of so many cases."""
    judge = Judge(root)
    found = [(files, judge(kind, files)) for files in ({}, *map(kind.seed, range(len(kind.seeds))))]

    @seeded(seed)
    @settings(
        max_examples=cases,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(kind.strategy())
    def each(files: Files) -> None:
        found.append((files, judge(kind, files)))

    each()
    return found


def main() -> int:
    """Prints the table; the exit status is 1 if anything is neither refused nor computed."""
    os.environ["JAXSAL_CACHE"] = "off"
    logging.getLogger("nibabel").setLevel(logging.CRITICAL)
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000, help="of all kinds together")
    parser.add_argument("--kind", help="only kinds with this in their name")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=3, help="faults of each kind that are shown")
    given = parser.parse_args()
    chosen = [kind for kind in KINDS if (given.kind or "") in kind.name]
    each = given.cases / sum(kind.share for kind in chosen)
    columns = (*GOOD, "traceback", "hang", "memory", "outside")
    print(f"{'kind':24}", *(f"{name:>9}" for name in columns), f"{'seconds':>8}", flush=True)
    totals: Counter[str] = Counter()
    faults = []
    for kind in chosen:
        began = perf_counter()
        with tempfile.TemporaryDirectory() as root:
            found = verdicts(kind, max(round(each * kind.share), 1), given.seed, Path(root))
        counts = Counter(verdict.outcome for _, verdict in found)
        totals += counts
        seconds = perf_counter() - began
        cells = (f"{counts[name]:9}" for name in columns)
        print(f"{kind.name:24}", *cells, f"{seconds:8.1f}", flush=True)
        if found[0][1].outcome != "computed":
            faults.append(f"{kind.name}: the sound files: {found[0][1]}")
        wrong = {v.said: (files, v) for files, v in found if v.outcome not in GOOD}
        for files, verdict in list(wrong.values())[: given.show]:
            faults.append(f"{kind.name}: {verdict}\n    {str(dict(files))[:600]}")
    print(f"{'all':24}", *(f"{totals[name]:9}" for name in columns))
    print(*faults, sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
