"""Versions of all that computes: libraries and, on an accelerator, what drives it."""

from __future__ import annotations

import os
import platform
import re
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax
from jaxlib import plugin_support

from jaxsal import __version__
from jaxsal.current_device import current_device

_LIBRARIES = ("jaxlib", "flax", "numpy", "scipy", "nibabel", "orbax-checkpoint")
_PLUGINS = {
    "gpu": ("jax-cuda13-plugin", "jax-cuda12-plugin", "jax-rocm7-plugin", "jax-rocm60-plugin"),
    "tpu": ("libtpu",),
}
NVIDIA = Path("/proc/driver/nvidia/version")


def software() -> dict[str, Any]:
    """Versions of what computes on the current device, ready for JSON.

    Returns:
        "jaxsal", "jax", "python" and "libraries" (by name); "accelerator", as `accelerator` gives
        it, but for a CPU.
    """
    driven = accelerator()
    return {
        "jaxsal": __version__,
        "jax": jax.__version__,
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
        **({"accelerator": driven} if driven else {}),
    }


def accelerator() -> dict[str, str]:
    """Versions of what drives the current device; what cannot be told is left out.

    Returns:
        "runtime", as JAX describes it, and JAX's plug-ins by name; of an NVIDIA GPU also "driver",
        "cuda", "cudnn" and "cublas"; "flags", XLA's as the user set them. Nothing for a CPU.
    """
    device = current_device()
    if device.platform == "cpu":
        return {}
    found = {"runtime": " ".join(device.client.platform_version.split())}
    if flags := os.environ.get("XLA_FLAGS"):
        found["flags"] = flags
    for plugin in _PLUGINS.get(device.platform, ()):
        with suppress(PackageNotFoundError):
            found[plugin] = version(plugin)
    return found | (_nvidia_driver() | _nvidia_libraries() if device.platform == "gpu" else {})


def _nvidia_driver() -> dict[str, str]:
    with suppress(OSError):
        if match := re.search(r"\b\d+(\.\d+)+\b", NVIDIA.read_text()):
            return {"driver": match[0]}
    return {}


def _nvidia_libraries() -> dict[str, str]:
    module = plugin_support.import_from_plugin("cuda", "_versions", check_version=False)
    numbers = {
        "cuda": (_cuda, "cuda_runtime_get_version"),
        "cudnn": (_three_parts, "cudnn_get_version"),
        "cublas": (_three_parts, "cublas_get_version"),
    }
    found = {}
    for name, (readable, ask) in numbers.items():
        with suppress(AttributeError, RuntimeError):  # not this plug-in's, or not installed
            found[name] = readable(getattr(module, ask)())
    return found


def _cuda(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _three_parts(number: int) -> str:
    """Of versions that are written as 91002, 9.10.2; cuDNN 8 wrote 8907, 8.9.7."""
    major = 10000 if number >= 10000 else 1000
    return f"{number // major}.{number % major // 100}.{number % 100}"
