"""How long is the first call, with an empty and with a filled cache of compiled programs?"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench.options import base_job, job_settings
from bench.record import Result
from bench.worker import cache_environment, measure


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's options."""


def run(options: argparse.Namespace) -> Result:
    """Measures."""
    rows = []
    for field in ("whole",) if options.toy else ("whole", "sliding"):
        job = base_job(options, field=field, samples=1)
        with tempfile.TemporaryDirectory() as folder:
            for cache in ("empty", "filled"):
                found = measure(job, environment=cache_environment(Path(folder)))
                rows.append(
                    {
                        "field": field,
                        "cache": cache,
                        "first_call_s": found["first_seconds"],
                        "warm_call_s": found["seconds"],
                        "overhead_s": found["first_seconds"] - found["seconds"],
                    }
                )
    notes = ["a process each; overhead: what the first call takes longer than the second."]
    return Result("compilation", job_settings(base_job(options, samples=1)), rows, notes)
