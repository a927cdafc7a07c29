"""A network's entries among all that a training program saved, and averaged ones beside them.

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
from pathlib import Path
from typing import Any, Literal, NamedTuple

from jaxsal.errors import InputError
from jaxsal_converters.checkpoint_file import SAVE_PLAIN, read_checkpoint
from jaxsal_converters.inert_pickle import Skipped
from jaxsal_converters.state_dict import (
    State,
    as_arrays,
    is_tensor,
    prefixes_of,
    select_network,
    some_of,
)

Weights = Literal["raw", "ema"]

# Where training programs put the state dict among other things.
_WRAPPERS = (
    *("state_dict", "model_state_dict", "network_weights", "model", "net", "checkpoint"),
    "params",
)
_EMA = re.compile(
    r"(?:^|[^a-z])ema(?:$|[^a-z])|(?-i:(?<![A-Z])EMA)|exponentialmovingaverage", re.IGNORECASE
)
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
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


def read_network(
    path: str | Path,
    pattern: str,
    weights: Weights | None = None,
    notes: list[str] | None = None,
) -> tuple[State, list[str]]:
    """A network's entries as float32 arrays, without the prefix that they have in common.

    Args:
        path: of a PyTorch checkpoint.
        pattern: regular expression for the beginning of every key of the bare network.
        weights: which ones, where there are raw and averaged ones; None: the usual ones, those
            that the program which saved them reads.
        notes: takes a sentence for all that one has to know of what was taken.

    Returns:
        The network's entries, and the other keys beside them.

    Raises:
        InputError: the file is missing, no PyTorch checkpoint, or truncated, or holds no state
            dict, another network or not the weights that are wanted; or torch is not installed.
    """
    said: list[str] = [] if notes is None else notes
    checkpoint = read_checkpoint(path, said)
    try:
        return _network(_both(checkpoint, pattern), pattern, weights, said)
    except InputError as error:
        passed_over = f" ({said[-1]})" if said else ""
        raise InputError(f"{path}: {error}{passed_over}") from error


def _network(
    found: Both, pattern: str, weights: Weights | None, notes: list[str]
) -> tuple[State, list[str]]:
    usual = found.raw if found.usual == "raw" and found.raw else found.averaged or found.raw
    chosen = {"raw": found.raw, "ema": found.averaged, None: usual}[weights]
    if chosen is None:
        there = found.raw or found.averaged
        assert there is not None  # or there would have been an error before
        kind = "raw" if weights == "raw" else "averaged (EMA)"
        raise InputError(
            f"it has no {kind} weights, only those in {there.name}: leave --weights out"
        )
    other = found.raw if chosen is found.averaged else found.averaged
    if other is not None:
        notes.append(_choice(chosen, other, found))
    entries, _, outside = select_network(as_arrays(_by_key(chosen, found.raw)), pattern)
    if chosen is found.averaged and found.raw is not None:
        _fill(entries, found.raw, pattern, notes)
    return entries, outside


def _choice(chosen: Entry, other: Entry, found: Both) -> str:
    kinds = ("averaged (EMA)", "raw") if chosen is found.averaged else ("raw", "averaged (EMA)")
    option = "raw" if other is found.raw else "ema"
    return (
        f"weights: the {kinds[0]} ones in {chosen.name}; --weights {option} takes the {kinds[1]} "
        f"ones in {other.name}"
    )


def _by_key(entry: Entry, raw: Entry | None) -> Mapping[str, Any]:
    """Tensors by key; those in order are named as the raw ones, without or with buffers."""
    if isinstance(entry.tensors, Mapping):
        return entry.tensors
    raw_tensors = raw.tensors if raw and isinstance(raw.tensors, Mapping) else {}
    parameters = {k: v for k, v in raw_tensors.items() if not k.endswith(_BUFFERS)}
    for named in (parameters, raw_tensors):
        shapes = [tuple(tensor.shape) for tensor in named.values()]
        if shapes == [tuple(tensor.shape) for tensor in entry.tensors]:
            return dict(zip(named, entry.tensors, strict=True))
    raise InputError(
        f"the {len(entry.tensors)} tensors in {entry.name} have no names, and are not in number "
        "and shapes the raw ones"
    )


def _fill(entries: State, raw: Entry, pattern: str, notes: list[str]) -> None:
    """Adds what programs do not average, which are running statistics as a rule."""
    inside, _, _ = select_network(as_arrays(_by_key(raw, raw)), pattern)
    missing = [key for key in inside if key not in entries]
    if missing:
        entries.update({key: inside[key] for key in missing})
        notes.append(f"not averaged, so as in {raw.name}: {some_of(missing)}")


def _both(checkpoint: Any, pattern: str) -> Both:
    """The raw and the averaged weights that a checkpoint holds."""
    if not isinstance(checkpoint, Mapping):
        kind = checkpoint.name if isinstance(checkpoint, Skipped) else type(checkpoint).__name__
        raise InputError(f"it holds a {kind} instead of a state dict; {SAVE_PLAIN}")
    for marks, raw_name in _EXCHANGED:
        if raw_name in checkpoint and "state_dict" in checkpoint and marks(checkpoint):
            usual = Entry("state_dict", _tensors_in(checkpoint["state_dict"]))
            return Both(Entry(raw_name, _tensors_in(checkpoint[raw_name])), usual, usual="ema")
    averaged = _averaged_in(checkpoint)
    rest = {k: v for k, v in checkpoint.items() if not _is_averaged(k)}
    if averaged is not None and not any(_tensors_in(value) for value in (rest, *rest.values())):
        return Both(None, averaged)
    raw = _raw_in(rest, "the state dict")
    return Both(raw, averaged) if averaged else _by_prefix(raw, pattern)


def _is_openmmlab(checkpoint: Mapping[Any, Any]) -> bool:
    meta = checkpoint.get("meta")
    return isinstance(meta, Mapping) and "mmengine_version" in meta


# Programs that exchange raw and averaged weights as they save: how they are known, and the entry
# where the raw ones are then.
_EXCHANGED = (
    (lambda checkpoint: "averaging_state" in checkpoint, "current_model_state"),
    (_is_openmmlab, "ema_state_dict"),
)


def _raw_in(checkpoint: Mapping[Any, Any], name: str, depth: int = 0) -> Entry:
    """The tensors of a checkpoint, at its top level or in one of its entries."""
    inner = {k: v for k, v in checkpoint.items() if isinstance(v, Mapping)}
    named = [k for k in _WRAPPERS if k in inner]
    holding = named or [k for k, v in inner.items() if _holds_tensors(v)]
    if len(holding) > 1 and not named:
        raise InputError(f"it holds several state dicts: {some_of(inner)}; {SAVE_PLAIN}")
    if holding and depth < _MOST_DEEP:
        return _raw_in(inner[holding[0]], str(holding[0]), depth + 1)
    if not _holds_tensors(checkpoint):
        raise InputError(f"it holds no tensors, only {some_of(checkpoint)}; {SAVE_PLAIN}")
    return Entry(name, _tensors_of(checkpoint))


def _averaged_in(checkpoint: Mapping[Any, Any]) -> Entry | None:
    """The averaged weights of a checkpoint, in an entry of their own or a callback's."""
    callbacks = checkpoint.get("callbacks")
    places = [checkpoint, callbacks if isinstance(callbacks, Mapping) else {}]
    for place in places:
        for name, value in place.items():
            if _is_averaged(name) and (tensors := _tensors_in(value)):
                return Entry(str(name), tensors)
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
    return Both(Entry(f"{plain or '.'}*", beside), Entry(f"{averaged[0]}*", inside))


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


def _holds_tensors(mapping: Mapping[Any, Any]) -> bool:
    return bool(_tensors_of(mapping))
