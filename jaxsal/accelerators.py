"""What JAX's plug-ins for accelerators say when they cannot be used, and what to do then."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import jax

from jaxsal.errors import InputError, warn

ADVICE = {
    "gpu": 'for an NVIDIA GPU install `pip install ".[cuda]"`, and look whether `nvidia-smi` '
    "lists it: else NVIDIA's driver is missing or too old",
    "tpu": 'for a TPU install `pip install ".[tpu]"` on its host, and end what uses it: a TPU '
    "belongs to one process at a time",
}
_PLUGINS = {
    "gpu": ("jax-cuda13-plugin", "jax-cuda12-plugin"),
    "tpu": ("libtpu",),
}
_FINDS_DEVICES = logging.getLogger("jax._src.xla_bridge")


def default_backend() -> str:
    """What JAX computes on by default; the tracebacks of plug-ins that fail are not printed.

    Raises:
        InputError: JAX_PLATFORMS, or the host of a TPU, asks for what is not here, which JAX says
            in many ways.
    """
    try:
        _plugin_failures()
        return jax.default_backend()
    except (RuntimeError, AssertionError) as error:
        wanted = os.environ.get("JAX_PLATFORMS")
        platforms = _platforms()
        asked = (
            f"JAX_PLATFORMS={wanted} asks for: unset it"
            if wanted
            else (f"this host should have ({platforms}): set JAX_PLATFORMS=cpu")
        )
        kinds = {name.replace("cuda", "gpu") for name in platforms.split(",")}
        advice = "".join(f"; {text}" for kind, text in ADVICE.items() if kind in kinds)
        raise InputError(
            f"JAX finds no device of those that {asked} to compute on what there is{advice} "
            f"({_first_line(error)})"
        ) from error


def warn_of_unused() -> None:
    """Warns if JAX computes on the CPU although it is installed for an accelerator.

    Not where JAX_PLATFORMS says what to compute on.
    """
    if _platforms() or default_backend() != "cpu":
        return
    for kind, plugins in _PLUGINS.items():
        if installed := [name for name in plugins if _is_installed(name)]:
            because = "".join(f" ({reason})" for reason in _plugin_failures() if kind == "gpu")
            warn(
                f"{installed[0]} is installed, but JAX finds no {kind.upper()}{because}, so the "
                f"CPU computes, far slower; {ADVICE[kind]}; or choose the CPU by --device cpu, or "
                "in Python JAX_PLATFORMS=cpu",
            )


@cache  # JAX looks for devices once per process
def _plugin_failures() -> tuple[str, ...]:
    """Why plug-ins could not be used; nothing if JAX had been asked for its devices before."""
    with _without_tracebacks() as reasons:
        jax.default_backend()
    return tuple(reasons)


@contextmanager
def _without_tracebacks() -> Iterator[list[str]]:
    """Keeps the tracebacks of plug-ins that fail from being printed; yields why they fail."""
    reasons: list[str] = []

    def is_shown(record: logging.LogRecord) -> bool:
        if record.exc_info is None or record.exc_info[1] is None:
            return True
        reasons.append(_first_line(record.exc_info[1]))
        return False

    _FINDS_DEVICES.addFilter(is_shown)
    try:
        yield reasons
    finally:
        _FINDS_DEVICES.removeFilter(is_shown)


def _platforms() -> str:
    """What JAX was told to look for, by a variable or on the host of a TPU; empty if nothing."""
    return jax.config.jax_platforms or ""  # type: ignore[attr-defined]


def _is_installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
