"""Reading a network's entries from all that a training program saved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxsal.errors import InputError
from jaxsal_converters.checkpoint_file import read_checkpoint, some_of
from jaxsal_converters.saved_weights import Both, Entry, Weights, find_weights
from jaxsal_converters.state_dict import State, as_arrays, select_network

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
_KINDS = {"raw": "raw", "ema": "averaged (EMA)"}


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
        return _network(find_weights(checkpoint, pattern), pattern, weights, said)
    except InputError as error:
        passed_over = f" ({said[0]})" if said else ""
        raise InputError(f"{path}: {error}{passed_over}") from error


def _network(
    found: Both, pattern: str, weights: Weights | None, notes: list[str]
) -> tuple[State, list[str]]:
    chosen = _chosen(found, weights, notes)
    entries, _, outside = select_network(as_arrays(_by_key(chosen, found.raw)), pattern)
    if chosen is found.averaged and found.raw is not None:
        _fill(entries, found.raw, pattern, notes)
    return entries, outside


def _chosen(found: Both, weights: Weights | None, notes: list[str]) -> Entry:
    """The entry that is wanted; a note says what others there are."""
    entries: dict[str, Entry] = {}
    if found.raw:
        entries["raw"] = found.raw
    if found.averaged:
        entries["ema"] = found.averaged
    there = found.usual if found.usual in entries else next(iter(entries))
    kind = weights or there
    if kind not in entries:
        raise InputError(
            f"it has no {_KINDS[kind]} weights, only those in {entries[there].name}: leave "
            "--weights out"
        )
    for other in entries.keys() - {kind}:
        notes.append(
            f"weights: the {_KINDS[kind]} ones in {entries[kind].name}; --weights {other} takes "
            f"the {_KINDS[other]} ones in {entries[other].name}"
        )
    if list(entries) == ["ema"]:
        notes.append(f"weights: the averaged (EMA) ones in {entries['ema'].name}, the only ones")
    return entries[kind]


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
