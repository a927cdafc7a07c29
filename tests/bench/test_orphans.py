"""Processes that benchmarks start end with them, also where a benchmark is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from subprocess import PIPE

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENT = (
    "from bench.patience import Patient\n"
    "Patient(eval, 60)(\"print('at work', flush=True), __import__('time').sleep(60)\")\n"
)
WORKER = (
    "from dataclasses import replace\n"
    "from bench.case import TOY\n"
    "from bench.worker import measure\n"
    "print('at work', flush=True)\n"
    "measure(replace(TOY, samples=10**6))\n"
)


def started_by(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """What a process started, as soon as there is something."""
    for _ in range(100):
        if found := psutil.Process(process.pid).children(recursive=True):
            return found
        time.sleep(0.1)
    return []


@pytest.mark.parametrize("program", [PATIENT, WORKER], ids=["patient", "worker"])
def test_no_process_is_left_behind_by_a_benchmark_that_is_killed(program: str) -> None:
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=ROOT, stdout=PIPE, stderr=PIPE, text=True) as benchmark:
        assert benchmark.stdout is not None
        assert benchmark.stdout.readline() == "at work\n"
        started = started_by(benchmark)
        benchmark.terminate()
        try:
            benchmark.communicate(timeout=10)  # until nobody has its outputs any more
        finally:
            for each in started:
                if each.is_running():
                    each.kill()
    assert started
