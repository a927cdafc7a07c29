"""Where training programs keep a network's weights, and averages of them over training (EMA).

Programs that average weights over training (EMA) save both, the raw weights and the averages:

=====================================  =====================  =================================
program                                raw                    averaged
=====================================  =====================  =================================
timm, MONAI's handlers, hand-written   state_dict, model, …   ema_state_dict, state_dict_ema,
                                                              model_ema, ema_model, ema, …
BasicSR                                params                 params_ema
EMA callbacks of Lightning             state_dict             callbacks, in the one of the EMA
modules that keep a copy, as Lightning  model.…                ema_model.…, in the same state dict
Lightning's own WeightAveraging        current_model_state    state_dict
OpenMMLab                              ema_state_dict         state_dict
=====================================  =====================  =================================
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from jaxsal.errors import InputError
from jaxsal_converters.checkpoint_file import SAVE_PLAIN, shown, some_of
from jaxsal_converters.inert_pickle import Skipped
from jaxsal_converters.state_dict import is_tensor, prefixes_of

Weights = Literal["raw", "ema"]

# Where training programs put the state dict among other things.
_WRAPPERS = (
    *("state_dict", "model_state_dict", "network_weights", "model", "net", "checkpoint"),
    "params",
)
_EMA = re.compile(
    r"(?:^|[^a-z])ema(?:$|[^a-z])|(?-i:(?<![A-Z])EMA)|exponentialmovingaverage", re.IGNORECASE
)
_MOST_DEEP = 8  # wrappers in wrappers
_MOST_CONTAINERS = 500  # that are looked through


class Entry(NamedTuple):
    """What an entry of a checkpoint holds.

    Attributes:
        name: of the entry.
        tensors: by their keys, or in the order of the network's parameters.
    """

    name: str
    tensors: Mapping[str, Any] | list[Any]


class Both(NamedTuple):
    """The entries of raw and of averaged weights, as far as there are any, and the usual ones."""

    raw: Entry | None
    averaged: Entry | None
    usual: Weights = "raw"


def find_weights(checkpoint: Any, pattern: str) -> Both:
    """The raw and the averaged weights that a checkpoint holds, one of them at least.

    Args:
        checkpoint: as `read_checkpoint` gives it.
        pattern: regular expression for the beginning of every key of the bare network.

    Raises:
        InputError: it holds no state dict, or several alike.
    """
    if not isinstance(checkpoint, Mapping):
        kind = checkpoint.name if isinstance(checkpoint, Skipped) else type(checkpoint).__name__
        raise InputError(f"it holds a {shown(kind)} instead of a state dict; {SAVE_PLAIN}")
    found = _found(checkpoint, pattern, "the state dict", 0)
    if found.raw is None and found.averaged is None:
        raise InputError(f"it holds no tensors, only {some_of(checkpoint)}; {SAVE_PLAIN}")
    return found


def _found(checkpoint: Mapping[Any, Any], pattern: str, name: str, depth: int) -> Both:
    """The weights in a mapping of this name: entries of it, in entries of it, or it itself."""
    for is_this_program, raw in _EXCHANGED:
        if raw in checkpoint and "state_dict" in checkpoint and is_this_program(checkpoint):
            beside, main = (Entry(n, _tensors_in(checkpoint[n])) for n in (raw, "state_dict"))
            return Both(raw=beside, averaged=main, usual="ema")
    averaged = _averaged_in(checkpoint)
    rest = {k: v for k, v in checkpoint.items() if is_tensor(v) or not _is_averaged(k)}
    wrapper, tensors = _wrapper(rest), _tensors_of(rest)
    found = Both(None, None)
    if wrapper is not None and depth < _MOST_DEEP:
        found = _found(rest[wrapper], pattern, wrapper, depth + 1)
    elif tensors:
        found = _by_prefix(Entry(name, tensors), pattern)
    return found._replace(averaged=averaged) if averaged else found


def _wrapper(checkpoint: Mapping[Any, Any]) -> str | None:
    """The entry that holds the state dict; None if none does."""
    inner = {k: v for k, v in checkpoint.items() if isinstance(v, Mapping)}
    named = [name for name in _WRAPPERS if name in inner]
    holding = named or [key for key, value in inner.items() if _tensors_of(value)]
    if len(holding) > 1 and not named:
        raise InputError(f"it holds several state dicts: {some_of(inner)}; {SAVE_PLAIN}")
    return str(holding[0]) if holding else None


def _is_openmmlab(checkpoint: Mapping[Any, Any]) -> bool:
    meta = checkpoint.get("meta")
    return isinstance(meta, Mapping) and "mmengine_version" in meta


# Programs that exchange raw and averaged weights as they save: how they are known, and the entry
# where the raw ones are then.
_EXCHANGED = (
    (lambda checkpoint: "averaging_state" in checkpoint, "current_model_state"),
    (_is_openmmlab, "ema_state_dict"),
)


def _averaged_in(checkpoint: Mapping[Any, Any]) -> Entry | None:
    """The averaged weights of a checkpoint, in an entry of their own or a callback's."""
    callbacks = checkpoint.get("callbacks")
    places = [checkpoint, callbacks if isinstance(callbacks, Mapping) else {}]
    for place in places:
        for name, value in place.items():
            if _is_averaged(name) and (tensors := _tensors_in(value)):
                return Entry(shown(name), tensors)
    return None


def _is_averaged(name: object) -> bool:
    return isinstance(name, str) and bool(_EMA.search(name))


def _by_prefix(raw: Entry, pattern: str) -> Both:
    """Two networks in one state dict, if only one of them has averaged weights by its name."""
    assert isinstance(raw.tensors, Mapping)
    prefixes = prefixes_of(raw.tensors, pattern)
    averaged = [prefix for prefix in prefixes if _is_averaged(prefix)]
    if len(prefixes) != 2 or len(averaged) != 1:
        return Both(raw, None)
    inside: dict[str, Any] = {}
    beside: dict[str, Any] = {}
    for key, value in raw.tensors.items():
        (inside if key.startswith(averaged[0]) else beside)[key] = value
    (plain,) = set(prefixes) - set(averaged)
    return Both(Entry(f"{shown(plain or '.')}*", beside), Entry(f"{shown(averaged[0])}*", inside))


def _tensors_in(value: Any) -> Any:
    """The mapping or list with most tensors in nested mappings; empty if there are none."""
    best: Any = {}
    for each in _containers_in(value, set()):
        found = _tensors_of(each) if isinstance(each, Mapping) else each
        best = found if len(found) > len(best) else best
    return best


def _containers_in(value: Any, seen: set[int]) -> Iterator[Any]:
    if isinstance(value, list | tuple) and value and all(map(is_tensor, value)):
        yield list(value)
    if isinstance(value, Mapping) and id(value) not in seen and len(seen) < _MOST_CONTAINERS:
        seen.add(id(value))
        yield value
        for each in value.values():
            yield from _containers_in(each, seen)


def _tensors_of(mapping: Mapping[Any, Any]) -> dict[str, Any]:
    return {k: v for k, v in mapping.items() if isinstance(k, str) and is_tensor(v)}
