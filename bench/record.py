"""A benchmark's result: where and with what it was measured, a table, a JSON file."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import sys
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
import psutil
from rich.console import Console
from rich.table import Table

import jaxsal
from bench.origin import commit_of
from jaxsal.current_device import current_device
from jaxsal.devices import available_cores
from jaxsal.versions import accelerator
from jaxsal.wording import counted

RESULTS = Path(__file__).parent / "results"
NOT_RECORDED = "not recorded"
_PACKAGES = (
    *("jax", "jaxlib", "flax", "numpy", "scipy", "optax", "torch", "monai", "captum", "libtpu"),
)
_NAMES_A_PLACE = re.compile("PATH|DIR|HOME|FILE")  # which is of no interest elsewhere
_VARIABLES = ("XLA_", "JAX_", "CUDA_", "TPU_", "LIBTPU_", "OMP_", "MKL_")

Row = dict[str, Any]
Found = dict[str, Any]  # a result as read from JSON


@dataclass(frozen=True)
class Result:
    """What one benchmark found.

    Attributes:
        question: its name.
        settings: everything that was chosen.
        rows: the table; units are in the names of the columns.
        notes: what must be known to read it.
        faults: what it found to be wrong, such as maps that differ from a peer's.
        machine: where.
        versions: with which packages and, on an accelerator, with what drives it.
        repository: the commit, and whether the code differed from it; see `commit_of`.
        environment: variables by which the user steers JAX, XLA and PyTorch.
        finished: when, UTC.
    """

    question: str
    settings: dict[str, Any]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=lambda: describe_machine())
    versions: dict[str, str] = field(default_factory=lambda: package_versions())
    repository: dict[str, Any] = field(default_factory=commit_of)
    environment: dict[str, str] = field(default_factory=lambda: steering_variables())
    finished: str = field(
        default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    )

    def show(self) -> None:
        """Prints it."""
        console = Console(width=None if sys.stdout.isatty() else 160)
        for name, values in (
            ("machine", self.machine),
            ("versions", self.versions),
            ("repository", self.repository),
            ("environment", self.environment),
            ("settings", self.settings),
        ):
            console.print(f"[bold]{name}[/]: " + ", ".join(f"{k} {v}" for k, v in values.items()))
        table = Table(title=self.question)
        columns = column_names(self.rows)
        for column in columns:
            table.add_column(column.replace("_", " "), no_wrap=column == columns[0])
        for row in self.rows:
            table.add_row(*[shown(row.get(column)) for column in columns])
        console.print(table)
        for note in self.notes:
            console.print(f"- {note}")
        for fault in self.faults:
            console.print(f"[bold red]wrong[/]: {fault}")

    def write(self, folder: Path) -> Path:
        """Writes ``<question>-<device>.json`` into a folder, in place of an earlier one."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.question}-{device_slug(self.machine)}.json"
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")
        return path


def read_results(folder: Path = RESULTS) -> dict[str, dict[str, Found]]:
    """Results by device and question."""
    found: dict[str, dict[str, Found]] = {}
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault(device_slug(result["machine"]), {})[result["question"]] = result
    return found


def every_result(by_device: dict[str, dict[str, Found]]) -> list[Found]:
    """The results of all devices."""
    return [result for found in by_device.values() for result in found.values()]


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, system and device."""
    return {
        "cpu": _processor(),
        "system": platform.platform(),
        "cores": available_cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "device": current_device().device_kind,
        "platform": current_device().platform,
        "devices": jax.local_device_count(),
    }


def package_versions() -> dict[str, str]:
    """Versions of all that computes, and of what drives an accelerator."""
    found = {"jaxsal": jaxsal.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found | accelerator()


def steering_variables() -> dict[str, str]:
    """Environment variables that change what is compiled or how it is computed."""
    return {name: value for name, value in sorted(os.environ.items()) if _steers(name)}


def _steers(name: str) -> bool:
    return name.startswith(_VARIABLES) and not _NAMES_A_PLACE.search(name)


def short_commit(found: dict[str, Any]) -> str:
    """The commit of a result as read from JSON; results of before it was recorded have none."""
    repository = found.get("repository") or {}
    if "commit" not in repository:
        return NOT_RECORDED
    return repository["commit"][:10] + (" (code changed)" if repository["changed"] else "")


def device_slug(machine: dict[str, Any]) -> str:
    """The device's name, fit for a file's."""
    if machine["platform"] == "cpu":
        name = f"{machine['cpu']} {counted(machine['cores'], 'core')}"
    else:
        name = machine["device"]
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


def column_names(rows: list[Row]) -> list[str]:
    """Every column, in the order of appearance."""
    return list(dict.fromkeys(name for row in rows for name in row))


def shown(value: Any) -> str:
    """A cell as text, numbers with three significant digits."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    match = re.search(r"model name\s*:\s*(.+)", text)
    return re.sub(r"\((R|TM)\)", "", match[1]).strip() if match else platform.machine()
