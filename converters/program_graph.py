"""An exported program as a graph of jaxsal's, with its parameters."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from jaxsal.errors import InputError
from jaxsal.graph.program import Argument, Constant, Graph, Node, Parameter, Reference
from jaxsal_converters.program_attention import with_attention
from jaxsal_converters.program_file import Program
from jaxsal_converters.program_nodes import changed_by, references_of, results_of, translate
from jaxsal_converters.program_outputs import chosen_output, image_sizes, outputs_of
from jaxsal_converters.program_refusals import refuse, refuse_unknown

_RANKS: dict[int, Literal[2, 3]] = {4: 2, 5: 3}  # axes of an image -> spatial ones
_HELD = {  # kind of input -> where its name in the archive stands
    "parameter": "parameter_name",
    "buffer": "buffer_name",
    "tensor_constant": "tensor_constant_name",
}
_SOFTMAX = {"aten.softmax.int", "aten._softmax.default", "aten.special_softmax.default"}
_KERNELS = {  # operations that take a kernel, and the argument that it is
    (f"aten.{operation}", "weight")
    for operation in (
        *(f"conv{rank}d.{overload}" for rank in (1, 2, 3) for overload in ("default", "padding")),
        *("conv_transpose1d.default", "conv_transpose2d.input", "conv_transpose3d.input"),
        *("convolution.default", "_convolution.default"),
    )
}


@dataclass(frozen=True)
class Translation:
    """A program as a graph.

    Attributes:
        graph: as far as the program itself describes it: see `jaxsal_converters.program_sizes` for
            its divisor and its batches.
        arrays: the parameters as they are stored, float32, by name.
        output: name of the output that is taken.
        others: names of the others.
        batch: number of examples that the program takes; None: any.
        last_step: the operation by which the program makes probabilities of its logits, which the
            graph leaves out; None if it returns logits.
        types: of the program's parameters, by name.
    """

    graph: Graph
    arrays: dict[str, np.ndarray]
    output: str
    others: tuple[str, ...]
    batch: int | None
    last_step: str | None
    types: frozenset[str]

    @property
    def probability(self) -> str:
        """How probabilities come of several logits, one of `jaxsal.preprocessing.PROBABILITIES`."""
        return "sigmoid" if self.last_step == "sigmoid" else "softmax"


def translated(
    program: Program, known: Collection[str], output: str | None = None, slice_axis: int = 2
) -> Translation:
    """A program as a graph.

    Args:
        program: as read.
        known: names of the operations that graphs can hold.
        output: name of the one to take, where there are several; None: the one of the image's size.
        slice_axis: of 2D networks, the axis of a volume along which its slices follow each other.

    Raises:
        InputError: the program holds something that cannot be explained, or that is not known.
    """
    nodes, tensors = program.graph["nodes"], program.graph["tensor_values"]
    outputs = outputs_of(program)
    image = _image(program, needed(nodes, outputs.values()))
    sizes = image_sizes(program, image)
    taken = chosen_output(program, outputs, image, output)
    own = needed(nodes, [outputs[taken]])
    refuse(program.name, own, tensors)
    refuse_unknown(program.name, own, known)
    held = _held(program)
    every, names = translate(nodes, [image, *held], outputs.values())
    logits, last_step = _before_probabilities(every, names[outputs[taken]])
    live = _live(with_attention(_live(every, logits)), logits)
    parameters, constants, arrays = _stored(program, held, live)
    graph = Graph(
        nodes=tuple(live),
        parameters=tuple(parameters),
        constants=tuple(constants),
        image=image,
        logits=logits,
        size=tuple(None if s.symbol else s.least for s in sizes[2:]),
        divisor=tuple(s.least for s in sizes[2:]),
        channels_in=sizes[1].least,
        channels_out=_channels(program, outputs[taken]),
        rank=_RANKS[len(sizes)],
        slice_axis=slice_axis,  # type: ignore[arg-type]
    )
    return Translation(
        graph,
        arrays,
        taken,
        tuple(name for name in outputs if name != taken),
        batch=None if sizes[0].symbol else sizes[0].least,
        last_step=last_step,
        types=frozenset(program.arrays[p.name].dtype.name for p in parameters),
    )


def _channels(program: Program, value: str) -> int:
    size = program.graph["tensor_values"][value]["sizes"][1]
    if "as_int" not in size:
        raise InputError(f"{program.name}: the number of logits per voxel must be fixed")
    return int(size["as_int"])


def needed(nodes: Sequence[Mapping[str, Any]], values: Iterable[str]) -> list[Mapping[str, Any]]:
    """PyTorch's nodes that these values depend on, those that change a tensor in place included."""
    wanted, found = set(values), []
    for node in reversed(nodes):
        changed = changed_by(node)
        if wanted & {*results_of(node)} or changed in wanted:
            wanted |= references_of(node)
            found.append(node)
    return found[::-1]


def _image(program: Program, nodes: Sequence[Mapping[str, Any]]) -> str:
    """The name of the one tensor that is given and used.

    Raises:
        InputError: there are none or several, or the network gets objects.
    """
    used = set().union(*map(references_of, nodes))
    given = []
    for spec in program.inputs:
        if "custom_obj" in spec or "token" in spec:
            raise InputError(
                f"{program.name}: the network holds an object that is no tensor, which only torch "
                "can run: write that part with tensors, and export again"
            )
        argument = spec.get("user_input", {}).get("arg", {})
        if "as_tensor" in argument and argument["as_tensor"]["name"] in used:
            given.append(argument["as_tensor"]["name"])
    if len(given) != 1:
        found = f"{len(given)} inputs, {', '.join(given)}" if given else "none that it uses"
        raise InputError(
            f"{program.name}: a network is explained with respect to one image, and this one takes "
            f"{found}: export a module that takes one tensor with all channels, and computes or "
            "holds the others"
        )
    return str(given[0])


def _held(program: Program) -> dict[str, tuple[str, bool]]:
    """Name in the archive, and whether it is learnt, of each value that the network holds."""
    held = {}
    for spec in program.inputs:
        for kind, key in _HELD.items():
            if kind in spec:
                learnt = kind == "parameter"
                held[str(spec[kind]["arg"]["name"])] = (str(spec[kind][key]), learnt)
    return held


def _live(nodes: Sequence[Node], logits: str) -> list[Node]:
    """The nodes that the logits depend on."""
    wanted, live = {logits}, []
    for node in reversed(nodes):
        if wanted & set(node.results):
            wanted |= {reference.name for _, value in node.arguments for reference in _all(value)}
            live.append(node)
    return live[::-1]


def _before_probabilities(nodes: Sequence[Node], output: str) -> tuple[str, str | None]:
    """What the last step makes probabilities of, and its name; the output itself without one."""
    made_by = {result: node for node in nodes for result in node.results}
    node = made_by.get(output)
    arguments = dict(node.arguments) if node else {}
    before = arguments.get("self")
    if node is None or not isinstance(before, Reference):
        return output, None
    if node.operation == "aten.sigmoid.default":
        return before.name, "sigmoid"
    if node.operation in _SOFTMAX and arguments.get("dim") == 1:
        return before.name, "softmax"
    return output, None


def _all(argument: Argument) -> Iterator[Reference]:
    if isinstance(argument, Reference):
        yield argument
    elif isinstance(argument, tuple):
        for entry in argument:
            yield from _all(entry)


def _stored(
    program: Program, held: Mapping[str, tuple[str, bool]], nodes: Sequence[Node]
) -> tuple[list[Parameter], list[Constant], dict[str, np.ndarray]]:
    """Parameters, constants, and the parameters' numbers, of those that the nodes use."""
    uses = _uses(nodes)
    parameters, constants, arrays = [], [], {}
    for value, (name, learnt) in held.items():
        if value not in uses:
            continue
        if name not in program.arrays:
            raise InputError(f"{program.name} is incomplete: it lacks the tensor {name}")
        array = program.arrays[name]
        if array.dtype.kind in "biu":
            constants.append(Constant.of(value, array))
            continue
        axes = _axes(array.ndim, uses[value])
        stored = np.ascontiguousarray(array.transpose(axes), np.float32).reshape(
            [array.shape[axis] for axis in axes]
        )
        parameters.append(Parameter(name, value, stored.shape, axes, learnt))
        arrays[name] = stored
    return parameters, constants, arrays


def _uses(nodes: Sequence[Node]) -> dict[str, set[tuple[str, str]]]:
    """How each value is used: operations, and the names of their arguments."""
    uses: dict[str, set[tuple[str, str]]] = {}
    for node in nodes:
        for name, argument in node.arguments:
            for reference in _all(argument):
                uses.setdefault(reference.name, set()).add((node.operation, name))
    return uses


def _axes(rank: int, uses: Collection[tuple[str, str]]) -> tuple[int, ...]:
    """In which order to store a tensor's axes: a kernel's as (kx, ky, kz, C, K)."""
    is_kernel = rank >= 3 and all(use in _KERNELS for use in uses)
    return (*range(2, rank), 1, 0) if is_kernel else tuple(range(rank))
