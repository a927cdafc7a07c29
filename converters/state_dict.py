"""State dicts: the tensors of a network by name, and the part of them that is the network's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
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


def each_once(state: State, own_key: Callable[[str], str]) -> State:
    """The entries by their own keys, where a state dict lists some of them several times.

    Raises:
        InputError: an entry and its duplicate differ.
    """
    entries: State = {}
    for key, value in state.items():
        own = own_key(key)
        if own in entries and not np.array_equal(entries[own], value):
            raise InputError(f"{key} holds other values than its duplicate, {own}")
        entries[own] = value
    return entries


def prefixes_of(keys: Iterable[str], pattern: str) -> list[str]:
    """What stands before keys of the network, such as ``module.``, once each and sorted."""
    beginning = re.compile(rf"((?:[^.]+\.)*?)(?={pattern})")
    return sorted({match[1] for key in keys if (match := beginning.match(key))})


def _as_array(key: str, tensor: Any) -> np.ndarray:
    import torch

    tensor = tensor.read() if isinstance(tensor, LazyTensor) else tensor
    if tensor.is_quantized or tensor.is_complex():
        raise InputError(f"{key} is {tensor.dtype}; only real floating-point weights are supported")
    if tensor.device.type != "cpu":
        raise InputError(f"{key} has no values, it is on the device {tensor.device}; {SAVE_PLAIN}")
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


def weight(state: State, module: str) -> np.ndarray:
    """The kernel of a 3D convolution.

    Args:
        state: entries by key.
        module: path of the convolution.

    Raises:
        InputError: it is missing or has not five axes.
    """
    key = f"{module}.weight"
    if key not in state:
        raise InputError(f"{key} is missing, and without it the architecture is not known")
    if state[key].ndim != 5:
        raise InputError(
            f"{key} has the shape {state[key].shape}; a 3D convolution's has five axes, and only "
            "3D networks are supported"
        )
    return state[key]


def count_modules(state: State, modules: str, first: int = 0) -> int:
    """Number of a module list's entries, counted from ``first`` on, that have tensors."""
    count = 0
    while any(key.startswith(f"{modules}.{first + count}.") for key in state):
        count += 1
    return count


def norm_name(
    state: State,
    module: str,
    assumptions: list[str],
    *,
    default_affine: bool | None,
    argument: str = "norm_name",
) -> Any:
    """MONAI's ``norm_name``, as far as the entries of one of the network's norms show it.

    Args:
        state: entries by key.
        module: path of the norm.
        assumptions: takes a sentence if something had to be assumed.
        default_affine: whether MONAI's default for this network is an instance norm with learnt
            parameters, or one without; None if it is another norm.
        argument: what the constructor calls it.
    """
    affine = f"{module}.weight" in state
    if f"{module}.running_mean" in state:
        return ["batch", {"affine": affine}]
    parameters = "with learnt parameters" if affine else "without learnt parameters"
    default = ", MONAI's default" if affine == default_affine else ""
    other = "group norm" if affine else "a network without any normalisation"
    assumptions.append(
        f"{argument}: instance norm {parameters}{default}; {other} looks the same, --config sets it"
    )
    return ["instance", {"affine": affine}]
