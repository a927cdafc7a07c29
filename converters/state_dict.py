"""Reading PyTorch checkpoints as tensors only: nothing in a file is ever executed.

A checkpoint is a pickle, which can call any function while it is read. ``weights_only=True`` makes
PyTorch refuse everything but tensors and plain containers. Numbers of NumPy's, which training
programs log (nnU-Net's checkpoints always hold some), are let through as well: making one of its
type and bytes runs nothing else.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxsal.errors import InputError
from jaxsal.files import require_content

State = dict[str, np.ndarray]

# Where training programs put the state dict among other things.
_WRAPPERS = ("state_dict", "model_state_dict", "network_weights", "model", "net", "checkpoint")
_SAVE_PLAIN = 'save it again with torch.save(network.state_dict(), "plain.pth")'


def read_state_dict(path: str | Path) -> State:
    """The tensors of a PyTorch checkpoint by key, as float32 arrays, unwrapped.

    Counters (``num_batches_tracked``) are left out.

    Raises:
        InputError: the file is missing, no PyTorch checkpoint, truncated, holds more than tensors,
            or no state dict; or torch is not installed.
    """
    checkpoint = read_checkpoint(path)
    try:
        return as_arrays(_state_dict_in(checkpoint))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read_checkpoint(path: str | Path) -> Any:
    """All that a PyTorch checkpoint holds: tensors, plain containers, numbers and text.

    Raises:
        InputError: the file is missing, no PyTorch checkpoint, truncated, or holds more than that;
            or torch is not installed.
    """
    path = Path(path)
    _check_file(path)
    return _load(path)


def as_arrays(entries: Mapping[str, Any]) -> State:
    """Tensors as float32 arrays, without counters (``num_batches_tracked``).

    Raises:
        InputError: a tensor is quantised or complex, or has values that are not finite.
    """
    return {
        key: _as_array(key, value)
        for key, value in entries.items()
        if not key.endswith("num_batches_tracked")
    }


def select_network(state: State, pattern: str) -> tuple[State, str, list[str]]:
    """The entries that belong to a network which may be one part of what was saved.

    Args:
        state: as `read_state_dict` gives it.
        pattern: regular expression for the beginning of every key of the bare network.

    Returns:
        The network's entries without the prefix that they have in common (``module.`` of
        DataParallel, ``model.`` or the like of a Lightning module), that prefix, and the other
        keys.

    Raises:
        InputError: no key matches, or several networks are in the file.
    """
    beginning = re.compile(rf"((?:[^.]+\.)*?)(?={pattern})")
    prefixes = {key: match[1] for key in state if (match := beginning.match(key))}
    found = sorted(set(prefixes.values()))
    if not found:
        raise InputError(
            f"it holds another network: none of its {len(state)} keys belongs to this kind; "
            f"they are {_some(state)}"
        )
    if len(found) > 1:
        names = ", ".join(repr(prefix) for prefix in found)
        raise InputError(
            f"it holds {len(found)} networks, under the prefixes {names}; {_SAVE_PLAIN}, the "
            "network being the one to convert"
        )
    (prefix,) = found
    inside = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return inside, prefix, [key for key in state if not key.startswith(prefix)]


def _check_file(path: Path) -> None:
    require_content(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; a PyTorch checkpoint is expected")
    if not path.is_file():
        raise InputError(f"{path} is not a file; a PyTorch checkpoint (.pth, .pt) is expected")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty; a PyTorch checkpoint is expected")
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        names = {Path(name).name for name in archive.namelist()}
    if "constants.pkl" in names:
        raise InputError(
            f"{path} is a TorchScript archive, which is a program; load it with torch.jit.load "
            f"and {_SAVE_PLAIN}"
        )
    if "data.pkl" not in names:
        raise InputError(f"{path} is a zip archive but no PyTorch checkpoint")


def _load(path: Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise InputError(
            "reading PyTorch checkpoints needs torch: pip install 'jaxsal[convert]'"
        ) from error
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):
        raise InputError(
            f"torch {torch.__version__} can be made to run code while it reads tensors only "
            "(CVE-2025-32434): upgrade to torch 2.6 or newer"
        )
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_numpy_numbers()):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(_refusal(path, str(error))) from error
    except Exception as error:  # torch raises many kinds for damaged files
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else repr(error)
        raise InputError(
            f"{path} is no PyTorch checkpoint, or is truncated or damaged: {reason}"
        ) from error


def _numpy_numbers() -> list[Any]:
    """What the pickle of a NumPy number names: its maker, under both of its names, and types."""
    scalar = np.float64(0).__reduce__()[0]
    makers = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    kinds = (np.bool_, np.int32, np.int64, np.uint8, np.float16, np.float32, np.float64)
    return [*makers, np.dtype, *(type(np.dtype(kind)) for kind in kinds)]


def _refusal(path: Path, reason: str) -> str:
    refused = re.search(r"GLOBAL ([\w.]+)", reason)
    if refused:
        return (
            f"{path} holds more than tensors ({refused[1]}) and nothing of it was loaded, because "
            "doing so could run any program. If you trust it, load it where it was made and "
            f"{_SAVE_PLAIN}"
        )
    return f"{path} is no PyTorch checkpoint, or is truncated or damaged"


def _state_dict_in(checkpoint: Any) -> dict[str, Any]:
    """The tensors of a checkpoint, at its top level or in one of its entries."""
    if not isinstance(checkpoint, Mapping):
        raise InputError(
            f"it holds a {type(checkpoint).__name__} instead of a state dict; {_SAVE_PLAIN}"
        )
    inner = {k: v for k, v in checkpoint.items() if isinstance(v, Mapping)}
    named = [inner[k] for k in _WRAPPERS if k in inner]
    holding = named or [v for v in inner.values() if _holds_tensors(v)]
    if len(holding) > 1 and not named:
        raise InputError(f"it holds several state dicts: {_some(inner)}; {_SAVE_PLAIN}")
    if holding:
        return _state_dict_in(holding[0])
    if not _holds_tensors(checkpoint):
        raise InputError(f"it holds no tensors, only {_some(checkpoint)}; {_SAVE_PLAIN}")
    return {k: v for k, v in checkpoint.items() if _is_tensor(v)}


def _holds_tensors(mapping: Mapping[Any, Any]) -> bool:
    return any(isinstance(k, str) and _is_tensor(v) for k, v in mapping.items())


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _as_array(key: str, tensor: Any) -> np.ndarray:
    import torch

    if tensor.is_quantized or tensor.is_complex():
        raise InputError(f"{key} is {tensor.dtype}; only real floating-point weights are supported")
    dense = tensor.detach().to_dense() if tensor.is_sparse else tensor.detach()
    array = np.asarray(dense.to(torch.float32).contiguous().numpy())
    if not np.isfinite(array).all():
        raise InputError(f"{key} has NaN or infinite values; the training diverged")
    return array


def _some(keys: Mapping[Any, Any]) -> str:
    shown = ", ".join(str(key) for key in list(keys)[:4])
    return shown + ", …" * (len(keys) > 4) if keys else "nothing"
