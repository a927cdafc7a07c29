"""Convolutions with groups and dilation equal PyTorch's in float64, and XLA's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxsal.nets.general_convolution import general_convolution, transposed_general_convolution
from jaxsal.nets.tracing import as_traced

pytestmark = pytest.mark.usefixtures("xla_convolutions")  # in groups of several channels

# size, kernel, stride, padding, dilation; 5³ taps are gone through plane by plane
CASES: dict[str, tuple[Any, ...]] = {
    "3³": ((5, 6, 4), (3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1)),
    "5³": ((6, 5, 7), (5, 5, 5), (1, 1, 1), (2, 2, 2), (1, 1, 1)),
    "5³, stride 2": ((6, 7, 8), (5, 5, 5), (2, 2, 2), (2, 2, 2), (1, 1, 1)),
    "settings per axis": ((7, 8, 9), (2, 1, 3), (3, 2, 1), (0, 1, 2), (1, 1, 2)),
    "kernel below its stride": ((7, 6, 8), (1, 2, 1), (2, 3, 2), (0, 0, 0), (1, 1, 1)),
    "dilated plane by plane": ((11, 9, 5), (5, 4, 4), (2, 1, 1), (3, 2, 4), (2, 2, 1)),
}
GROUPS = {"depthwise": (3, 3), "two kernels per channel": (3, 6), "groups of two": (6, 3)}
EACH = [
    *((name, "depthwise") for name in CASES),
    ("settings per axis", "two kernels per channel"),
    ("settings per axis", "groups of two"),
]
TOLERANCE = 1e-12  # of the peak: float64, sums of some hundred terms in another order


def normal(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def to_torch(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.moveaxis(array, -1, 1).copy()).requires_grad_(True)


def from_torch(tensor: torch.Tensor) -> np.ndarray:
    return np.moveaxis(tensor.detach().numpy(), 1, -1)


def derivatives(
    function: Callable[..., jax.Array], x: Any, kernel: Any, along: Any
) -> tuple[jax.Array, ...]:
    """The value, both gradients of its squares' sum, and how those change along a direction."""

    def gradients(x: Any, kernel: Any) -> Any:
        return jax.grad(lambda *given: jnp.sum(function(*given) ** 2), (0, 1))(x, kernel)

    first, second = jax.jvp(gradients, (x, kernel), along)
    return function(x, kernel), *first, *second


def derivatives_by_torch(
    function: Callable[..., torch.Tensor], x: np.ndarray, kernel: np.ndarray, along: Any
) -> tuple[np.ndarray, ...]:
    """The same by autograd, kernels (kx, ky, kz, inputs, outputs)."""
    tensors = to_torch(x), torch.from_numpy(kernel.transpose(4, 3, 0, 1, 2).copy())
    tensors[1].requires_grad_(True)
    y = function(*tensors)
    first = torch.autograd.grad(y.square().sum(), tensors, create_graph=True)
    directions = to_torch(along[0]), torch.from_numpy(along[1].transpose(4, 3, 0, 1, 2).copy())
    change = sum((a * b.detach()).sum() for a, b in zip(first, directions, strict=True))
    second = torch.autograd.grad(change, tensors)
    images = [from_torch(tensor) for tensor in (y, first[0], second[0])]
    kernels = [each.detach().numpy().transpose(2, 3, 4, 1, 0) for each in (first[1], second[1])]
    return images[0], images[1], kernels[0], images[2], kernels[1]


def check(found: Any, expected: Any) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE * np.abs(theirs).max())


def tensors(case: tuple[Any, ...], groups: str) -> tuple[Any, ...]:
    """x, kernel, directions of both, settings."""
    size, kernel_size, stride, padding, dilation = case
    channels, outputs = GROUPS[groups]
    x, kernel = (2, *size, channels), (*kernel_size, channels // 3, outputs)
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": 3}
    return normal(0, x), normal(1, kernel), (normal(2, x), normal(3, kernel)), settings


@pytest.mark.parametrize(("name", "groups"), EACH)
def test_convolutions_have_pytorchs_values_and_derivatives(name: str, groups: str) -> None:
    x, kernel, along, settings = tensors(CASES[name], groups)
    with jax.enable_x64(True):
        ours = jax.jit(partial(derivatives, partial(general_convolution, **settings)))
        found = ours(x, kernel, along)
    theirs = partial(torch.nn.functional.conv3d, **settings)
    check(found, derivatives_by_torch(theirs, x, kernel, along))


@pytest.mark.parametrize(("name", "groups"), EACH)
def test_transposed_ones_have_pytorchs_values_and_derivatives(name: str, groups: str) -> None:
    x, kernel, _, settings = tensors(CASES[name], groups)
    y_shape = jax.eval_shape(partial(general_convolution, **settings), x, kernel).shape
    y, along = normal(4, y_shape), (normal(5, y_shape), normal(6, kernel.shape))
    settings["output_padding"] = tuple(step - 1 for step in settings["stride"])
    with jax.enable_x64(True):
        ours = jax.jit(partial(derivatives, partial(transposed_general_convolution, **settings)))
        found = ours(y, kernel, along)

    def theirs(y: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv_transpose3d(y, kernel, **settings)

    check(found, derivatives_by_torch(theirs, y, kernel, along))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("in_axes", [(0, None), (1, 0), (None, 4)])
def test_batches_of_images_and_kernels_equal_single_ones(
    in_axes: tuple[int | None, int | None], transposed: bool
) -> None:
    convolve = transposed_general_convolution if transposed else general_convolution
    function = partial(convolve, stride=(2, 1, 2), padding=(1, 1, 1), groups=4)
    arrays = [normal(0, (2, 3, 4, 5, 4)), normal(1, (3, 3, 3, 1, 4))]
    given = [
        array if axis is None else np.stack([array, 2 * array, -array], axis)
        for array, axis in zip(arrays, in_axes, strict=True)
    ]
    found = jax.jit(jax.vmap(function, in_axes))(*given)
    one = np.asarray(function(*arrays))
    powers = len(in_axes) - in_axes.count(None)
    for factor, each in zip((1, 2, -1), np.asarray(found), strict=True):
        np.testing.assert_allclose(each, factor**powers * one, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups", ["depthwise", "groups of two"])
def test_other_devices_forms_are_equal(groups: str, transposed: bool) -> None:
    convolve = transposed_general_convolution if transposed else general_convolution
    x, kernel, _, settings = tensors(CASES["settings per axis"], groups)
    function = partial(convolve, **settings)
    if transposed:
        x = normal(4, jax.eval_shape(partial(general_convolution, **settings), x, kernel).shape)
    on_cpu = jax.jit(function)(x, kernel)
    with as_traced():
        program = jax.jit(lambda *given: function(*given)).lower(x, kernel)
        assert "feature_group_count = 3" in program.as_text()
        elsewhere = program.compile()(x.astype(np.float32), kernel.astype(np.float32))
    np.testing.assert_allclose(on_cpu, elsewhere, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [16, 8, 4])
def test_groups_of_few_channels_that_go_together_are_those_of_xla(channels: int) -> None:
    """Each by itself, two at once, and all four."""
    shapes = (1, 2, 3, 2, 4 * channels), (1, 3, 1, channels, 8)
    x, kernel = (normal(seed, shape).astype(np.float32) for seed, shape in enumerate(shapes))
    y = general_convolution(x, kernel, padding=(0, 1, 0), groups=4)
    edges, axes = [(0, 0), (1, 1), (0, 0)], ("NHWDC", "HWDIO", "NHWDC")
    expected = jax.lax.conv_general_dilated(
        x, kernel, (1, 1, 1), edges, dimension_numbers=axes, feature_group_count=4
    )
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


def test_results_have_the_type_of_the_image_and_float32s_sums() -> None:
    x = jnp.ones((1, 7, 7, 7, 2), jnp.bfloat16)
    kernel = jnp.ones((7, 7, 7, 1, 2), jnp.bfloat16)
    y = general_convolution(x, kernel, padding=(3, 3, 3), groups=2)
    assert y.dtype == jnp.bfloat16
    assert y[0, 3, 3, 3, 0] == jnp.bfloat16(343)  # sums in bfloat16 stop at 256
