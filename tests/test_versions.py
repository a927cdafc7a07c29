"""Versions of what computes: on a CPU, and what accelerators and their plug-ins say."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import jax
import jaxlib
import pytest

from jaxsal import versions
from jaxsal.versions import accelerator, software


def device(platform: str, runtime: str) -> SimpleNamespace:
    return SimpleNamespace(platform=platform, client=SimpleNamespace(platform_version=runtime))


def missing() -> int:
    raise RuntimeError("Unable to load cuBLAS")


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Plug-ins that seem to be installed, by distribution; none others are."""
    found: dict[str, str] = {}
    asked = importlib.metadata.version

    def version(name: str) -> str:
        if "plugin" not in name and name != "libtpu":
            return asked(name)
        if name not in found:
            raise importlib.metadata.PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(versions, "version", version)
    return found


def on(monkeypatch: pytest.MonkeyPatch, platform: str, runtime: str) -> None:
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setattr(versions, "current_device", lambda: device(platform, runtime))


def test_a_cpu_is_driven_by_the_libraries_alone() -> None:
    if jax.default_backend() != "cpu":
        pytest.skip("computes on an accelerator")
    found = software()
    assert accelerator() == {}
    assert "accelerator" not in found
    assert found["jax"] == jax.__version__
    assert found["libraries"]["jaxlib"] == jaxlib.__version__


@pytest.mark.parametrize(
    ("cudnn", "readable"), [(91002, "9.10.2"), (90800, "9.8.0"), (8907, "8.9.7")]
)
def test_a_gpu_names_driver_cuda_and_cudnn(
    monkeypatch: pytest.MonkeyPatch,
    plugins: dict[str, str],
    tmp_path: Path,
    cudnn: int,
    readable: str,
) -> None:
    plugins["jax-cuda12-plugin"] = "0.10.2"
    driver = tmp_path / "version"
    driver.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5\nGCC")
    says: Any = ModuleType("jax_cuda12_plugin._versions")
    says.cuda_runtime_get_version = lambda: 12090
    says.cudnn_get_version = lambda: cudnn
    says.cublas_get_version = missing
    package = ModuleType("jax_cuda12_plugin")
    for name, module in {"": package, "._versions": says}.items():
        monkeypatch.setitem(sys.modules, f"jax_cuda12_plugin{name}", module)
    monkeypatch.setitem(sys.modules, "jax_cuda13_plugin", None)
    monkeypatch.setattr(versions, "NVIDIA", driver)
    on(monkeypatch, "gpu", "PJRT C API\ncuda 12090")
    assert software()["accelerator"] == {
        "runtime": "PJRT C API cuda 12090",
        "jax-cuda12-plugin": "0.10.2",
        "driver": "550.54.15",
        "cuda": "12.9",
        "cudnn": readable,
    }


def test_a_gpu_that_tells_nothing_fails_nothing(
    monkeypatch: pytest.MonkeyPatch, plugins: dict[str, str], tmp_path: Path
) -> None:
    for number in (12, 13):
        monkeypatch.setitem(sys.modules, f"jax_cuda{number}_plugin", None)
    monkeypatch.setattr(versions, "NVIDIA", tmp_path / "missing")
    on(monkeypatch, "gpu", "rocm 60300")
    assert accelerator() == {"runtime": "rocm 60300"}


def test_a_tpu_names_its_library(monkeypatch: pytest.MonkeyPatch, plugins: dict[str, str]) -> None:
    plugins["libtpu"] = "0.0.42"
    on(monkeypatch, "tpu", "PJRT C API\nTFRT TPU v5 lite\nBuilt on Nov 1 2026")
    monkeypatch.setenv("XLA_FLAGS", "--xla_some=1")
    assert accelerator() == {
        "runtime": "PJRT C API TFRT TPU v5 lite Built on Nov 1 2026",
        "flags": "--xla_some=1",
        "libtpu": "0.0.42",
    }
