"""State dicts: the tensors of a network by name, and the part of them that is the network's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jaxsal.errors import InputError
from jaxsal_converters.checkpoint_file import SAVE_PLAIN, some_of
from jaxsal_converters.saved_tensors import LazyTensor, require_bearable

State = dict[str, np.ndarray]


def as_arrays(entries: Mapping[str, Any]) -> State:
    """Tensors as float32 arrays, without counters (``num_batches_tracked``).

    Raises:
        InputError: a tensor is quantised or complex, has values that are not finite, or
            is endless.
    """
    return {
        key: _as_array(key, value)
        for key, value in entries.items()
        if not key.endswith("num_batches_tracked")
    }


def select_network(state: State, pattern: str) -> tuple[State, str, list[str]]:
    """The entries that belong to a network which may be one part of what was saved.

    Args:
        state: arrays by key.
        pattern: regular expression for the beginning of every key of the bare network.

    Returns:
        The network's entries without the prefix that they have in common (``module.`` of
        DataParallel, ``model.`` or the like of a Lightning module), that prefix, and the other
        keys.

    Raises:
        InputError: no key matches, or several networks are in the file.
    """
    found = prefixes_of(state, pattern)
    if not found:
        raise InputError(
            f"it holds another network: none of its {len(state)} keys belongs to this kind; "
            f"they are {some_of(state)}"
        )
    if len(found) > 1:
        names = ", ".join(repr(prefix) for prefix in found)
        raise InputError(
            f"it holds {len(found)} networks, under the prefixes {names}; {SAVE_PLAIN}, the "
            "network being the one to convert"
        )
    (prefix,) = found
    inside = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return inside, prefix, [key for key in state if not key.startswith(prefix)]


def prefixes_of(keys: Iterable[str], pattern: str) -> list[str]:
    """What stands before keys of the network, such as ``module.``, once each and sorted."""
    beginning = re.compile(rf"((?:[^.]+\.)*?)(?={pattern})")
    return sorted({match[1] for key in keys if (match := beginning.match(key))})


def _as_array(key: str, tensor: Any) -> np.ndarray:
    import torch

    tensor = tensor.read() if isinstance(tensor, LazyTensor) else tensor
    if tensor.is_quantized or tensor.is_complex():
        raise InputError(f"{key} is {tensor.dtype}; only real floating-point weights are supported")
    is_strided = tensor.layout is torch.strided
    stored = tensor.untyped_storage().nbytes() // tensor.itemsize if is_strided else 0
    require_bearable(key, tensor.shape, stored)
    dense = tensor.detach().to_dense() if tensor.is_sparse else tensor.detach()
    array = np.asarray(dense.to(torch.float32).contiguous().numpy())
    if not np.isfinite(array).all():
        raise InputError(f"{key} has NaN or infinite values; the training diverged")
    return array


def is_tensor(value: Any) -> bool:
    """Whether a checkpoint's entry is a tensor, read or not."""
    import torch

    return isinstance(value, torch.Tensor | LazyTensor)
