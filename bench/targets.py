"""Devices that programs are compiled for ahead of time, whether they are here or not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import jax
from jax.experimental import topologies

from jaxsal.errors import InputError
from jaxsal.settings import PRECISIONS_ON

_PACKAGES = {
    "gpu": "jax-cuda12-plugin jax-cuda12-pjrt nvidia-cuda-nvcc-cu12",
    "tpu": "libtpu",
}
_NVIDIA = "NVIDIA's data sheet of the SXM form, without sparsity"
_GOOGLE = "Google Cloud's description; float32 takes six passes of bfloat16, bfloat16x3 three"
_GPU_SHARE = 0.75  # of a GPU's memory, which JAX takes by default


@dataclass(frozen=True)
class Target:
    """A device as its maker publishes it.

    Attributes:
        name: by which it is asked for.
        platform: "cpu", "gpu" or "tpu".
        memory: bytes that JAX can use; 0 of this machine's CPU.
        flops: operations per second by precision.
        bandwidth: bytes per second of its memory.
        source: of these figures.
        clock: cycles per second in which the compiler counts; 0 where it does not.
        topology: of a TPU, as libtpu names it.
        device: of a GPU, as the driver names it.
    """

    name: str
    platform: str
    memory: int = 0
    flops: Mapping[str, float] | None = None
    bandwidth: float = 0
    source: str = ""
    clock: float = 0
    topology: str = ""
    device: str = ""

    @property
    def is_installed(self) -> bool:
        """Whether what compiles for it is."""
        if self.platform == "gpu":
            return _has("jax_plugins.xla_cuda12")
        return self.platform == "cpu" or _has("libtpu")

    def abstract(self) -> jax.Device:
        """The device for the compiler; nothing can be computed on it.

        Raises:
            InputError: what compiles for it is not installed.
        """
        if self.platform == "cpu":
            return jax.local_devices(backend="cpu")[0]
        if not self.is_installed:
            raise InputError(
                f"compiling for {self.name} needs packages that are not installed: pip install "
                f"{_PACKAGES[self.platform]}, of the versions that belong to jax {jax.__version__}"
            )
        os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no TPU to ask
        os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # or to contend for
        device: jax.Device = self._topology().devices[0]
        return device

    def require(self, precision: str) -> None:
        """Raises InputError if it has no such arithmetic."""
        known = PRECISIONS_ON[self.platform]
        if precision not in known:
            raise InputError(f"{self.name} has no {precision}: choose one of {', '.join(known)}")

    @property
    def is_here(self) -> bool:
        """Whether it is the default device."""
        here = jax.local_devices()[0]
        if self.platform != "gpu":
            return here.platform == self.platform == "cpu"
        return bool(here.device_kind == self.device)

    def described(self, machine: Mapping[str, Any]) -> dict[str, Any]:
        """The machine of a result that was compiled for this device and not measured on it."""
        if self.platform == "cpu":
            return dict(machine)
        return {
            **machine,
            "device": f"Compiled for {self.name}, not run",
            "platform": self.platform,
            "devices": 1,
        }

    def _topology(self) -> Any:
        if self.platform == "tpu":
            return topologies.get_topology_desc(self.topology, "tpu")
        return topologies.get_topology_desc(
            self.name, "cuda", target_config=self._description(), topology="1x1x1"
        )

    def _description(self) -> str:
        """A Hopper GPU as XLA wants it described: a text of its GpuTargetConfigProto."""
        device = {
            "threads_per_block_limit": 1024,
            "threads_per_warp": 32,
            "shared_memory_per_block": 48 * 2**10,
            "shared_memory_per_core": 228 * 2**10,
            "threads_per_core_limit": 2048,
            "core_count": 132,
            "fpus_per_core": 128,
            "block_dim_limit_x": 2**31 - 1,
            "block_dim_limit_y": 2**16 - 1,
            "block_dim_limit_z": 2**16 - 1,
            "memory_bandwidth": int(self.bandwidth),
            "l2_cache_size": 50 * 2**20,
            "clock_rate_ghz": 1.98,
            "device_memory_size": self.memory,
            "shared_memory_per_block_optin": 227 * 2**10,
            "cuda_compute_capability": "{ major: 9 }",
            "registers_per_core_limit": 65536,
            "registers_per_block_limit": 65536,
        }
        fields = " ".join(
            f"{name} {value}" if str(value).startswith("{") else f"{name}: {value}"
            for name, value in device.items()
        )
        return (
            f'gpu_device_info {{ {fields} }} platform_name: "CUDA" '
            "runtime_version { major: 12 minor: 8 } dnn_version_info { major: 9 minor: 10 } "
            f'device_description_str: "{self.device}"'
        )

    @property
    def budget(self) -> int:
        """Bytes that JAX has by default; 0 of this machine's CPU."""
        return int(self.memory * (_GPU_SHARE if self.platform == "gpu" else 1))


def _hopper(name: str, device: str, memory: int, bandwidth: float) -> Target:
    flops = {"float32": 67e12, "tf32": 494.7e12, "bfloat16": 989.4e12}
    return Target(name, "gpu", memory, flops, bandwidth, _NVIDIA, device=device)


def _tpu(
    name: str, topology: str, memory: int, teraflops: float, bandwidth: float, clock: float = 0
) -> Target:
    peak = 1e12 * teraflops
    flops = {"float32": peak / 6, "bfloat16x3": peak / 3, "bfloat16": peak}
    return Target(name, "tpu", memory * 2**30, flops, bandwidth, _GOOGLE, clock, topology)


# The clocks are those at which the matrix units, four of 128 × 128 a core (v5p: two cores), reach
# the published peak.
TARGETS = {
    target.name: target
    for target in (
        Target("cpu", "cpu"),
        _hopper("h100", "NVIDIA H100 80GB HBM3", 84_942_979_072, 3.35e12),
        _hopper("h200", "NVIDIA H200 141GB HBM3e", 151_397_597_184, 4.8e12),
        _tpu("v5e", "v5e:2x2", 16, 197, 819e9, clock=1.5e9),
        _tpu("v5p", "v5p:2x2x1", 95, 459, 2765e9, clock=1.75e9),
        _tpu("v6e", "v6e:2x2", 32, 918, 1640e9),
    )
}


def _has(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False
