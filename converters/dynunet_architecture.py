"""The architecture of a MONAI ``DynUNet``, which its state dict shows almost completely."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxsal_converters.shapes import norm_name, weight
from jaxsal_converters.state_dict import State


def infer_arguments(state: State, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """MONAI's constructor arguments of the network that a state dict belongs to.

    Args:
        state: the bare network's entries by MONAI's keys, without the duplicates under
            ``skip_layers``.
        given: arguments that the user states; they take precedence.

    Returns:
        The arguments, and a sentence for each that was assumed rather than read or given.

    Raises:
        InputError: an entry that is needed is missing, or the network is not 3D.
    """
    assumptions: list[str] = []
    arguments = _structure(state)
    if "norm_name" not in given:
        arguments["norm_name"] = norm_name(
            state, "input_block.norm1", assumptions, default_affine=True
        )
    if "act_name" not in given:
        arguments["act_name"] = _activation(state, assumptions)
    return {**arguments, **given}, assumptions


def _structure(state: State) -> dict[str, Any]:
    """What the shapes show: up-sampling kernels equal the strides of the levels below them."""
    downsamples = _count(state, "downsamples")
    blocks = ["input_block", *(f"downsamples.{i}" for i in range(downsamples)), "bottleneck"]
    kernels = [weight(state, f"{block}.conv1.conv") for block in blocks]
    ups = [weight(state, f"upsamples.{j}.transp_conv.conv") for j in range(downsamples + 1)]
    strides = [list(up.shape[2:]) for up in reversed(ups)]
    heads = _count(state, "deep_supervision_heads")
    return {
        "spatial_dims": 3,
        "in_channels": kernels[0].shape[1],
        "out_channels": weight(state, "output_block.conv.conv").shape[0],
        "kernel_size": [list(kernel.shape[2:]) for kernel in kernels],
        "strides": [[1, 1, 1], *strides],
        "upsample_kernel_size": strides,
        "filters": [kernel.shape[0] for kernel in kernels],
        "res_block": any(".conv3." in key for key in state),
        "trans_bias": "upsamples.0.transp_conv.conv.bias" in state,
        "deep_supervision": heads > 0,
        "deep_supr_num": max(heads, 1),
    }


def _count(state: State, modules: str) -> int:
    """Number of entries of a module list."""
    count = 0
    while any(key.startswith(f"{modules}.{count}.") for key in state):
        count += 1
    return count


def _activation(state: State, assumptions: list[str]) -> list[Any]:
    slope = state.get("input_block.lrelu.weight")
    if slope is not None:
        return ["prelu", {"num_parameters": slope.size}]
    assumptions.append(
        "act_name: leaky ReLU of slope 0.01, MONAI's default; the checkpoint does not show it, "
        "--config sets it"
    )
    return ["leakyrelu", {"negative_slope": 0.01}]
