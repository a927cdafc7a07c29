"""Compiled programs: kept between runs, and announced when one takes long to compile."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
from filelock import FileLock
from jax.extend.core import get_opaque_trace_state
from platformdirs import user_cache_path

from jaxsal.current_device import current_device
from jaxsal.errors import warn

CompilerOptions = dict[str, bool | str]

VARIABLE = "JAXSAL_CACHE"  # a folder, or "off"
_WORTH_KEEPING = 0.1  # seconds of compilation; to fetch a program takes a hundredth
_LARGEST = 8 * 2**30  # bytes: a network takes a megabyte on a CPU, on a TPU a gigabyte and more
_PATIENCE = 10.0  # seconds to wait for another run that is writing a program
_WORTH_A_NOTE = 1.0  # seconds of compilation

_MOST_KINDS = 32  # of work; each leaves programs of some 10 to 20 MB
_MOST_PROGRAMS = 1000  # of one kind of work there are a hundred or two
_kinds: set[int] = set()  # hashes of what was worked on since JAX last forgot
_kinds_lock = threading.Lock()
_LOWERED = "/jax/core/compile/jaxpr_to_mlir_module_duration"  # the compiler is next
_COMPILED = "/jax/core/compile/backend_compile_duration"

# Triton has no tiles for some of Swin UNETR's products in full precision, so that compiling its
# pull-back fails; cuBLAS takes them all.
_ON_GPU: CompilerOptions = {"xla_gpu_enable_triton_gemm": False}
# XLA gives products, convolutions and sums to YNNPACK, which leaves the last of some
# sums after products wrong, without a word (JAX's issue 39103). So it is given no sums.
# Many convolutions it computes on a single core, unless `jaxsal.nets.by_planes` prepares them. Left
# to Eigen, which uses all cores, convolutions make maps of Swin UNETR wrong while two devices of a
# host compute at once.
_ON_CPU: CompilerOptions = {
    "xla_cpu_experimental_ynn_fusion_type": (
        "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"
    )
}

_logger = logging.getLogger("jaxsal")

_Arguments = ParamSpec("_Arguments")
_Returned = TypeVar("_Returned")


@cache
def compiler_options(platform: str) -> CompilerOptions | None:
    """What to ask of XLA when it compiles for a platform: ``compiler_options`` of `jax.jit`.

    None: nothing; on a CPU also where the XLA that is installed does not have the option.
    """
    if platform == "gpu":
        return _ON_GPU
    return _ON_CPU if platform == "cpu" and known_on_a_cpu(_ON_CPU) else None


def known_on_a_cpu(options: CompilerOptions) -> bool:
    """Whether the XLA that is installed has these compiler options for CPUs."""
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        trivial = jax.jit(jnp.negative, compiler_options=options).lower(0.0)
    try:
        trivial.compile()
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" in str(error) or "is not a valid" in str(error):
            return False
        raise
    return True


def compiled(
    function: Callable[_Arguments, _Returned], *, platform: str | None = None, **options: Any
) -> Callable[_Arguments, _Returned]:
    """`jax.jit` with the `compiler_options` of a platform.

    Where it is called within a transformation, such as another `jax.jit` or `jax.grad`, it is
    compiled without: JAX refuses options of nested programs.

    Args:
        function: to be compiled.
        platform: for which; None: that of `current_device` when it is called.
        options: of `jax.jit`.

    Returns:
        The compiled function, to be called only: it has no ``lower`` or ``trace``.
    """
    within = jax.jit(function, **options)

    @cache
    def outermost(platform: str) -> Any:
        return jax.jit(function, compiler_options=compiler_options(platform), **options)

    @wraps(function)
    def call(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Returned:
        if _is_within_transformation():
            program = within
        else:
            program = outermost(platform or current_device().platform)
        result: _Returned = program(*args, **kwargs)
        return result

    return call


def _is_within_transformation() -> bool:
    """Whether JAX is tracing or differentiating what calls this."""
    return get_opaque_trace_state() != _state_outside()


@cache
def _state_outside() -> Any:
    with ThreadPoolExecutor(1) as thread:  # a new thread is within no transformation
        return thread.submit(get_opaque_trace_state).result()


def keep_compiled_programs(folder: str | os.PathLike[str] | None = None) -> str | None:
    """Keeps compiled programs on disk, so that later runs with the same network need not compile.

    Call it before the first computation. The command line does; in Python nothing is kept unless
    asked for. A folder that JAX was already given stands, whatever is asked for here. Compilations
    that take long are announced to the logger "jaxsal", level INFO.

    Programs go to a subfolder for this kind of processor: XLA compiles for the instructions that
    the processor has, and a folder may be shared with machines that lack them. Whoever may write
    there can have JAX run what they like: choose no folder that others may write to.

    Args:
        folder: where; by default the environment variable JAXSAL_CACHE (a folder, or "off"), else
            the user's cache folder. Old programs make way when it exceeds 8 GiB: on a TPU a program
            takes 7 to 75 MB, and a network some twenty of them.

    Returns:
        The folder in which programs are kept; None if they are not. A folder that cannot be
        written to is a warning.
    """
    announce_compilation()
    if programs_folder() is not None or not _jax("enable_compilation_cache"):
        return programs_folder()
    chosen = _chosen(folder)
    if chosen is None:
        return None
    try:
        _prepare(chosen)
    except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
        warn(
            f"compiled programs cannot be kept in {chosen} ({error}), so each run compiles anew; "
            f"set the environment variable {VARIABLE} to a folder that can be written to, or off",
        )
        return None
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _WORTH_KEEPING)
    jax.config.update("jax_compilation_cache_max_size", _LARGEST)
    jax.config.update("jax_compilation_cache_dir", str(chosen))
    return str(chosen)


@cache  # once per process
def announce_compilation() -> None:
    """Logs compilations that take long, to the logger "jaxsal" and while they last."""
    current = threading.local()

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event not in (_LOWERED, _COMPILED):
            return
        if (timer := getattr(current, "timer", None)) is not None:
            timer.cancel()
        current.timer = None
        if event == _LOWERED:
            current.timer = threading.Timer(_WORTH_A_NOTE, _announce)
            current.timer.daemon = True
            current.timer.start()

    jax.monitoring.register_event_duration_secs_listener(listen)


@cache  # once per process
def compiling_seconds() -> list[float]:
    """Grows, from now on, by the seconds of each step of compiling in this process."""
    found: list[float] = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event in (_LOWERED, _COMPILED):
            found.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    return found


def bound_programs(function: Hashable, images: jax.Array | np.ndarray) -> None:
    """Has JAX forget all that it compiled, once that is for many kinds of work.

    Called wherever a network meets images: each network, each callable that stands in for one and
    each shape of images leaves compiled programs behind, which JAX itself would keep for good. What
    is forgotten and asked for again is compiled again, or fetched from disk where compiled programs
    are kept. Work of one kind is not interrupted by it, however often it is repeated.

    Args:
        function: the network.
        images: that it is given next; nothing is forgotten while a program is being traced.
    """
    if isinstance(images, jax.core.Tracer):
        return
    kind = hash((function, images.shape))  # a hash keeps nothing alive
    with _kinds_lock:
        if kind in _kinds:
            return
        if len(_kinds) >= _MOST_KINDS or live_programs() > _MOST_PROGRAMS:
            _kinds.clear()
            jax.clear_caches()
        _kinds.add(kind)


def live_programs() -> int:
    """Number of compiled programs that this process keeps in memory."""
    return len(current_device().client.live_executables())


def _announce() -> None:
    folder = programs_folder()
    kept = "" if folder is None else f" (once; kept in {folder})"
    slow = "; a TPU's programs take minutes each" if jax.default_backend() == "tpu" else ""
    _logger.info("compiling for this network and these sizes%s%s", kept, slow)


def programs_folder() -> str | None:
    """Where compiled programs are kept; None if they are not."""
    return (_jax("enable_compilation_cache") and _jax("compilation_cache_dir")) or None


def _jax(option: str) -> Any:
    return getattr(jax.config, f"jax_{option}")


def _chosen(folder: str | os.PathLike[str] | None) -> Path | None:
    wanted = folder or os.environ.get(VARIABLE) or user_cache_path("jaxsal") / "compilation"
    if folder is None and str(wanted).lower() == "off":
        return None
    return Path(wanted).expanduser().absolute() / _processor()


def _processor() -> str:
    """A short name for what the processor can do."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        described = [str(platform.uname()), platform.processor()]
    else:
        kinds = ("flags", "Features", "model name", "CPU part")
        described = sorted({line for line in text.splitlines() if line.startswith(kinds)})
    return hashlib.sha256("\n".join([platform.machine(), *described]).encode()).hexdigest()[:12]


def _prepare(folder: Path) -> None:
    """Makes the folder, and clears it of what runs left that were killed while they wrote.

    A program is complete when JAX has written the time of its last use; one that has none is
    broken, and JAX could not write any other beside it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with FileLock(folder / ".lockfile", timeout=_PATIENCE):  # the one that JAX takes
        for program in folder.glob("*-cache"):
            name = program.name.removesuffix("-cache")
            if not (folder / f"{name}-atime").exists():
                program.unlink()
