"""PyTorch networks as graphs, by way of ``torch.export`` in memory."""

from __future__ import annotations

import operator
import warnings
from typing import Any

import numpy as np
import torch
from torch.export.graph_signature import InputKind

from jaxsal.graph.program import Argument, Constant, Graph, Node, Parameter, Reference

_ELSEWHERE = (torch.device, torch.layout, torch.memory_format)
_KERNELS = ("conv1d", "conv2d", "conv3d", "convolution", "conv_transpose")


def exported(
    network: torch.nn.Module, image: torch.Tensor, decompositions: Any = (), **options: Any
) -> tuple[Graph, dict[str, np.ndarray]]:
    """The graph of a network for images of this shape, and its parameters as stored.

    Args:
        network: in evaluation mode.
        image: (B, C, X, Y, Z) or (B, C, X, Y).
        decompositions: of operations into others; None for PyTorch's core operations.
        **options: other fields of the graph.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(network, (image,), strict=False)
        table = {} if decompositions == () else decompositions
        program = program.run_decompositions(table)
    return _Reading(program).graph(image, options)


class _Reading:
    def __init__(self, program: Any) -> None:
        self.program = program
        self.names: dict[str, str] = {}  # of an fx node -> of the value
        self.parameters: list[Parameter] = []
        self.constants: list[Constant] = []
        self.arrays: dict[str, np.ndarray] = {}
        self.parts: dict[str, list[str]] = {}  # results of nodes that have several

    def graph(self, image: torch.Tensor, options: dict[str, Any]) -> tuple[Graph, Any]:
        nodes = []
        kernels = self._kernels()
        for spec in self.program.graph_signature.input_specs:
            if spec.kind is InputKind.USER_INPUT:
                given = spec.arg.name
            else:
                self._add_tensor(spec, spec.arg.name in kernels)
        for node in self.program.graph.nodes:
            if node.op == "call_function" and node.target is operator.getitem:
                self.names[node.name] = self.parts[node.args[0].name][node.args[1]]
            elif node.op == "call_function":
                nodes.append(self._node(node))
        (output,) = self.program.graph_signature.user_outputs
        rank = image.ndim - 2
        fields = {"size": tuple(image.shape[2:]), "divisor": (1,) * rank, "rank": rank, **options}
        logits = next(n for n in self.program.graph.nodes if n.name == output).meta["val"]
        graph = Graph(
            nodes=tuple(nodes),
            parameters=tuple(self.parameters),
            constants=tuple(self.constants),
            image=given,
            logits=self.names.get(output, output),
            channels_in=image.shape[1],
            channels_out=logits.shape[1],
            **fields,
        )
        return graph, self.arrays

    def _kernels(self) -> set[str]:
        """Names of the values that are kernels of convolutions."""
        nodes = [n for n in self.program.graph.nodes if n.op == "call_function"]
        return {n.args[1].name for n in nodes if any(k in str(n.target) for k in _KERNELS)}

    def _add_tensor(self, spec: Any, is_kernel: bool) -> None:
        name = spec.target
        tensors = {**self.program.state_dict, **self.program.constants}
        array = tensors[name].detach().numpy()
        if not np.issubdtype(array.dtype, np.floating):
            self.constants.append(Constant.of(spec.arg.name, array))
            return
        axes = (*range(2, array.ndim), 1, 0) if is_kernel else tuple(range(array.ndim))
        learnt = spec.kind is InputKind.PARAMETER
        self.arrays[name] = np.ascontiguousarray(array.transpose(axes))
        shape = self.arrays[name].shape
        self.parameters.append(Parameter(name, spec.arg.name, shape, axes, learnt))

    def _node(self, node: Any) -> Node:
        value = node.meta.get("val")
        results = [node.name]
        if isinstance(value, tuple | list):
            results = [f"{node.name}.{part}" for part in range(len(value))]
            self.parts[node.name] = results
        if isinstance(node.target, torch._ops.OpOverload):
            name = str(node.target)
            schema = [a.name for a in node.target._schema.arguments]
        else:
            name, schema = f"operator.{node.target.__name__}", ["a", "b"]
        given = [*zip(schema, node.args, strict=False), *node.kwargs.items()]
        arguments = [(k, self._argument(v)) for k, v in given if not isinstance(v, _ELSEWHERE)]
        modules = list((node.meta.get("nn_module_stack") or {"": ("", "")}).values())
        return Node(name, tuple(arguments), tuple(results), modules[-1][0])

    def _argument(self, value: Any) -> Argument:
        if isinstance(value, torch.fx.Node):
            return Reference(self.names.get(value.name, value.name))
        if isinstance(value, list | tuple):
            return tuple(map(self._argument, value))
        if isinstance(value, torch.dtype):
            return str(value).removeprefix("torch.")
        return value
