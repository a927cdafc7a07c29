"""MONAI's 3D ``SegResNetDS``, Auto3DSeg's -> `jaxsal.Model`: its modules and keys, and ours.

========================  ==============================================================
ours                      MONAI's
========================  ==============================================================
stem                      encoder.conv_init
encoder.i, bottleneck     encoder.layers.{i}.blocks
…downsample               encoder.layers.{i - 1}.downsample
decoder.i                 up_layers.{levels - 1 - i}.blocks
…upsample                 up_layers.{levels - 1 - i}.upsample
…blocks.j                 ….{j}
…units.k.norm, .conv      ….norm{k + 1}, ….conv{k + 1}
…units.k.activation       ….act{k + 1}
head                      the last of up_layers, .head
========================  ==============================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from jaxsal.errors import InputError
from jaxsal.nets.segresnet_config import SegResNetDSConfig, scales_of
from jaxsal.types import Triple
from jaxsal_converters.monai import MonaiNetwork
from jaxsal_converters.rules import Rule, aliases_of, rules_of
from jaxsal_converters.segresnet import activation, encoder_level, upsample_mode, upsampling
from jaxsal_converters.state_dict import State, count_modules, norm_name, weight

# how every key of a bare network begins
KEY_PATTERN = r"(?:encoder\.(?:conv_init|layers)|up_layers(?:_auto)?)\."

Pair = tuple[str, str]


def infer_arguments(state: State, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """As `MonaiNetwork.infer_arguments` describes it.

    Raises:
        InputError: an entry that is needed is missing, the network is not 3D, a ``SegResNet`` or a
            ``SegResNetDS2``, or its kernels are none that a resolution leads to.
    """
    if any(key.startswith("up_samples.") for key in state):
        raise InputError("it holds a SegResNet, which `jaxsal convert segresnet` converts")
    if any(key.startswith("up_layers_auto.") for key in state):
        raise InputError(
            "it holds a SegResNetDS2, VISTA3D's network of two decoders, which is not supported"
        )
    assumptions: list[str] = []
    arguments = _structure(state)
    block = "encoder.layers.0.blocks.0"
    if "norm" not in given:
        arguments["norm"] = norm_name(
            state, f"{block}.norm1", assumptions, default_affine=None, argument="norm"
        )
    if "act" not in given:
        arguments["act"] = activation(state, f"{block}.act1", assumptions)
    return {**arguments, **given}, assumptions


def _structure(state: State) -> dict[str, Any]:
    """What the shapes show for certain: where a kernel is of 3, the size is halved."""
    stem = weight(state, "encoder.conv_init")
    levels = count_modules(state, "encoder.layers")
    heads = [key for key in state if re.match(r"up_layers\.\d+\.head\.weight", key)]
    last = max(levels - 2, 0)
    kernels = [weight(state, f"encoder.layers.{i}.blocks.0.conv1") for i in range(levels)]
    ups = range(levels - 1)
    return {
        "spatial_dims": 3,
        "in_channels": stem.shape[1],
        "out_channels": weight(state, f"up_layers.{last}.head").shape[0],
        "init_filters": stem.shape[0],
        "blocks_down": [count_modules(state, f"encoder.layers.{i}.blocks") for i in range(levels)],
        "blocks_up": [count_modules(state, f"up_layers.{i}.blocks") for i in ups],
        "upsample_mode": upsample_mode(state, "up_layers.0.upsample"),
        "dsdepth": len(heads),
        "resolution": _resolution([kernel.shape[2:] for kernel in kernels]),
    }


def _resolution(kernels: list[tuple[int, ...]]) -> list[float] | None:
    """Voxel sizes that lead to these kernels; None if they are the same along all axes."""
    scales = tuple(_scale(kernel) for kernel in kernels)
    levels = len(scales)
    isotropic = next((i for i in range(levels) if set(sum(scales[i:], ())) == {2}), levels)
    if not isotropic:
        return None
    halvings = [sum(scale[axis] == 2 for scale in scales[:isotropic]) for axis in range(3)]
    resolution = tuple(2.0 ** (isotropic - own) for own in halvings)
    if scales_of(resolution, levels) != scales:
        shown = [list(kernel) for kernel in kernels]
        raise InputError(f"its kernels, {shown}, are none of a SegResNetDS of MONAI's")
    return list(resolution)


def _scale(kernel: tuple[int, ...]) -> Triple:
    x, y, z = (2 if size > 1 else 1 for size in kernel)
    return x, y, z


def parameter_rules(config: SegResNetDSConfig) -> dict[str, Rule]:
    """The rule for every parameter of ours, by its name."""
    return rules_of(config, _paths(config))


def aliases(config: SegResNetDSConfig) -> dict[str, str]:
    """MONAI's path of every module whose output is a layer of ours -> our layer name."""
    return aliases_of(config, _paths(config))


def _paths(config: SegResNetDSConfig) -> Iterator[Pair]:
    """(our layer, MONAI's module path) for all modules; a layer can have several paths."""
    yield "stem", "encoder.conv_init"
    for level, number in enumerate(config.blocks_down):
        ours, theirs = encoder_level(config, level), f"encoder.layers.{level}.blocks"
        yield f"{ours}.downsample", f"encoder.layers.{level - 1}.downsample"
        yield from _blocks(ours, theirs, number)
    for k, number in enumerate(config.blocks_up):
        ours, theirs = f"decoder.{config.levels - 1 - k}", f"up_layers.{k}"
        yield from upsampling(config, f"{ours}.upsample", f"{theirs}.upsample")
        yield from _blocks(ours, f"{theirs}.blocks", number)
    yield "head", f"up_layers.{max(config.levels - 1, 0)}.head"


def _blocks(ours: str, theirs: str, number: int) -> Iterator[Pair]:
    """A level's residual blocks."""
    for j in range(number):
        for k in range(2):
            unit, block = f"{ours}.blocks.{j}.units.{k}", f"{theirs}.{j}"
            yield f"{unit}.norm", f"{block}.norm{k + 1}"
            yield f"{unit}.activation", f"{block}.act{k + 1}"
            yield f"{unit}.conv", f"{block}.conv{k + 1}"
        yield f"{ours}.blocks.{j}", f"{theirs}.{j}"
    yield ours, theirs


def _is_idle(key: str) -> bool:
    """Whether an entry may do nothing at inference: a head of deep supervision does."""
    return re.match(r"up_layers\.\d+\.head\.", key) is not None


SEGRESNET_DS = MonaiNetwork(
    "segresnet-ds",
    "SegResNetDS",
    KEY_PATTERN,
    SegResNetDSConfig,
    infer_arguments,
    parameter_rules,
    aliases,
    is_idle=_is_idle,
)
convert = SEGRESNET_DS.convert
