"""A layer's cells lie at the centres of what they read, for any stride, padding and network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax import lax

from jaxsal.locality.places import places_of
from jaxsal.nets.convolution import convolution, transposed_convolution
from jaxsal.nets.nnunet_config import PLAIN, RESIDUAL
from jaxsal.nets.registry import NetworkFunction, config_from_arguments, parameter_shapes

SIZE = 96

# Kernel, stride, padding, dilation, and the output padding of a transposed convolution.
Step = tuple[int, int, int, int, int | None]
CHAINS: dict[str, list[Step]] = {
    "odd kernels": [(3, 2, 1, 1, None), (3, 2, 1, 1, None), (5, 2, 2, 1, None)],
    "even kernels": [(2, 2, 0, 1, None), (4, 2, 1, 1, None)],
    "no padding, stride three": [(3, 3, 0, 1, None), (3, 1, 0, 1, None)],
    "more padding than keeps the size": [(3, 2, 2, 1, None), (1, 2, 0, 1, None)],
    "dilated": [(3, 1, 2, 2, None), (3, 2, 3, 3, None)],
    "down and up by odd kernels": [(3, 2, 1, 1, None), (3, 2, 1, 1, 1)],
    "down and up by even kernels": [(3, 2, 1, 1, None), (3, 2, 1, 1, None), (2, 2, 0, 1, 0)],
    "up by three": [(3, 3, 0, 1, None), (3, 3, 0, 1, 0)],
}


@dataclass(frozen=True)
class Chain:
    """Convolutions one after the other, along each axis a chain of its own; layers by number."""

    names: tuple[str, str, str]
    divisor = (1, 1, 1)
    channels = 1
    smallest_size = (SIZE, SIZE, SIZE)

    def __call__(self, parameters: Any, batch: jax.Array) -> jax.Array:
        return self.with_activations(parameters, batch)[0]

    def with_activations(
        self,
        parameters: Any,
        batch: jax.Array,
        perturbations: Mapping[str, jax.Array] | None = None,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        found = {}
        for axis, name in enumerate(self.names):
            for number, step in enumerate(CHAINS[name]):
                batch = along(axis, step, batch)
                found[f"{axis}.{number}"] = batch
        return batch, found


def along(axis: int, step: Step, batch: jax.Array) -> jax.Array:
    def only(value: int, other: int) -> tuple[int, int, int]:
        x, y, z = (value if a == axis else other for a in range(3))
        return x, y, z

    kernel, stride, padding, dilation, extra = step
    ones = jnp.ones((*only(kernel, 1), 1, 1))
    sizes = {"stride": only(stride, 1), "padding": only(padding, 0)}
    if extra is not None:
        return transposed_convolution(batch, ones, output_padding=only(extra, 0), **sizes)
    if dilation == 1:
        return convolution(batch, ones, **sizes)
    return lax.conv_general_dilated(
        batch,
        ones,
        sizes["stride"],
        [(p, p) for p in sizes["padding"]],
        rhs_dilation=only(dilation, 1),
        dimension_numbers=("NHWDC", "HWDIO", "NHWDC"),
    )


def answers(chain: str) -> list[np.ndarray]:
    """By PyTorch: after each step (voxels, cells), how bright each voxel makes each cell."""
    values, found = torch.eye(SIZE)[:, None], []
    for kernel, stride, padding, dilation, extra in CHAINS[chain]:
        ones, sizes = torch.ones(1, 1, kernel), {"stride": stride, "padding": padding}
        if extra is None:
            values = torch.conv1d(values, ones, dilation=dilation, **sizes)
        else:
            values = torch.conv_transpose1d(values, ones, output_padding=extra, **sizes)
        found.append(values[:, 0].numpy())
    return found


@pytest.mark.parametrize(
    "names",
    [
        ("odd kernels", "even kernels", "no padding, stride three"),
        ("more padding than keeps the size", "dilated", "down and up by odd kernels"),
        ("down and up by even kernels", "up by three", "odd kernels"),
    ],
    ids=" | ".join,
)
def test_cells_lie_at_the_middle_of_the_voxels_that_brighten_them(
    names: tuple[str, str, str],
) -> None:
    function = Chain(names)
    for axis, name in enumerate(names):
        for number, matrix in enumerate(answers(name)):
            places = places_of(function, (), (SIZE, SIZE, SIZE, 1), f"{axis}.{number}")
            cells = matrix.shape[1] // 2 + np.arange(-3, 3)  # far from padding; whole periods
            middles = np.arange(SIZE) @ matrix / matrix.sum(0)
            own = places.step[axis] * cells + places.offset[axis]
            # Cells that an up-sampling makes of one share its middle: on average they lie there.
            assert np.mean(own - middles[cells]) == pytest.approx(0, abs=0.05)


UNET = {"channels": (2, 2, 2), "strides": ((2, 2, 1), (2, 4, 1)), "kernel_size": (3, 5, 3)}
DYNUNET = {
    "kernel_size": [3, 3, 3],
    "strides": [1, [2, 3, 1], 2],
    "upsample_kernel_size": [[2, 3, 1], 2],
    "filters": [2, 2, 2],
    "norm_name": "instance",
}
NNUNET = {
    "features_per_stage": [2, 2, 2],
    "kernel_sizes": 3,
    "strides": [1, 2, [2, 2, 1]],
    "encoder_units": 1,
    "decoder_units": 1,
    "conv_bias": True,
    "norm": ["instance", {}],
    "act": ["leakyrelu", {}],
}
MEDNEXT = {
    "init_filters": 2,
    "kernel_size": 3,
    "use_residual_connection": True,
    "blocks_down": [1, 1],
    "blocks_up": [1, 1],
}
SWIN = {"feature_size": 12, "use_v2": True}
STRIDED = ((4, 8, 1), (0, 0, 0))
# network, its arguments, a layer, and where its cells lie: step and offset, worked out by hand
NETWORKS = [
    ("unet", UNET, "encoder.0.norm", ((2, 2, 1), (0, 0, 0))),
    ("unet", UNET, "bottleneck", STRIDED),
    ("unet", {**UNET, "norm": "instance", "num_res_units": 2}, "bottleneck", STRIDED),
    ("unet", UNET, "decoder.1.joined", STRIDED),
    ("unet", UNET, "decoder.1", ((2, 2, 1), (0, 0, 0))),
    ("unet", UNET, "decoder.0", ((1, 1, 1), (0, 0, 0))),
    # MONAI pads nothing before a kernel of three and a stride of three: the middle is at 1
    ("dynunet", DYNUNET, "encoder.1.units.0", ((2, 3, 1), (0, 1, 0))),
    ("dynunet", DYNUNET, "decoder.1.upsample", ((2, 3, 1), (-1, -0.5, -0.5))),
    ("dynunet", DYNUNET, "decoder.1.joined", ((2, 3, 1), (0, 1, 0))),
    ("dynunet", DYNUNET, "head", ((1, 1, 1), (0, 0, 0))),
    ("nnunet", {**NNUNET, "network": PLAIN}, "encoder.2", ((4, 4, 2), (0, 0, 0))),
    ("nnunet", {**NNUNET, "network": PLAIN}, "decoder.1", ((2, 2, 2), (0, 0, 0))),
    # the shortcut's pooling lies at 0.5, the convolutions at 0; and so on one level below
    ("nnunet", {**NNUNET, "network": RESIDUAL}, "encoder.1", ((2, 2, 2), (0.25, 0.25, 0.25))),
    ("nnunet", {**NNUNET, "network": RESIDUAL}, "encoder.2", ((4, 4, 2), (0.75, 0.75, 0.25))),
    ("nnunet", {**NNUNET, "network": RESIDUAL}, "head", ((1, 1, 1), (0, 0, 0))),
    # its decoders add: halfway between cells 4 apart, and the skip, which the sum follows
    ("segresnet", {}, "decoder.1.upsample", ((2, 2, 2), (-1, -1, -1))),
    ("segresnet", {}, "decoder.1", ((2, 2, 2), (0, 0, 0))),
    ("segresnet", {}, "head", ((1, 1, 1), (0, 0, 0))),
    ("mednext", MEDNEXT, "bottleneck.downsample", ((4, 4, 4), (0, 0, 0))),
    # of 2n - 1 cells the odd ones lie between the n from below; then one is put before them
    ("mednext", MEDNEXT, "decoder.1.upsample.depthwise", ((2, 2, 2), (0, 0, 0))),
    ("mednext", MEDNEXT, "decoder.1.upsample", ((2, 2, 2), (-2, -2, -2))),
    ("mednext", MEDNEXT, "decoder.1.sum", ((2, 2, 2), (0, 0, 0))),
    ("mednext", MEDNEXT, "decoder.0", ((1, 1, 1), (0, 0, 0))),
    ("mednext", MEDNEXT, "head", ((1, 1, 1), (0, 0, 0))),
    ("swin-unetr", SWIN, "stages.0.blocks.1.attention", ((2, 2, 2), (0.5, 0.5, 0.5))),
    ("swin-unetr", SWIN, "stages.3", ((32, 32, 32), (15.5, 15.5, 15.5))),
    ("swin-unetr", SWIN, "decoder.0", ((1, 1, 1), (0, 0, 0))),
    # MONAI before 1.5 takes two of the eight octants twice, and leaves out two
    (
        "swin-unetr",
        {**SWIN, "downsample": "merging-1.4"},
        "stages.0",
        ((4, 4, 4), (1.25, 1.25, 1.5)),
    ),
]


def places(
    kind: str, arguments: dict[str, Any], layer: str, **options: Any
) -> tuple[tuple[float, ...], ...]:
    config = config_from_arguments(kind, {"in_channels": 2, "out_channels": 2, **arguments})
    function = NetworkFunction(config, **options)
    shapes = parameter_shapes(config, options.get("members", 1))
    parameters = {name: jax.ShapeDtypeStruct(s, jnp.float32) for name, s in shapes.items()}
    size = (64, 32, 32) if kind == "swin-unetr" else tuple(2 * d for d in config.divisor)
    return places_of(function, parameters, (*size, 2), layer)


@pytest.mark.parametrize(("kind", "arguments", "layer", "expected"), NETWORKS)
def test_layers_of_networks_lie_where_their_strides_and_paddings_put_them(
    kind: str,
    arguments: dict[str, Any],
    layer: str,
    expected: tuple[tuple[float, ...], ...],
) -> None:
    assert places(kind, arguments, layer) == expected


def test_an_ensemble_lies_where_its_members_do_and_mirrored_images_in_between() -> None:
    """Mirrored back, cell i of what lies at 2i lies at 2i + 1."""
    network = "nnunet", {**NNUNET, "network": PLAIN}, "encoder.1"
    assert places(*network, members=2) == ((2, 2, 2), (0, 0, 0))
    assert places(*network, members=2, mirror_axes=(0, 2)) == ((2, 2, 2), (0.5, 0, 0.5))
