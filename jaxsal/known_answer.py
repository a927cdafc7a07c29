"""Whether a GPU's 3D convolutions in reduced precision are right, by known answers.

Faults of cuDNN are silent. On an H100, versions 9.8 to 9.14 compute some 3D convolutions in
bfloat16 wrongly (reported of 16 to 16 channels, kernel (1, 3, 3), 124 × 1282 × 722 voxels:
https://github.com/pytorch/pytorch/issues/163539; mended in 9.15:
https://github.com/pytorch/pytorch/pull/166480), and 9.10.2 to 9.15 some in TF32, "without clearly
defined constraints" (https://github.com/pytorch/pytorch/pull/167024). So convolutions of the kind
that networks consist of are compared with their exact results, and the versions are warned of.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

from jaxsal.compilation import compiled, programs_folder
from jaxsal.current_device import current_device
from jaxsal.errors import InputError, OutputError, warn
from jaxsal.store.files import whole_file
from jaxsal.versions import accelerator

Convolution = tuple[int, int, int]  # voxels per axis, channels in and out, stride

CONVOLUTIONS: tuple[Convolution, ...] = ((64, 16, 1), (48, 32, 1), (32, 32, 2))
_ASKED = {"bfloat16": "bfloat16", "tf32": "tensorfloat32"}
_FAULTY = {"bfloat16": ((9, 8), (9, 15)), "tf32": ((9, 10, 2), (9, 16))}  # from, and mended in


def require_right_products(precision: str) -> None:
    """Checks the current device's convolutions, if it is a GPU, in bfloat16 or TF32.

    Args:
        precision: arithmetic that is to be computed with on the current device.

    Raises:
        InputError: they are wrong.
    """
    device = current_device()
    if device.platform == "gpu" and precision in _ASKED:
        check_products(device.device_kind, precision)


@cache  # what is wrong raises, and is checked again
def check_products(kind: str, precision: str) -> None:
    """Checks the current device's convolutions, once per machine, versions and precision.

    That they are right is noted beside the compiled programs, where these are kept. Versions of
    cuDNN that are known for faults are warned of, also if the check finds none.

    Args:
        kind: of the device.
        precision: "bfloat16" or "tf32".

    Raises:
        InputError: they are wrong.
    """
    driven = accelerator()
    facts = json.dumps([kind, precision, jaxlib.__version__, driven], sort_keys=True)
    cudnn = driven.get("cudnn", "")
    if not _is_noted(facts):
        if faults := wrong_products(precision):
            raise InputError(
                f"{kind} computes 3D convolutions wrongly in {precision} ({'; '.join(faults)}), as "
                f"some versions of cuDNN do (here {cudnn or 'unknown'}): choose the precision "
                f"float32, or install another version of {_package(driven)}"
            )
        _note(facts)
    first, mended = _FAULTY[precision]
    if cudnn and first <= tuple(map(int, cudnn.split("."))) < mended:
        wanted = ".".join(map(str, mended))
        warn(
            f"cuDNN {cudnn} is known to compute some 3D convolutions wrongly in {precision}; those "
            f'that were tried are right. `pip install "{_package(driven)}>={wanted}"`, or choose '
            "the precision float32",
        )


def _package(driven: Mapping[str, str]) -> str:
    """What cuDNN is installed by, for the plug-in that drives the device."""
    return f"nvidia-cudnn-cu{13 if 'jax-cuda13-plugin' in driven else 12}"


def wrong_products(precision: str, convolutions: Sequence[Convolution] = CONVOLUTIONS) -> list[str]:
    """Which convolutions and input gradients of 3³ kernels differ from their exact results.

    Factors are -1, 0 or 1, so that nothing is rounded in any arithmetic; NumPy knows the results.
    """
    faults = []
    for size, channels, stride in convolutions:
        random = np.random.default_rng(0)
        x = random.integers(-1, 2, (1, *(size,) * 3, channels)).astype(np.float32)
        kernel = random.integers(-1, 2, (3, 3, 3, channels, channels)).astype(np.float32)
        y = random.integers(-1, 2, (1, *(size // stride,) * 3, channels)).astype(np.float32)
        exact = _correlation(x, kernel, stride), _adjoint(y, kernel, stride)
        found = _on_device(x, kernel, y, stride, precision)
        for what, ours, expected in zip(("", "gradient of "), found, exact, strict=True):
            if not np.array_equal(ours, expected):
                faults.append(f"{what}{channels} channels of {size}³ voxels, stride {stride}")
    return faults


def _on_device(
    x: np.ndarray, kernel: np.ndarray, y: np.ndarray, stride: int, precision: str
) -> tuple[np.ndarray, np.ndarray]:
    """The convolution, and its input gradient from y, as networks compute them."""
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32

    @compiled
    def both(x: jax.Array, kernel: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        def convolve(x: jax.Array) -> jax.Array:
            axes = ("NHWDC", "HWDIO", "NHWDC")
            return jax.lax.conv_general_dilated(
                x, kernel, (stride,) * 3, [(1, 1)] * 3, dimension_numbers=axes
            )

        found, pull_back = jax.vjp(convolve, x)
        return found, pull_back(y)[0]

    with jax.default_matmul_precision(_ASKED[precision]):
        found = both(*(jnp.asarray(array, dtype) for array in (x, kernel, y)))
    convolved, gradient = (np.asarray(array.astype(jnp.float32)) for array in found)
    return convolved, gradient


def _correlation(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    padded = np.pad(x, [(0, 0), *[(1, 1)] * 3, (0, 0)])
    taps = itertools.product(range(3), repeat=3)
    shape = [n // stride for n in x.shape[1:4]]
    return np.sum([padded[_seen(tap, shape, stride)] @ kernel[tap] for tap in taps], axis=0)


def _adjoint(y: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    shape = y.shape[1:4]
    padded = np.zeros((1, *(n * stride + 2 for n in shape), y.shape[-1]), np.float32)
    for tap in itertools.product(range(3), repeat=3):
        padded[_seen(tap, shape, stride)] += y @ kernel[tap].T
    return padded[:, 1:-1, 1:-1, 1:-1]


def _seen(tap: Sequence[int], shape: Sequence[int], stride: int) -> tuple[slice, ...]:
    """What a kernel's tap sees of the padded input, for a result of this shape."""
    along = (slice(t, t + n * stride, stride) for t, n in zip(tap, shape, strict=True))
    return (slice(None), *along)


def _place(facts: str) -> Path | None:
    folder = programs_folder()
    if folder is None or "://" in folder:
        return None
    return Path(folder) / f"right-{hashlib.sha256(facts.encode()).hexdigest()[:16]}.json"


def _is_noted(facts: str) -> bool:
    if place := _place(facts):
        with suppress(OSError):  # there is none, or it is another user's
            return place.read_bytes() == facts.encode()
    return False


def _note(facts: str) -> None:
    if place := _place(facts):
        with suppress(OutputError), whole_file(place) as file:
            file.write(facts.encode())
