"""Plug-ins for accelerators that cannot be used: the CPU does not take over in silence."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax  # noqa: F401 - asked by the mark
import pytest

import bench.__main__
from jaxsal import accelerators
from jaxsal.cohort.machines import task
from jaxsal.errors import InputError

# Looks for devices as a command does, and tells what was warned of.
PROGRAM = """
import json, sys, warnings
from jaxsal.accelerators import default_backend, warn_of_unused
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    warn_of_unused()
print(json.dumps([default_backend(), [str(warning.message) for warning in caught]]))
"""
FAILS = """
def initialize():
    try:
        raise OSError("libcuda.so.1 is missing")
    except OSError as error:
        raise RuntimeError("Unable to load CUDA.\\nIs it installed?") from error
"""


def plugin(folder: Path, distribution: str, initialize: str = "") -> None:
    """Installs a plug-in of that name that JAX finds, if it is given what to do."""
    info = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    if initialize:
        (folder / "jax_plugins").mkdir()
        (folder / "jax_plugins" / "failing.py").write_text(initialize)


def looked(folder: Path, **variables: str) -> tuple[str, list[str], str]:
    """The backend, the warnings, and what else was printed."""
    plain = {name: value for name, value in os.environ.items() if name != "JAX_PLATFORMS"}
    path = os.pathsep.join([str(folder), *sys.path])
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=False,
        env={**plain, "PYTHONPATH": path, **variables},
    )
    assert result.returncode == 0, result.stderr
    return (*json.loads(result.stdout), result.stderr)


pytestmark = pytest.mark.skipif("jax.default_backend() != 'cpu'")


def test_a_gpu_plug_in_that_fails_is_a_warning_and_no_traceback(tmp_path: Path) -> None:
    plugin(tmp_path, "jax-cuda12-plugin", FAILS)
    backend, warnings, printed = looked(tmp_path)
    (warning,) = warnings
    assert backend == "cpu"
    assert warning.startswith(
        "jax-cuda12-plugin is installed, but JAX finds no GPU (Unable to load CUDA.), so the CPU "
    )
    for advised in ("`nvidia-smi`", "--device cpu", "JAX_PLATFORMS=cpu"):
        assert advised in warning
    assert "Traceback" not in printed


def test_a_tpu_library_without_a_tpu_is_a_warning(tmp_path: Path) -> None:
    plugin(tmp_path, "libtpu")
    _, (warning,), _ = looked(tmp_path)
    assert warning.startswith("libtpu is installed, but JAX finds no TPU, so the CPU computes")


@pytest.mark.thorough
def test_nothing_is_said_where_the_cpu_was_chosen_or_is_all_there_is(tmp_path: Path) -> None:
    assert looked(tmp_path)[1] == []
    plugin(tmp_path, "jax-cuda12-plugin", FAILS)
    assert looked(tmp_path, JAX_PLATFORMS="cpu")[1] == []


@pytest.mark.thorough
def test_commands_warn_and_say_what_computes(tmp_path: Path) -> None:
    plugin(tmp_path, "jax-cuda12-plugin", FAILS)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    plain = {name: value for name, value in os.environ.items() if name != "JAX_PLATFORMS"}
    said = {}
    for device in ([], ["--device", "cpu"], ["--device", "gpu"]):
        line = ["bench", str(tmp_path / "none"), "--shape", "8", "8", "8", *device]
        said[" ".join(device)] = subprocess.run(
            [sys.executable, "-m", "jaxsal", *line],
            capture_output=True,
            text=True,
            check=False,
            env={**plain, "PYTHONPATH": path},
        ).stderr.splitlines()
    warned, computing, *_ = said[""]
    assert warned.startswith("jaxsal bench: warning: jax-cuda12-plugin is installed, but JAX")
    assert computing.startswith("computing on the CPU (")
    assert said["--device cpu"][0] == computing
    (refused,) = said["--device gpu"]
    assert refused.startswith("jaxsal bench: error: there is no device 'gpu' here")


def test_benchmarks_and_workers_of_a_cluster_warn_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked() -> None:
        raise InputError("asked")

    monkeypatch.setattr(accelerators, "warn_of_unused", asked)
    monkeypatch.setattr("bench.devices.run", lambda options: None)
    with pytest.raises(SystemExit, match="asked"):
        bench.__main__.main(["devices"])
    monkeypatch.setattr(task, "warn_of_unused", asked)
    with pytest.raises(InputError, match="asked"):
        task.ordered_job("an order", 0)


def test_a_tpu_that_another_process_holds_is_told_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def held() -> str:
        raise RuntimeError("Unable to initialize backend 'tpu': The TPU is already in use by 7.\n")

    config = SimpleNamespace(jax_platforms="tpu,cpu")  # as JAX sets it on the host of a TPU
    monkeypatch.setattr(accelerators, "jax", SimpleNamespace(config=config, default_backend=held))
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    with pytest.raises(InputError) as refused:
        accelerators.default_backend()
    for part in ("this host should have (tpu,cpu)", "one process at a time", "in use by 7.)"):
        assert part in str(refused.value)


def test_the_flag_that_readmes_name_is_one_of_xlas() -> None:
    rooms = Path(accelerators.__file__).parent
    readmes = [(rooms / room / "README.md").read_text("utf-8") for room in ("cohort", "training")]
    named = [set(re.findall(r"XLA_FLAGS=(--xla_\w+=true)", readme)) for readme in readmes]
    (flag,) = named[0]
    assert named[1] == {flag}
    known, unknown = (
        subprocess.run(
            [sys.executable, "-c", "import jax; jax.devices()"],
            capture_output=True,
            check=False,
            env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        ).returncode
        for flags in (flag, flag.replace("gpu", "none"))
    )
    assert known == 0 != unknown
