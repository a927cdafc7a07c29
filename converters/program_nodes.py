"""The nodes of an exported program as `jaxsal.graph.program` has them.

What changes a tensor in place becomes the operation that computes a new one: from there on its name
stands for the new value. That holds as long as no other view of the same numbers is still used.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from jaxsal.errors import InputError
from jaxsal.graph.program import Argument, Node, Reference
from jaxsal_converters.program_file import dtype_name

# Where a tensor lies, and in which order, makes no difference to what is computed.
_PLACEMENT = ("as_device", "as_layout", "as_memory_format")
_LITERALS = ("as_int", "as_bool", "as_string")
_LISTS = ("as_ints", "as_bools", "as_strings")
_NUMBERS = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}
# Results of these may share their numbers with the first argument.
_VIEWS = {
    *("_reshape_alias", "alias", "chunk", "contiguous", "detach", "diagonal", "dropout"),
    *("dropout1d", "dropout2d", "dropout3d", "expand", "expand_as", "feature_dropout"),
    *("flatten", "lift_fresh", "movedim", "narrow", "permute", "positive", "reshape"),
    *("reshape_as", "select", "slice", "split", "split_with_sizes", "squeeze", "swapaxes"),
    *("swapdims", "t", "tensor_split", "to", "transpose", "type_as", "unbind", "unflatten"),
    *("unfold", "unsafe_split", "unsqueeze", "view", "view_as"),
}
PLAIN = (
    "save exported.run_decompositions({}) in place of exported, which computes the same without "
    "changing tensors in place"
)


def operation_of(target: str) -> str:
    """The name that a graph has for an operation: "aten.conv3d.default", "operator.floordiv"."""
    return target.removeprefix("torch.ops.").replace("_operator.", "operator.", 1)


def module_of(node: Mapping[str, Any]) -> str:
    """Dotted path of the innermost PyTorch module that a node belongs to; "" for the root."""
    stack = (node.get("metadata") or {}).get("nn_module_stack", "")
    innermost = stack.rsplit(";", 1)[-1].split(",")
    return innermost[1] if len(innermost) > 1 else ""


def results_of(node: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of all values that a node computes, those of a list one after the other."""
    return tuple(_names(node["outputs"]))


def references_of(node: Mapping[str, Any]) -> set[str]:
    """Names of all values that a node uses."""
    return set(_names(entry["arg"] for entry in node["inputs"]))


def _names(arguments: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for argument in arguments:
        for reference in _flat(_value(argument)):
            if isinstance(reference, Reference):
                yield reference.name


def _flat(argument: Any) -> Iterator[Any]:
    if isinstance(argument, tuple):
        for entry in argument:
            yield from _flat(entry)
    else:
        yield argument


def arguments_of(node: Mapping[str, Any]) -> tuple[tuple[str, Argument], ...]:
    """A node's arguments by the names of the operation's schema, without those of placement.

    Raises:
        InputError: one is of a kind that no operation of a graph takes.
    """
    return tuple(
        (entry["name"], _value(entry["arg"]))
        for entry in node["inputs"]
        if entry["name"] != "pin_memory" and not {*_PLACEMENT} & {*entry["arg"]}
    )


def _value(argument: Mapping[str, Any]) -> Argument:
    """PyTorch's union of kinds, {kind: value}."""
    ((kind, value),) = argument.items()
    if kind in _LITERALS:
        return value
    if kind in _LISTS:
        return tuple(value)
    match kind:
        case "as_none":
            return None
        case "as_tensor":
            return Reference(value["name"])
        case "as_tensors":
            return tuple(Reference(each["name"]) for each in value)
        case "as_float":
            return _number(value)
        case "as_floats":
            return tuple(map(_number, value))
        case "as_optional_tensor" | "as_sym_int" | "as_sym_float" | "as_sym_bool":
            return _member(value)
        case "as_optional_tensors" | "as_sym_ints" | "as_sym_floats" | "as_sym_bools":
            return tuple(map(_member, value))
        case "as_scalar_type":
            return dtype_name("an argument", value)
        case "as_graph" | "as_operator" | "as_custom_obj" | "as_device" | "as_layout":
            return None  # `jaxsal_converters.program_refusals` has refused what uses them
        case "as_memory_format":
            return None
    raise InputError(f"an argument of the kind {kind} is none that a graph of jaxsal's takes")


def _member(value: Mapping[str, Any]) -> Argument:
    """An optional tensor, or a number that may be known only when the program runs."""
    if "as_name" in value:
        return Reference(value["as_name"])
    return _value(value)


def _number(value: float | str) -> float:
    return _NUMBERS[value] if isinstance(value, str) else float(value)


def translate(
    nodes: Sequence[Mapping[str, Any]], given: Iterable[str], outputs: Iterable[str]
) -> tuple[list[Node], dict[str, str]]:
    """A program's nodes without operations in place.

    Args:
        nodes: PyTorch's, in their order.
        given: names of the inputs, parameters and constants.
        outputs: names of the values that are returned.

    Returns:
        The nodes, and what each of the program's names stands for after the last of them.

    Raises:
        InputError: a tensor is changed in place whose numbers another view shows later on.
    """
    uses = _last_uses(nodes, outputs)
    tensors = _Tensors(given)
    translated = []
    for number, node in enumerate(nodes):
        operation, results = operation_of(node["target"]), results_of(node)
        plain = plain_operation(operation)
        arguments = tuple((n, tensors.current(value)) for n, value in arguments_of(node))
        if plain is None:
            tensors.computed(operation, results, _first(node))
        else:
            changed = _first(node)
            if changed is None or len(results) > 1:
                raise InputError(f"{operation} changes several tensors in place: {PLAIN}")
            others = [name for name in tensors.sharing(changed) if uses.get(name, -1) > number]
            if others:
                raise InputError(
                    f"{operation} in {_place(node)} changes {changed} in place, and "
                    f"{', '.join(sorted(others))} shows the same numbers later on: {PLAIN}"
                )
            tensors.changed(changed, results[0] if results else f"{changed}_changed_{number}")
            results = results or (f"{changed}_changed_{number}",)
        translated.append(Node(plain or operation, arguments, results, module_of(node)))
    return translated, tensors.names


def plain_operation(operation: str) -> str | None:
    """The operation that computes a new tensor in place of one that changes a tensor."""
    space, _, rest = operation.partition(".")
    name, _, overload = rest.partition(".")
    if space != "aten" or not name.endswith("_") or name.endswith("__"):
        return None
    return f"aten.{name[:-1]}.{overload}"


def plain_name(node: Mapping[str, Any]) -> str:
    """The name that a graph has for a node's operation, once it no longer works in place."""
    operation = operation_of(node["target"])
    return plain_operation(operation) or operation


def changed_by(node: Mapping[str, Any]) -> str | None:
    """The name of the tensor that a node changes in place; None if it changes none."""
    return _first(node) if plain_operation(operation_of(node["target"])) else None


def _place(node: Mapping[str, Any]) -> str:
    return module_of(node) or "the network itself"


def _first(node: Mapping[str, Any]) -> str | None:
    """The name of a node's first tensor."""
    for entry in node["inputs"][:1]:
        return next(_names([entry["arg"]]), None)
    return None


def _last_uses(nodes: Sequence[Mapping[str, Any]], outputs: Iterable[str]) -> dict[str, int]:
    uses: dict[str, int] = {}
    for number, node in enumerate(nodes):
        uses.update(dict.fromkeys(references_of(node), number))
    return uses | dict.fromkeys(outputs, len(nodes))


class _Tensors:
    """Which names are one tensor, which tensors may share numbers, and what each is by now.

    Args:
        given: names that are there before any node.
    """

    def __init__(self, given: Iterable[str]) -> None:
        self.names = {name: name for name in given}
        self._same: dict[str, set[str]] = {name: {name} for name in self.names}
        self._storage = {name: name for name in self.names}
        self._members: dict[str, set[str]] = defaultdict(set)
        for name in self.names:
            self._members[name].add(name)

    def current(self, argument: Argument) -> Argument:
        """An argument with the values that its names stand for now."""
        if isinstance(argument, tuple):
            return tuple(map(self.current, argument))
        if isinstance(argument, Reference):
            return Reference(self.names.get(argument.name, argument.name))
        return argument

    def computed(self, operation: str, results: Iterable[str], first: str | None) -> None:
        """New tensors, which are views of the first argument where the operation makes views."""
        parts = operation.split(".")
        viewed = parts[0] == "aten" and parts[1] in _VIEWS and first in self._storage
        for name in results:
            self.names[name], self._same[name] = name, {name}
            root = self._storage[first] if viewed and first is not None else name
            self._storage[name] = root
            self._members[root].add(name)

    def sharing(self, name: str) -> set[str]:
        """Names of other tensors that may share numbers with this one."""
        return self._members[self._storage[name]] - self._same[name]

    def changed(self, name: str, result: str) -> None:
        """All names of the tensor stand for the result from now on."""
        same = self._same[name]
        same.add(result)
        self._same[result], self._storage[result] = same, self._storage[name]
        self._members[self._storage[name]].add(result)
        self.names.update(dict.fromkeys(same, result))
