"""How much faster do several devices of one host go, and do they agree?

Where there is a CPU only, devices are faked by XLA_FLAGS, which tests agreement, not speed.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from bench.options import base_job, job_settings
from bench.record import Result
from bench.worker import devices_here, measure

_COUNTS = (1, 2, 4)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's options."""


def run(options: argparse.Namespace) -> Result:
    """Measures."""
    job = base_job(options)
    if not options.toy:
        job = replace(job, lesions=(24,), samples=4)
    platform, present = devices_here()
    fake = platform == "cpu"
    counts = [n for n in _COUNTS if fake or n <= present]
    if options.toy:
        counts = counts[:2]
    found = {n: measure(job, devices=n, environment=_environment(n, fake)) for n in counts}
    rows = [
        {
            "devices": n,
            "seconds": found[n]["seconds"],
            "ms_per_gradient": 1000 * found[n]["seconds"] / found[n]["gradients"],
            "speed_up": found[1]["seconds"] / found[n]["seconds"],
            "peak_difference": _difference(found[n]["peak"], found[1]["peak"]),
        }
        for n in counts
    ]
    notes = ["peak difference: of the maps' peaks from those of one device, relative."]
    if fake:
        notes.append(
            "the devices are faked on one CPU, whose cores they share: no speed-up is due."
        )
    return Result("devices", job_settings(job) | {"fake": fake}, rows, notes)


def _environment(count: int, fake: bool) -> dict[str, str]:
    return {"XLA_FLAGS": f"--xla_force_host_platform_device_count={count}"} if fake else {}


def _difference(peaks: list[float], expected: list[float]) -> Any:
    return max(abs(a - b) / b for a, b in zip(peaks, expected, strict=True))
