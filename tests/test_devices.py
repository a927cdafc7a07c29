"""Devices by name: all of a kind or one of them, and those that are not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import jax
import pytest

from jaxsal import devices
from jaxsal.current_device import current_device
from jaxsal.devices import best_kind, computing_on, computing_with, every_device
from jaxsal.errors import InputError
from jaxsal.settings import PRECISIONS

# Tells the devices by number, and which of them is the default, by name.
PROGRAM = """
import json, sys
import jax, jax.numpy as jnp
from jaxsal import devices
from jaxsal.current_device import current_device
from jaxsal.devices import computing_on

found = {}
for name in sys.argv[1:]:
    with computing_on(None if name == "None" else name) as devices:
        (used,) = jnp.zeros(1).devices()
        found[name] = [[d.id for d in devices], current_device().id, used.id]
with jax.default_device(jax.devices()[2]), computing_on(None) as devices:
    found["JAX's own default"] = [[d.id for d in devices], current_device().id]
print(json.dumps(found))
"""


def test_a_kind_means_all_devices_and_a_number_one_of_them() -> None:
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, "cpu", "CPU", "cpu:0", "cpu:3", "None"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {
        "cpu": [[0, 1, 2, 3], 0, 0],
        "CPU": [[0, 1, 2, 3], 0, 0],
        "cpu:0": [[0], 0, 0],
        "cpu:3": [[3], 3, 3],
        "None": [[0, 1, 2, 3], 0, 0],  # one processor's cores
        "JAX's own default": [[2], 2],
    }


def test_the_processor_is_split_into_its_cores_unless_it_is_too_late() -> None:
    program = """
import jax
from jaxsal.devices import split_cpu
split_cpu()
first = len(jax.devices())
split_cpu()
print(first, len(jax.devices()))
"""
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**environment, "JAX_PLATFORMS": "cpu"},
    )
    assert result.returncode == 0, result.stderr
    cores = min(len(os.sched_getaffinity(0)), 16)
    assert result.stdout.split() == [str(cores)] * 2


def test_the_default_is_what_it_was_afterwards() -> None:
    before = jax.config.jax_default_device, current_device()
    with computing_on("cpu:0"):
        assert current_device() == jax.local_devices(backend="cpu")[0]
    assert (jax.config.jax_default_device, current_device()) == before


@pytest.mark.parametrize("name", ["abacus", "cpu:99", "cpu:", "cpu:-1", "cpu:x", "", "tpu:0"])
def test_unknown_devices_are_refused_with_a_list_of_those_there_are(name: str) -> None:
    with (
        pytest.raises(InputError, match=rf"no device '{name}' here; there are: .*cpu, cpu:0"),
        computing_on(name),
    ):
        pass


without_gpu = pytest.mark.skipif("jax.default_backend() == 'gpu'")


@without_gpu
@pytest.mark.parametrize("name", ["gpu", "CUDA", "gpu:1"])
def test_a_gpu_where_there_is_none_names_what_to_install(name: str) -> None:
    with pytest.raises(InputError) as refused, computing_on(name):
        pass
    assert 'pip install ".[cuda]"' in str(refused.value)
    assert "`nvidia-smi`" in str(refused.value)


@without_gpu
@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_devices_that_the_environment_asks_for_and_are_not_here_are_named(
    platform: str,
) -> None:
    program = "from jaxsal.cli.main import main; import sys; sys.exit(main(sys.argv[1:]))"
    line = ["bench", "model", "--shape", "8", "8", "8"]
    result = subprocess.run(
        [sys.executable, "-c", program, *line],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "JAX_PLATFORMS": platform},
    )
    assert result.returncode == 2, result.stderr
    assert f"JAX_PLATFORMS={platform} asks for: unset it" in result.stderr
    assert f'pip install ".[{platform}]"' in result.stderr
    assert "Traceback" not in result.stderr


def test_a_processor_that_jax_was_told_to_do_without_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def local_devices(backend: str) -> list[SimpleNamespace]:
        if backend == "cpu":
            raise RuntimeError("Unknown backend cpu")
        return [SimpleNamespace(platform="gpu")] * 2

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", local_devices)
    with pytest.raises(InputError, match=r"there are: gpu, gpu:0, gpu:1$"), computing_on("gpu:2"):
        pass


def test_a_cohort_takes_every_device_of_the_best_kind_unless_some_were_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert every_device() == tuple(jax.local_devices())
    one = jax.local_devices()[:1]
    with computing_with(one):
        assert every_device() == tuple(one)
        assert best_kind() is None
    gpus = [SimpleNamespace(platform="gpu")] * 2
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", lambda backend: gpus if backend == "gpu" else [])
    assert (best_kind(), every_device()) == ("gpu", tuple(gpus))


@pytest.mark.parametrize(
    ("platform", "refused"),
    [("cpu", ["tf32", "bfloat16x3"]), ("gpu", ["bfloat16x3"]), ("tpu", ["tf32"])],
)
def test_a_platform_refuses_the_precisions_that_it_lacks(
    monkeypatch: pytest.MonkeyPatch, platform: str, refused: list[str]
) -> None:
    device = SimpleNamespace(platform=platform)
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    monkeypatch.setattr(jax, "local_devices", lambda backend: [device])
    monkeypatch.setattr(devices, "computing_with", lambda devices: nullcontext())
    monkeypatch.setattr(devices, "current_device", lambda: device)
    checked: list[str] = []
    monkeypatch.setattr(devices, "require_right_products", checked.append)
    for precision in PRECISIONS:
        if precision not in refused:
            with computing_on(platform, precision) as found:
                assert found == [device]
            assert checked.pop() == precision
            continue
        with pytest.raises(InputError) as said, computing_on(platform, precision):
            pass
        others = ", ".join(other for other in PRECISIONS if other not in refused)
        assert str(said.value) == (
            f"precision {precision} is not for a {platform.upper()}: choose one of {others}"
        )
    assert checked == []


@pytest.mark.parametrize(
    ("message", "expected"), [("RESOURCE_EXHAUSTED: Out of memory", True), ("INTERNAL", False)]
)
def test_a_device_computes_unless_it_fails_for_more_than_its_full_memory(
    monkeypatch: pytest.MonkeyPatch, message: str, expected: bool
) -> None:
    assert devices.computes(jax.devices()[0])

    def fail(*_: object) -> None:
        raise jax.errors.JaxRuntimeError(message)

    monkeypatch.setattr(jax, "device_put", fail)
    assert devices.computes(jax.devices()[0]) == expected


def test_devices_are_called_by_kind_and_number() -> None:
    one = SimpleNamespace(platform="gpu", device_kind="NVIDIA H200")
    assert devices.named([one]) == "NVIDIA H200"
    assert devices.named([one, one]) == "2 × NVIDIA H200"
    every = jax.local_devices(backend="cpu")
    assert devices.named(every).startswith("the CPU (")
    assert devices.named(every[:1]) == f"1 of {len(every)} devices of the CPU"
