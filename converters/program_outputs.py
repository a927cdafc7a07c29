"""What a program is given and returns: the image's sizes, and which output is the logits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from jaxsal.errors import InputError
from jaxsal.store.parsing import parsed_json
from jaxsal_converters.checkpoint_file import shown
from jaxsal_converters.program_file import DTYPES, Program

_RANKS = (4, 5)  # axes of (B, C, X, Y) and (B, C, X, Y, Z)
_SYMBOL = r"Symbol\('(\w+)'[^)]*\)"
_EXPRESSION = re.compile(rf"(?:Mul\(Integer\((\d+)\), )?{_SYMBOL}\)?")


class Size(NamedTuple):
    """A size of a value: a number, or a multiple of a free number.

    Attributes:
        least: the size, or what it is a multiple of.
        symbol: name of the free number; None if the size is fixed.
    """

    least: int
    symbol: str | None


def image_sizes(program: Program, image: str) -> list[Size]:
    """The sizes of the image along its axes (B, C, X, Y, Z) or (B, C, X, Y).

    Raises:
        InputError: it has other axes, no floating-point numbers, no fixed number of channels, or
            sizes that depend on each other.
    """
    meta = program.graph["tensor_values"][image]
    found = meta["sizes"]
    if len(found) not in _RANKS:
        raise InputError(
            f"{program.name}: the image must have the axes (B, C, X, Y, Z), or (B, C, X, Y) for "
            f"slices; {image} has {len(found)} of the sizes {shape_text(meta)}"
        )
    kind = DTYPES.get(meta["dtype"], "")
    if "float" not in kind:
        raise InputError(
            f"{program.name}: the image must be of floating-point numbers to be differentiated; "
            f"{image} is of {kind or 'others'}: export with a float32 image"
        )
    sizes = [_size(program.name, size) for size in found]
    if sizes[1].symbol:
        raise InputError(f"{program.name}: the number of channels must be fixed, not dynamic")
    symbols = [size.symbol for size in sizes if size.symbol]
    if len(set(symbols)) < len(symbols):
        raise InputError(
            f"{program.name}: two axes of the image share one dynamic size, {shape_text(meta)}: "
            "give each a torch.export.Dim of its own"
        )
    return sizes


def _size(name: str, size: Mapping[str, Any]) -> Size:
    if "as_int" in size:
        return Size(int(size["as_int"]), None)
    expression = size["as_expr"]["expr_str"]
    found = _EXPRESSION.fullmatch(expression)
    if not found:
        raise InputError(
            f"{name}: a dynamic size must be a multiple of one torch.export.Dim, such as "
            f"8 * Dim('x'); got {expression}"
        )
    factor, symbol = found.groups()
    return Size(int(factor or 1), symbol)


def shape_text(meta: Mapping[str, Any]) -> str:
    """The sizes of a tensor in words, with an example's in place of free ones."""
    return " × ".join(str(example(size)) for size in meta["sizes"]) or "none"


def example(size: Mapping[str, Any]) -> int | str:
    """A size in the call that was exported; an expression if that is not known."""
    if "as_int" in size:
        return int(size["as_int"])
    hint = size["as_expr"].get("hint") or {}
    return int(hint["as_int"]) if "as_int" in hint else str(size["as_expr"]["expr_str"])


def outputs_of(program: Program) -> dict[str, str]:
    """Name of the value of each output that is a tensor, by the output's name.

    An output is named by its place in what the network returns: by keys of dictionaries and numbers
    in lists, such as "logits" or "1"; the only one is "0".
    """
    specs = [spec["user_output"]["arg"] for spec in program.outputs if "user_output" in spec]
    leaves = list(_leaves(program.structure, ()))
    if len(leaves) != len(specs):
        leaves = [(str(number),) for number in range(len(specs))]
    return {
        ".".join(leaf) or "0": str(spec["as_tensor"]["name"])
        for leaf, spec in zip(leaves, specs, strict=True)
        if "as_tensor" in spec
    }


def _leaves(structure: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The paths of all leaves of a structure as PyTorch's pytrees describe it."""
    if isinstance(structure, list):  # with the version of the description
        structure = structure[1]
    if not isinstance(structure, Mapping):
        return
    if structure["type"] is None:
        yield path
        return
    keys = _keys(structure)
    for number, child in enumerate(structure["children_spec"]):
        yield from _leaves(child, (*path, keys[number] if keys else str(number)))


def _keys(structure: Mapping[str, Any]) -> list[str] | None:
    if not str(structure["type"]).endswith("dict"):
        return None
    keys = parsed_json(structure["context"])
    keys = keys[-1] if keys and isinstance(keys[-1], list) else keys
    fits = isinstance(keys, list) and len(keys) == len(structure["children_spec"])
    return [str(key) for key in keys] if fits else None


def chosen_output(
    program: Program, outputs: Mapping[str, str], image: str, wanted: str | None
) -> str:
    """The name of the output that is the logits.

    Args:
        program: whose it is.
        outputs: value by name.
        image: name of the value that is given.
        wanted: name of the one to take; None: the only one of the image's resolution, as the others
            of deep supervision are coarser.

    Raises:
        InputError: there is no such output, none of the image's size, or several.
    """
    tensors = program.graph["tensor_values"]
    listed = ", ".join(
        f"{shown(name)} ({shape_text(tensors[value])})" for name, value in outputs.items()
    )
    size = [example(n) for n in tensors[image]["sizes"]]

    def fits(value: str) -> bool:
        found = [example(n) for n in tensors[value]["sizes"]]
        return len(found) == len(size) and found[2:] == size[2:]

    if wanted is not None and wanted not in outputs:
        raise InputError(f"{program.name} has no output {wanted!r}; its outputs are {listed}")
    fitting = [name for name, value in outputs.items() if fits(value)]
    if wanted in fitting:
        return wanted
    if wanted is not None or not fitting:
        which = f"output {wanted!r}" if wanted is not None else "no output"
        raise InputError(
            f"{program.name}: logits must have the axes (B, K, …) and the image's spatial sizes, "
            f"{shape_text(tensors[image])}, and {which} {'has not' if wanted else 'has them'}; its "
            f"outputs are {listed or 'none that are tensors'}"
        )
    if len(fitting) > 1:
        raise InputError(
            f"{program.name} has several outputs of the image's size: name one of them with "
            f"--output; its outputs are {listed}"
        )
    return fitting[0]
