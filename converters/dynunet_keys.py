"""The rule table of MONAI's ``DynUNet``: its module paths and state-dict keys, and ours.

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
from collections.abc import Iterator

import numpy as np

from jaxsal.errors import InputError
from jaxsal.nets.dynunet_config import DynUNetConfig
from jaxsal.nets.registry import layer_names, parameter_shapes
from jaxsal_converters.rules import LEAVES, Rule, plain_rule
from jaxsal_converters.state_dict import State

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
    levels = 1 + max(depths, default=-1)
    entries: State = {}
    for key, value in state.items():
        own = _own_key(key, levels)
        if own in entries and not np.array_equal(entries[own], value):
            raise InputError(f"{key} holds other values than its duplicate, {own}")
        entries[own] = value
    return entries


def _own_key(key: str, levels: int) -> str:
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
    owners: dict[str, str] = {}
    for ours, theirs in (*_paths(config), *_activations(config)):
        owners.setdefault(ours, theirs)
    rules = {}
    for name, shape in parameter_shapes(config).items():
        module, _, leaf = name.rpartition(".")
        rules[name] = plain_rule(f"{owners[module]}.{LEAVES[leaf]}", shape)
    return rules


def aliases(config: DynUNetConfig) -> dict[str, str]:
    """MONAI's path of every module whose output is a layer of ours -> our layer name."""
    layers = set(layer_names(config))
    return {theirs: ours for ours, theirs in _paths(config) if ours in layers}


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
