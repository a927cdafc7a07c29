"""Programs as graphs: what is kept of them, and what is refused, with the reason and a way out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.programs import changed_program, save_program
from torch import nn

from jaxsal.errors import InputError
from jaxsal.graph.evaluation import evaluate
from jaxsal.graph.operations import OPERATIONS
from jaxsal.graph.operations.attention import WRITTEN_OUT
from jaxsal.graph.values import Value
from jaxsal.nets.tracing import as_traced
from jaxsal_converters.program_file import read_program
from jaxsal_converters.program_graph import Translation, translated


class Calls(nn.Module):
    """A module that computes what a function does, and may hold layers."""

    def __init__(self, function: Callable[..., Any], **held: Any) -> None:
        super().__init__()
        self.function = function
        for name, value in held.items():
            setattr(self, name, value)

    def forward(self, *images: torch.Tensor) -> Any:
        return self.function(self, *images)


def graph_of(path: Path, output: str | None = None) -> Translation:
    return translated(read_program(path), OPERATIONS, output)


def saved(tmp_path: Path, function: Callable[..., Any], *examples: Any, **held: Any) -> Path:
    return save_program(Calls(function, **held), tmp_path / "network.pt2", *examples)


def test_kernels_are_stored_channels_last_and_other_uses_as_they_are(tmp_path: Path) -> None:
    conv, shared = nn.Conv3d(2, 3, (1, 3, 5), padding="same"), nn.Conv3d(3, 3, 1)

    def function(self: Any, x: torch.Tensor) -> torch.Tensor:
        return self.shared(self.conv(x)) * self.shared.weight.mean()

    found = graph_of(saved(tmp_path, function, conv=conv, shared=shared))
    parameters = {parameter.name: parameter for parameter in found.graph.parameters}
    assert parameters["conv.weight"].shape == (1, 3, 5, 2, 3)
    assert parameters["conv.weight"].axes == (2, 3, 4, 1, 0)
    assert parameters["shared.weight"].shape == (3, 3, 1, 1, 1)
    expected = conv.weight.detach().numpy().transpose(2, 3, 4, 1, 0)
    np.testing.assert_array_equal(found.arrays["conv.weight"], expected)


def test_statistics_are_not_learnt_and_counters_are_left_out(tmp_path: Path) -> None:
    found = graph_of(saved(tmp_path, lambda self, x: self.norm(x), norm=nn.BatchNorm3d(2)))
    assert {p.name: p.learnt for p in found.graph.parameters} == {
        **{"norm.weight": True, "norm.bias": True},
        **{"norm.running_mean": False, "norm.running_var": False},
    }


def test_whole_numbers_are_constants_of_the_graph(tmp_path: Path) -> None:
    order = nn.Buffer(torch.tensor([1, 0]))
    found = graph_of(saved(tmp_path, lambda self, x: x[:, self.order], order=order))
    assert found.graph.parameters == ()
    assert [constant.array.tolist() for constant in found.graph.constants] == [[1, 0]]


def test_nodes_have_their_modules_paths(tmp_path: Path) -> None:
    inner = nn.Sequential(nn.Conv3d(2, 2, 1), nn.ReLU())
    found = graph_of(saved(tmp_path, lambda self, x: self.inner(x) + 1, inner=inner))
    assert [(node.operation, node.module) for node in found.graph.nodes] == [
        ("aten.conv3d.default", "inner.0"),
        ("aten.relu.default", "inner.1"),
        ("aten.add.Tensor", ""),
    ]


def test_what_no_logit_depends_on_is_left_out(tmp_path: Path) -> None:
    def function(self: Any, x: torch.Tensor) -> Any:
        return {"logits": x + 1, "features": torch.fft.fftn(self.pool(self.conv(x)))}

    held = {"pool": nn.AvgPool3d(2), "conv": nn.Conv3d(2, 2, 1)}
    found = graph_of(saved(tmp_path, function, **held))
    assert (found.output, found.others) == ("logits", ("features",))
    assert len(found.graph.nodes) == 1
    assert found.arrays == {}


def attended(self: Any, x: torch.Tensor) -> torch.Tensor:
    """Four windows of 64 positions and two heads; scores are viewed as Swin's are."""
    tokens = x.permute(0, 4, 2, 3, 1).reshape(-1, 64, 2, 2).transpose(1, 2)
    scores = (tokens * self.scale) @ tokens.transpose(-2, -1) / 2
    scores = scores + self.bias.unsqueeze(0)
    scores = scores.view(x.shape[0], -1, 2, 64, 64) + self.mask.unsqueeze(1)
    weights = self.drop(scores.view(-1, 2, 64, 64).softmax(-1))
    return (weights @ tokens).transpose(1, 2).reshape(-1, 4, 8, 8, 4).permute(0, 4, 2, 3, 1)


def grown(self: Any, x: torch.Tensor) -> torch.Tensor:
    """What is added has more heads than the scores."""
    tokens = x.flatten(2)[0].T
    weights = (tokens @ tokens.T + self.bias).softmax(-1)
    return (weights @ tokens).mean(0).T.reshape(x.shape)


def of_vectors(self: Any, x: torch.Tensor) -> torch.Tensor:
    """One query, which has no axis of positions."""
    tokens = x.flatten(2)[0].T
    return x * ((tokens[0] @ tokens.T).softmax(-1) @ tokens).reshape(1, -1, 1, 1, 1)


@pytest.mark.parametrize("function", [attended, grown, of_vectors])
def test_attention_that_is_written_out_becomes_one_operation(
    tmp_path: Path, function: Callable[..., Any]
) -> None:
    shapes = {attended: ((2, 64, 64), (4, 64, 64)), grown: ((2, 256, 256), (1,))}
    bias, mask = (nn.Parameter(torch.randn(n)) for n in shapes.get(function, ((1,), (1,))))
    module = Calls(function, bias=bias, mask=mask, scale=0.3, drop=nn.Dropout(0.1))
    image = torch.randn(1, 4, 8, 8, 4)
    found = graph_of(save_program(module, tmp_path / "network.pt2", image))
    operations = [node.operation for node in found.graph.nodes]
    assert operations.count(WRITTEN_OUT) == 1
    assert not {"aten.softmax.int", "aten.matmul.default"} & set(operations)

    def logits(x: Any) -> Any:
        return evaluate(found.graph, found.arrays, Value.of(x)).plain

    expected = module.eval()(image).detach().numpy()
    for computed in (logits(image.numpy()), traced(logits)(image.numpy())):
        np.testing.assert_allclose(computed, expected, rtol=1e-4, atol=1e-5)


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    """In the form without loops, which a GPU has."""

    def call(*arguments: Any) -> Any:
        with as_traced():
            return function(*arguments)

    return call


def test_scores_that_are_used_again_are_no_attention_of_one_operation(tmp_path: Path) -> None:
    def function(self: Any, x: torch.Tensor) -> torch.Tensor:
        weights = (x @ x.transpose(-2, -1)).softmax(-1)
        return weights @ x + weights.mean()

    found = graph_of(saved(tmp_path, function))
    assert WRITTEN_OUT not in [node.operation for node in found.graph.nodes]


def test_of_several_outputs_of_the_images_size_one_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path, lambda self, x: {"a": [x + 1, x + 2], "b": x[:, :1]})
    listed = r"a\.0 \(1 × 2 × 4 × 4 × 4\), a\.1 \(.*\), b \(1 × 1 × 4 × 4 × 4\)"
    with pytest.raises(InputError, match=rf"--output; its outputs are {listed}"):
        graph_of(path)
    with pytest.raises(InputError, match=rf"no output 'c'; its outputs are {listed}"):
        graph_of(path, "c")
    assert graph_of(path, "b").graph.channels_out == 1


def test_logits_on_another_grid_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, lambda self, x: (x[..., ::2], x.mean()))
    with pytest.raises(InputError, match=r"no output has them.*0 \(1 × 2 × 4 × 4 × 2\)"):
        graph_of(path)
    with pytest.raises(InputError, match="output '0' has not"):
        graph_of(path, "0")


@pytest.mark.parametrize(
    ("last", "step"),
    [(nn.Softmax(1), "softmax"), (nn.Sigmoid(), "sigmoid"), (nn.Softmax(2), None)],
)
def test_the_step_to_probabilities_is_left_to_jaxsal(
    tmp_path: Path, last: nn.Module, step: str | None
) -> None:
    found = graph_of(saved(tmp_path, lambda self, x: self.last(x + 1), last=last))
    assert (found.last_step, len(found.graph.nodes)) == (step, 1 if step else 2)


def test_free_sizes_are_multiples_of_their_dims(tmp_path: Path) -> None:
    free = {0: torch.export.Dim("b"), 2: 4 * torch.export.Dim("x"), 3: torch.export.Dim("y")}
    path = save_program(
        Calls(lambda self, x: x * x.shape[3]),
        tmp_path / "a.pt2",
        torch.randn(2, 2, 8, 8, 8),
        dynamic_shapes={"images": (free,)},
    )
    found = graph_of(path)
    assert (found.graph.size, found.graph.divisor) == ((None, None, 8), (4, 1, 8))
    assert found.batch is None


def test_axes_that_share_a_free_size_are_refused(tmp_path: Path) -> None:
    x = torch.export.Dim("x")
    path = save_program(
        Calls(lambda self, x: x + 1),
        tmp_path / "a.pt2",
        dynamic_shapes={"images": ({2: x, 3: x},)},
    )
    with pytest.raises(
        InputError, match=r"share one dynamic size.*a torch\.export\.Dim of its own"
    ):
        graph_of(path)


@pytest.mark.parametrize("overload", ["add", "relu", "fill"])
def test_operations_in_place_compute_a_new_value(tmp_path: Path, overload: str) -> None:
    def function(self: Any, x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        z = {"add": y.add_(x), "relu": y.relu_(), "fill": y.fill_(3)}[overload]
        return y + z  # both names stand for the changed tensor

    path = save_program(Calls(function), tmp_path / "a.pt2", plain=False)
    assert any(node["target"].endswith("_.Tensor") for node in read_program(path).graph["nodes"])
    nodes = graph_of(path).graph.nodes
    assert not any("_." in node.operation for node in nodes)
    last = dict(nodes[-1].arguments)
    assert last["self"] == last["other"]


def test_a_view_that_is_changed_and_seen_later_is_refused(tmp_path: Path) -> None:
    def function(self: Any, x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        y[:, 0].fill_(1)
        return y

    path = save_program(Calls(function), tmp_path / "a.pt2", plain=False)
    with pytest.raises(InputError, match=r"same numbers later on: .*run_decompositions\(\{\}\)"):
        graph_of(path)
    plain = save_program(Calls(function), tmp_path / "b.pt2")
    assert graph_of(plain).graph.nodes


def test_a_view_that_is_changed_and_not_seen_later_is_no_matter(tmp_path: Path) -> None:
    def function(self: Any, x: torch.Tensor) -> torch.Tensor:
        return (x * 2).flatten(2).relu_().view(x.shape)

    path = save_program(Calls(function), tmp_path / "a.pt2", plain=False)
    assert [node.operation.split(".")[1] for node in graph_of(path).graph.nodes] == [
        *("mul", "flatten", "relu", "view")
    ]


@torch.library.custom_op("jaxsal_tests::halved", mutates_args=())
def halved(x: torch.Tensor) -> torch.Tensor:
    return x / 2


@halved.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


def repeated(self: Any, x: torch.Tensor) -> torch.Tensor:
    return torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (x,))


def apart(self: Any, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        scale = x.amax()
    return x / scale


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (repeated, r"decides or repeats by what it computes.*cond"),
        (apart, r"computes a part apart \(no_grad"),
        (lambda self, x: halved(x), r"operations of its own.*jaxsal_tests\.halved"),
        (lambda self, x: torch.fft.fftn(x).real, r"complex numbers.*fft"),
        (lambda self, x: x + torch.randn_like(x), r"draws random numbers.*randn_like"),
        (lambda self, x: x * x.argmax().item(), r"depends on numbers that it computed.*item"),
        (lambda self, x: torch.special.airy_ai(x) + x.lgamma(), r"2 of the network's operations"),
    ],
    ids=["cond", "no_grad", "custom", "complex", "random", "item", "unknown"],
)
def test_what_cannot_be_explained_is_named(
    tmp_path: Path, function: Callable[..., Any], reason: str
) -> None:
    path = save_program(Calls(function), tmp_path / "network.pt2", plain=False)
    with pytest.raises(InputError, match=reason) as raised:
        graph_of(path)
    assert str(path) in str(raised.value)


def test_unknown_operations_are_listed_with_their_modules(tmp_path: Path) -> None:
    inner = nn.Sequential(Calls(lambda self, x: x.lgamma()), Calls(lambda self, x: x.digamma()))
    path = saved(tmp_path, lambda self, x: self.inner(x), inner=inner)
    listed = r"aten\.lgamma\.default in inner\.0; aten\.digamma\.default in inner\.1"
    with pytest.raises(InputError, match=rf"2 of the network's operations are not known.*{listed}"):
        graph_of(path)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Dropout(0.5),
        nn.BatchNorm3d(2),
        nn.Dropout3d(0.5),
        nn.InstanceNorm3d(2, track_running_stats=True),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_training_mode_is_refused(tmp_path: Path, layer: nn.Module) -> None:
    path = save_program(nn.Sequential(layer), tmp_path / "a.pt2", plain=False, training=True)
    with pytest.raises(InputError, match=r"in training mode.*network\.eval\(\)"):
        graph_of(path)


def test_quantised_operations_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, lambda self, x: x.relu())

    def quantise(document: Any) -> None:
        (node,) = document["graph_module"]["graph"]["nodes"]
        node["target"] = "torch.ops.quantized_decomposed.quantize_per_tensor.default"

    with pytest.raises(InputError, match="quantised"):
        graph_of(changed_program(path, {"models/model.json": quantise}))


@pytest.mark.parametrize(
    ("examples", "reason"),
    [
        ((torch.randn(1, 2, 4),), r"must have the axes \(B, C, X, Y, Z\).*has 3 of the sizes"),
        ((torch.randn(1, 2, 4, 4, 4).long(),), "must be of floating-point numbers"),
        ((torch.randn(1, 2, 4, 4, 4), torch.randn(1, 2, 4, 4, 4)), "takes 2 inputs"),
    ],
    ids=["rank", "whole numbers", "two images"],
)
def test_images_of_another_kind_are_refused(
    tmp_path: Path, examples: tuple[torch.Tensor, ...], reason: str
) -> None:
    path = saved(tmp_path, lambda self, *images: sum(images) * 2, *examples)
    with pytest.raises(InputError, match=reason):
        graph_of(path)


def test_slices_are_taken(tmp_path: Path) -> None:
    path = saved(tmp_path, lambda self, x: x + 1, torch.randn(1, 2, 4, 6))
    graph = translated(read_program(path), OPERATIONS, slice_axis=0).graph
    assert (graph.rank, graph.size, graph.slice_axis) == (2, (4, 6), 0)
