"""Attention that a program writes out: softmax between two matrix products, as one operation.

Networks such as MONAI's SwinUNETR compute ``softmax(query key + bias + mask) value`` step by step,
with views between, as the mask belongs to windows and the scores to all windows of a batch. As one
operation it is computed head by head on a CPU, where scores of all heads fill memory several times.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxsal.graph.operations.attention import WRITTEN_OUT
from jaxsal.graph.program import Argument, Node, Reference, references

_PRODUCTS = {"aten.matmul.default", "aten.bmm.default"}
_SAME = {"aten.clone.default", "aten.alias.default", "aten.contiguous.default"}
_SAME |= {"aten.dropout.default"}
_VIEWS = {"aten.view.default": "size", "aten._unsafe_view.default": "size"}
_VIEWS |= {"aten.reshape.default": "shape"}
_FACTORS = {"aten.mul.Tensor": "times", "aten.mul.Scalar": "times", "aten.div.Tensor": "over"}
_FACTORS |= {"aten.div.Scalar": "over"}
_SOFTMAX = {"aten.softmax.int", "aten._softmax.default", "aten.special_softmax.default"}


class _Scores(NamedTuple):
    """How scores come about.

    Attributes:
        product: of query and key.
        added: what is added, one after the other.
        shapes: of the view before each, and of the last; () for none.
        scale: of the product.
    """

    product: Node
    added: tuple[Reference, ...]
    shapes: tuple[Argument, ...]
    scale: float = 1.0


def with_attention(nodes: Sequence[Node]) -> list[Node]:
    """The same nodes, but the second product of each attention computes all of it from its inputs.

    What led there stays among them, though nothing uses it any more.

    Args:
        nodes: those that the logits depend on.
    """
    made_by = {result: node for node in nodes for result in node.results}
    users = Counter(
        name for node in nodes for _, each in node.arguments for name in references(each)
    )
    graph = _Graph(made_by, users)
    return [graph.attention(node) or node for node in nodes]


class _Graph(NamedTuple):
    """Nodes by the values that they compute, and how often each value is used."""

    made_by: Mapping[str, Node]
    users: Mapping[str, int]

    def attention(self, node: Node) -> Node | None:
        """What computes the same from query, key and value; None if it is no attention."""
        if node.operation not in _PRODUCTS:
            return None
        (_, weights), (_, value) = node.arguments
        softmax = self._origin(weights)
        if softmax is None or softmax.operation not in _SOFTMAX:
            return None
        own = dict(softmax.arguments)
        if own["dim"] != -1 or own.get("dtype") is not None or own.get("half_to_float"):
            return None
        scores = self._scores(own["self"], ())
        if scores is None:
            return None
        (_, query), (_, key) = scores.product.arguments
        arguments = (
            *(("query", query), ("key", key), ("value", value)),
            *(("added", scores.added), ("shapes", scores.shapes), ("scale", scores.scale)),
        )
        return Node(WRITTEN_OUT, arguments, node.results, node.module)

    def _scores(self, value: Argument, shape: Argument) -> _Scores | None:
        """How the scores of this name come about, which are then viewed in the shape."""
        node = self._origin(value)
        if node is None:
            return None
        arguments = dict(node.arguments)
        if node.operation in _PRODUCTS:
            return _Scores(node, (), (shape,))
        if node.operation in _VIEWS:
            return self._scores(arguments["self"], shape or arguments[_VIEWS[node.operation]])
        if node.operation == "aten.add.Tensor" and arguments.get("alpha", 1) == 1:
            for one, other in (("self", "other"), ("other", "self")):
                before = self._scores(arguments[one], ())
                added = arguments[other]
                if before is not None and isinstance(added, Reference):
                    added_to = ((*before.added, added), (*before.shapes, shape))
                    return _Scores(before.product, *added_to, before.scale)
        if node.operation in _FACTORS:
            before, factor = self._scores(arguments["self"], shape), arguments["other"]
            if before is not None and not before.added and isinstance(factor, int | float):
                scale = factor if _FACTORS[node.operation] == "times" else 1 / factor
                return before._replace(scale=before.scale * scale)
        return None

    def _origin(self, value: Argument) -> Node | None:
        """The node that computes a value, which nothing else uses, apart from copying it."""
        if not isinstance(value, Reference) or self.users[value.name] > 1:
            return None
        node = self.made_by.get(value.name)
        if node is not None and node.operation in _SAME:
            return self._origin(dict(node.arguments)["self"])
        return node
