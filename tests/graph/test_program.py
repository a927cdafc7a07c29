"""Graphs: as JSON and back, and what is refused."""

import json
import math
from copy import deepcopy

import numpy as np
import pytest

from jaxsal.errors import InputError
from jaxsal.graph.program import Constant, Graph, Node, Parameter, Reference

POSITIONS = np.array([[2, 0], [1, 70_000]])


def graph() -> Graph:
    image, weight = Reference("x"), Reference("w")
    kernel = Parameter("conv.weight", "w", (1, 1, 1, 2, 3), (2, 3, 4, 1, 0), learnt=True)
    arguments = (("input", image), ("weight", weight), ("bias", None), ("padding", (0, 0, 0)))
    return Graph(
        nodes=(
            Node("aten.conv3d.default", arguments, ("y",), "conv"),
            Node("aten.clamp.default", (("self", Reference("y")), ("min", -math.inf)), ("z",), ""),
        ),
        parameters=(kernel,),
        constants=(Constant.of("positions", POSITIONS),),
        image="x",
        logits="z",
        size=(None, 16, None),
        divisor=(1, 16, 2),
        channels_in=2,
        channels_out=3,
    )


def changed(*path: str | int, to: object) -> dict:
    record = deepcopy(graph().to_json())
    inner = record
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = to
    return record


def test_a_graph_comes_back_from_json_as_it_was() -> None:
    again = Graph.from_json(json.loads(json.dumps(graph().to_json(), allow_nan=False)))
    assert again == graph()
    assert hash(again) == hash(graph())


def test_constants_keep_every_bit() -> None:
    (constant,) = Graph.from_json(graph().to_json()).constants
    np.testing.assert_array_equal(constant.array, POSITIONS)
    assert constant.array.dtype == POSITIONS.dtype


def test_constants_are_no_floating_point_numbers() -> None:
    with pytest.raises(InputError, match=r"whole numbers or truth values, got float64"):
        Constant.of("half", np.array(0.5))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([], "a graph must be a mapping"),
        (changed("more", to=1), "unknown: more"),
        (changed("nodes", 0, to={"operation": "relu"}), "missing: arguments, module, results"),
        (changed("rank", to=4), "rank of a graph must be one of 2, 3, got 4"),
        (changed("channels_in", to=0), "channels_in of a graph must be whole, and at least 1"),
        (changed("size", to=[1, 2]), "one entry for each of 3 spatial axes"),
        (changed("divisor", to=[1, True, 2]), "divisor of a graph must be whole"),
        (changed("nodes", 0, "module", to=None), "module of a node must be a text"),
        (changed("nodes", 0, "arguments", "bias", to={"v": 1}), "bias, argument of aten.conv3d"),
        (changed("nodes", 0, "results", to=["z"]), "aten.clamp.default uses y before"),
        (changed("nodes", 1, "results", to=["y"]), "computes y a second time"),
        (changed("logits", to="u"), "nothing computes the logits, u"),
        (changed("parameters", 0, "value", to="x"), "values of different names"),
        (changed("parameters", 0, "axes", to=[0, 1, 2, 3, 3]), "axes of the parameter conv.weight"),
        (changed("constants", 0, "data", to="no"), "data of positions are damaged"),
        (changed("constants", 0, "shape", to=[3]), "must be 24 bytes"),
    ],
)
def test_what_is_no_graph_is_refused(record: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Graph.from_json(record)
