"""Compiled programs: the next process is served those of the last one, and nothing ever fails."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.optimised import optimised

import jaxsal
from jaxsal import compilation
from jaxsal.compilation import announce_compilation, live_programs
from jaxsal.model import Model
from jaxsal.nets.registry import config_from_arguments

# Compiles one program that is worth keeping, and tells what happened.
PROGRAM = """
import collections, json, sys, warnings
import jax, jax.monitoring, jax.numpy as jnp, numpy as np
from jaxsal import keep_compiled_programs

def step(x, y):
    y = jnp.sort(jnp.sin(x @ y) * jnp.cos(y @ x)[::-1], axis=0)
    return jnp.cumsum(y, axis=1) @ y.T, None

count = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: count.update([event.split("/")[-1]]))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    folder = keep_compiled_programs(*sys.argv[1:])
    def wanted(x):
        for _ in range(40):
            x, _ = step(x, x)
        return x
    value = jax.jit(wanted)(np.eye(4, dtype=np.float32))
    assert value.shape == (4, 4)
print(json.dumps({"folder": folder, "hits": count["cache_hits"], "misses": count["cache_misses"],
                  "limit": jax.config.jax_compilation_cache_max_size,
                  "warnings": [str(w.message) for w in caught]}))
"""


def run(*arguments: str, **variables: str) -> dict[str, object]:
    names = ("JAXSAL_CACHE", "JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE")
    plain = {name: value for name, value in os.environ.items() if name not in names}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**plain, "JAX_PLATFORMS": "cpu", **variables},
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def kept(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*-cache") if path.is_file()]


def test_the_next_process_is_served_the_programs_of_the_last(tmp_path: Path) -> None:
    first = run(JAXSAL_CACHE=str(tmp_path))
    assert (first["hits"], first["misses"], first["warnings"]) == (0, 1, [])
    (program,) = kept(tmp_path)
    assert str(program.parent) == first["folder"]
    assert program.parent.parent == tmp_path
    assert int(str(first["limit"])) > 100 * 75 * 10**6  # a hundred of a TPU's largest programs
    assert run(JAXSAL_CACHE=str(tmp_path)) == {**first, "hits": 1, "misses": 0}


def test_by_default_programs_are_in_the_users_cache_folder(tmp_path: Path) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("the variable that moves the folder is that of Linux")
    result = run(XDG_CACHE_HOME=str(tmp_path))
    assert kept(tmp_path / "jaxsal" / "compilation")
    assert str(result["folder"]).startswith(str(tmp_path / "jaxsal" / "compilation"))


def test_nothing_is_kept_when_switched_off(tmp_path: Path) -> None:
    result = run(JAXSAL_CACHE="OFF", XDG_CACHE_HOME=str(tmp_path), HOME=str(tmp_path))
    assert result == {"folder": None, "hits": 0, "misses": 0, "limit": -1, "warnings": []}
    assert kept(tmp_path) == []


def test_a_folder_given_in_python_goes_before_the_variable(tmp_path: Path) -> None:
    result = run(str(tmp_path / "given"), JAXSAL_CACHE=str(tmp_path / "variable"))
    assert Path(str(result["folder"])).parent == tmp_path / "given"
    assert kept(tmp_path / "given")
    assert not (tmp_path / "variable").exists()


@pytest.mark.thorough
def test_the_users_own_configuration_of_jax_stands(tmp_path: Path) -> None:
    own = tmp_path / "own"
    variables = {
        "JAX_COMPILATION_CACHE_DIR": str(own),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    result = run(str(tmp_path / "given"), JAXSAL_CACHE=str(tmp_path / "variable"), **variables)
    assert result["folder"] == str(own)
    assert kept(own)
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


@pytest.mark.thorough
def test_a_cache_that_is_disabled_in_jax_stays_so(tmp_path: Path) -> None:
    result = run(str(tmp_path), JAX_ENABLE_COMPILATION_CACHE="false")
    assert result["folder"] is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.thorough
def test_a_folder_that_cannot_be_written_is_told_once_and_fails_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = run(JAXSAL_CACHE=str(tmp_path / "file"))
    assert result["folder"] is None
    (warning,) = result["warnings"]
    assert str(tmp_path / "file") in warning
    assert "JAXSAL_CACHE" in warning


@pytest.mark.thorough
def test_a_broken_program_is_compiled_anew(tmp_path: Path) -> None:
    run(JAXSAL_CACHE=str(tmp_path))
    (program,) = kept(tmp_path)
    program.write_bytes(program.read_bytes()[:100])
    second = run(JAXSAL_CACHE=str(tmp_path))
    assert second["hits"] == 0
    assert len(second["warnings"]) == 1


@pytest.mark.thorough
def test_a_program_whose_writing_was_cut_off_is_replaced(tmp_path: Path) -> None:
    run(JAXSAL_CACHE=str(tmp_path))
    (program,) = kept(tmp_path)
    program.write_bytes(program.read_bytes()[:100])
    program.with_name(program.name.replace("-cache", "-atime")).unlink()
    second = run(JAXSAL_CACHE=str(tmp_path))
    assert (second["misses"], second["warnings"]) == (1, [])
    assert run(JAXSAL_CACHE=str(tmp_path))["hits"] == 1


class Impatient(threading.Timer):
    """Rings at once."""

    def start(self) -> None:
        self.function()


class Waiting(threading.Timer):
    """Never rings by itself, and tells how many are to ring."""

    running = 0
    started = 0

    def start(self) -> None:
        Waiting.running += 1
        Waiting.started += 1

    def cancel(self) -> None:
        Waiting.running -= 1


def compile_something() -> None:
    jax.jit(lambda x: jnp.sin(x) + 1)(np.zeros(3, np.float32))


def test_a_compilation_is_announced_while_it_lasts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    jax.devices()  # JAX has a timer of its own while it looks for them
    announce_compilation()
    caplog.set_level(logging.INFO, logger="jaxsal")
    monkeypatch.setattr(threading, "Timer", Impatient)
    compile_something()
    assert caplog.messages == ["compiling for this network and these sizes"]


def test_a_tpus_compilation_is_announced_as_long(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    jax.devices()
    announce_compilation()
    caplog.set_level(logging.INFO, logger="jaxsal")
    monkeypatch.setattr(threading, "Timer", Impatient)
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    compile_something()
    assert caplog.messages[0].endswith("; a TPU's programs take minutes each")


def test_a_compilation_that_is_done_is_announced_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    jax.devices()
    announce_compilation()
    monkeypatch.setattr(threading, "Timer", Waiting)
    compile_something()
    assert Waiting.started == 1
    assert Waiting.running == 0


def fields_of_their_own(model: Model, number: int) -> None:
    jaxsal.whole_volume(lambda batch: batch * number)(jnp.ones((2, 2, 2, 1)))


def images_of_their_own_shapes(model: Model, number: int) -> None:
    jaxsal.sliding_window(lambda batch: batch, roi=(2, 2, 2))(jnp.ones((2, 2, 3 + number, 1)))


def batches_of_their_own_shapes(model: Model, number: int) -> None:
    model(jnp.ones((1, 1, 1, 1 + number, 1)))


@pytest.mark.parametrize(
    "work",
    [fields_of_their_own, images_of_their_own_shapes, batches_of_their_own_shapes],
)
def test_programs_of_ever_new_work_are_forgotten(
    work: Callable[[Model, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compilation, "_MOST_KINDS", 2)
    arguments = {"in_channels": 1, "out_channels": 1, "channels": (1, 1), "strides": (1,)}
    model = Model.initialise(config_from_arguments("unet", {**arguments, "norm": None}), ("flair",))
    live = []
    for number in range(7):
        work(model, number)
        live.append(live_programs())
    forgotten = np.count_nonzero(np.diff(live) < 0)
    assert forgotten >= 2
    assert max(live[4:]) <= max(live[:4])


def test_programs_in_use_are_kept() -> None:
    """Neither repeated work nor what is traced into a program of the user's makes JAX forget."""
    image, traced = jnp.ones((2, 2, 2, 1)), []

    def network(batch: jax.Array) -> jax.Array:
        traced.append(batch.shape)
        return batch + 1

    field = jaxsal.whole_volume(network)
    for number in range(20):
        field(image)
        jax.eval_shape(jaxsal.whole_volume(lambda batch, n=number: batch * n), image)
    assert traced == [(1, 2, 2, 2, 1)]


def test_products_on_a_gpu_are_left_to_cublas_and_a_tpu_is_asked_nothing() -> None:
    assert compilation.compiler_options("gpu") == {"xla_gpu_enable_triton_gemm": False}
    assert compilation.compiler_options("tpu") is None


def test_convolutions_on_a_cpu_are_left_to_ynnpack() -> None:
    """Left to Eigen, maps come out wrong while several devices of a host compute at once."""
    asked = compilation.compiler_options("cpu")
    if asked is None:
        pytest.skip("this XLA has no such option")
    planes, kernel = jnp.ones((4, 16, 16, 32)), jnp.ones((3, 3, 32, 32))

    def convolution(planes: jax.Array, kernel: jax.Array) -> jax.Array:
        axes = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(planes, kernel, (1, 1), "SAME", dimension_numbers=axes)

    with optimised():
        program = jax.jit(convolution, compiler_options=asked).lower(planes, kernel).compile()
    assert "__ynn_fusion" in str(program.as_text())


@pytest.mark.parametrize("rows", [32769, 37295])
def test_sums_after_products_on_a_cpu_are_right(rows: int) -> None:
    """XLA's own choice of libraries leaves the last of these wrong (JAX's issue 39103)."""

    def length(row: jax.Array) -> jax.Array:
        return jnp.sum((jnp.eye(3) @ row) ** 2)

    vectors = np.random.default_rng(0).standard_normal((rows, 3), np.float32)
    with optimised():
        found = compilation.compiled(jax.vmap(length))(vectors)
    np.testing.assert_allclose(found, (vectors**2).sum(-1), rtol=1e-6)


def test_options_of_another_version_are_not_known() -> None:
    assert compilation.known_on_a_cpu({"xla_cpu_multi_thread_eigen": True})
    assert not compilation.known_on_a_cpu({"xla_cpu_of_another_version": True})


TRANSFORMATIONS = {
    "jit": jax.jit,
    "vmap": lambda function: lambda x: jax.vmap(function)(x[None])[0],
    "grad": jax.grad,
    "grad of what is closed over": lambda function: jax.grad(lambda x: x * function(2.0)),
}


@pytest.mark.parametrize("transform", TRANSFORMATIONS.values(), ids=TRANSFORMATIONS)
def test_the_options_are_asked_for_except_within_transformations(
    monkeypatch: pytest.MonkeyPatch, transform: Any
) -> None:
    x = jnp.float32(2.0)
    expected = transform(lambda x: x**3)(x)
    monkeypatch.setattr(compilation, "compiler_options", lambda _: {"xla_of_another_version": True})
    cube = compilation.compiled(lambda x: x**3)
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_of_another_version"):
        cube(x)
    assert transform(cube)(x) == expected


def test_what_is_compiled_may_close_over_what_is_differentiated() -> None:
    assert jax.grad(lambda weight: compilation.compiled(lambda x: weight * x)(2.0))(3.0) == 2.0
