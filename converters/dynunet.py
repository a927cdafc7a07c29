"""MONAI's 3D ``DynUNet``, of any version -> `jaxsal.Model`: its modules and keys, and ours.

======================  ==============================================================
ours                    MONAI's
======================  ==============================================================
encoder.0               input_block
encoder.i               downsamples.{i - 1}
bottleneck              bottleneck
decoder.i.upsample      upsamples.{levels - 1 - i}.transp_conv
decoder.i.refine        upsamples.{levels - 1 - i}.conv_block
head                    output_block
…units.0, …units.1      ….conv1 and ….norm1, ….conv2 and ….norm2
…shortcut               ….conv3 and ….norm3
…activation             ….lrelu, which MONAI applies twice: as a layer, the block's output
======================  ==============================================================

MONAI's later versions list everything a second time under ``skip_layers``, nested as the levels
are: ``P(0) = skip_layers``, ``P(i + 1) = P(i).next_layer``, with encoder, decoder and, from level 1
on, deep supervision's head as ``P(i).downsample``, ``P(i).upsample`` and ``P(i).super_head``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from jaxsal.nets.dynunet_config import DynUNetConfig
from jaxsal_converters.monai import MonaiNetwork
from jaxsal_converters.rules import Rule, aliases_of, rules_of
from jaxsal_converters.state_dict import State, count_modules, each_once, norm_name, weight


def infer_arguments(state: State, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """As `MonaiNetwork.infer_arguments` describes it.

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
    downsamples = count_modules(state, "downsamples")
    blocks = ["input_block", *(f"downsamples.{i}" for i in range(downsamples)), "bottleneck"]
    kernels = [weight(state, f"{block}.conv1.conv") for block in blocks]
    ups = [weight(state, f"upsamples.{j}.transp_conv.conv") for j in range(downsamples + 1)]
    strides = [list(up.shape[2:]) for up in reversed(ups)]
    heads = count_modules(state, "deep_supervision_heads")
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


def _activation(state: State, assumptions: list[str]) -> list[Any]:
    slope = state.get("input_block.lrelu.weight")
    if slope is not None:
        return ["prelu", {"num_parameters": slope.size}]
    assumptions.append(
        "act_name: leaky ReLU of slope 0.01, MONAI's default; the checkpoint does not show it, "
        "--config sets it"
    )
    return ["leakyrelu", {"negative_slope": 0.01}]


# how every key of a bare network begins
KEY_PATTERN = (
    r"(?:input_block|downsamples|bottleneck|upsamples|output_block|skip_layers"
    r"|deep_supervision_heads)\."
)
_NESTED = re.compile(r"skip_layers((?:\.next_layer)*)\.(downsample|upsample|super_head)?\.?(.*)")


def own_entries(state: State) -> State:
    """The entries by their own keys, those under ``skip_layers`` merged into the others.

    Raises:
        InputError: an entry and its duplicate differ.
    """
    depths = [m[1].count("next_layer") for key in state if (m := _NESTED.match(key)) and m[2]]
    return each_once(state, partial(_own_key, 1 + max(depths, default=-1)))


def _own_key(levels: int, key: str) -> str:
    nested = _NESTED.fullmatch(key)
    if nested is None:
        return key
    depth, part, rest = nested[1].count("next_layer"), nested[2], nested[3]
    if part is None:
        return f"bottleneck.{rest}"
    if part == "downsample":
        return f"{_encoder_path(depth)}.{rest}"
    if part == "upsample":
        return f"upsamples.{levels - 1 - depth}.{rest}"
    return f"deep_supervision_heads.{depth - 1}.{rest}"


def _encoder_path(level: int) -> str:
    return f"downsamples.{level - 1}" if level else "input_block"


def parameter_rules(config: DynUNetConfig) -> dict[str, Rule]:
    """The rule for every parameter of ours, by its name."""
    return rules_of(config, (*_paths(config), *_activations(config)))


def aliases(config: DynUNetConfig) -> dict[str, str]:
    """MONAI's path of every module whose output is a layer of ours -> our layer name."""
    return aliases_of(config, _paths(config))


def _blocks(config: DynUNetConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(our block, MONAI's paths of it, the one that owns the entries first)."""
    last = config.levels - 1
    for level in range(config.levels):
        nested = "skip_layers" + ".next_layer" * level
        yield f"encoder.{level}", (_encoder_path(level), f"{nested}.downsample")
        up = f"upsamples.{last - level}"
        yield f"decoder.{level}.refine", (f"{up}.conv_block", f"{nested}.upsample.conv_block")
    yield "bottleneck", ("bottleneck", "skip_layers" + ".next_layer" * config.levels)


def _paths(config: DynUNetConfig) -> Iterator[tuple[str, str]]:
    """(our layer, MONAI's module path) for all modules; a layer can have several paths."""
    for ours, paths in _blocks(config):
        for theirs in paths:
            yield from _double_convolution(config, ours, theirs)
    for level in range(config.levels):
        nested = "skip_layers" + ".next_layer" * level
        for theirs in (f"upsamples.{config.levels - 1 - level}", f"{nested}.upsample"):
            yield from _convolution(config, f"decoder.{level}.upsample", f"{theirs}.transp_conv")
            yield f"decoder.{level}", theirs
        yield f"decoder.{level}", nested
    yield from _convolution(config, "head", "output_block.conv")
    yield "head", "output_block"


def _double_convolution(config: DynUNetConfig, ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    for unit, number in (("units.0", 1), ("units.1", 2), ("shortcut", 3)):
        yield from _convolution(config, f"{ours}.{unit}.conv", f"{theirs}.conv{number}")
        if config.norm_name:
            yield f"{ours}.{unit}.norm", f"{theirs}.norm{number}"
    if config.act_name:
        yield ours, f"{theirs}.lrelu"
    yield ours, theirs


def _convolution(config: DynUNetConfig, ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    yield ours, f"{theirs}.conv"
    yield ours, theirs
    if config.dropout:
        yield ours, f"{theirs}.adn"
        yield ours, f"{theirs}.adn.D"


def _activations(config: DynUNetConfig) -> Iterator[tuple[str, str]]:
    """(our activation function, MONAI's): it has parameters where it has learnt slopes."""
    for ours, paths in _blocks(config):
        yield f"{ours}.activation", f"{paths[0]}.lrelu"


def _is_idle(key: str) -> bool:
    """Whether an entry may do nothing at inference.

    Heads of deep supervision do; and older versions of MONAI built shortcuts that they did not use.
    """
    return key.startswith("deep_supervision_heads.") or ".conv3." in key or ".norm3." in key


DYNUNET = MonaiNetwork(
    "dynunet",
    "DynUNet",
    KEY_PATTERN,
    DynUNetConfig,
    infer_arguments,
    parameter_rules,
    aliases,
    own=own_entries,
    is_idle=_is_idle,
)
convert = DYNUNET.convert
