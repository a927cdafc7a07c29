"""MONAI's 3D ``SegResNet``, its VAE's, too -> `jaxsal.Model`: its modules and keys, and ours.

========================  ==============================================================
ours                      MONAI's
========================  ==============================================================
stem                      convInit
encoder.i, bottleneck     down_layers.{i}
…downsample               ….0
…blocks.j                 ….{j + 1}
decoder.i.upsample        up_samples.{levels - 1 - i}
…reduce, …conv            ….0, and within ….1
decoder.i                 up_layers.{levels - 1 - i}
…blocks.j                 ….{j}
…units.k.norm, .conv      ….norm{k + 1}, ….conv{k + 1}
…blocks.j.activation      ….act, which MONAI applies twice: as a layer, the second unit's
head.norm, .conv          conv_final.0, conv_final.2
head.activation           conv_final.1, which is act_mod, too
========================  ==============================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jaxsal.errors import InputError
from jaxsal.nets.segresnet_config import ResidualLevels, SegResNetConfig
from jaxsal_converters.monai import MonaiNetwork
from jaxsal_converters.rules import Rule, aliases_of, rules_of
from jaxsal_converters.state_dict import State, count_modules, each_once, norm_name, weight

# how every key of a bare network begins
KEY_PATTERN = r"(?:convInit|down_layers|up_layers|up_samples|conv_final|act_mod|vae_\w+)\."
_GROUPS = 8  # of MONAI's default norm

Pair = tuple[str, str]


def infer_arguments(state: State, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """As `MonaiNetwork.infer_arguments` describes it.

    Raises:
        InputError: an entry that is needed is missing, the network is not 3D or a ``SegResNetDS``,
            or its norm cannot be MONAI's default.
    """
    if any(key.startswith("encoder.conv_init.") for key in state):
        raise InputError("it holds a SegResNetDS, which `jaxsal convert segresnet-ds` converts")
    assumptions: list[str] = []
    arguments = _structure(state)
    if "norm" not in given and not given.get("norm_name"):
        arguments["norm"] = _norm(state, arguments["init_filters"], assumptions)
    if "act" not in given:
        arguments["act"] = activation(state, "down_layers.0.1.act", assumptions)
    if any(key.startswith("vae_") for key in state):
        assumptions.append(
            "left out: the autoencoder of a SegResNetVAE (vae_…), which only its training needs"
        )
    return {**arguments, **given}, assumptions


def _structure(state: State) -> dict[str, Any]:
    """What the shapes show for certain."""
    stem = weight(state, "convInit.conv")
    levels = count_modules(state, "down_layers")
    return {
        "spatial_dims": 3,
        "in_channels": stem.shape[1],
        "out_channels": weight(state, "conv_final.2.conv").shape[0],
        "init_filters": stem.shape[0],
        "blocks_down": [count_modules(state, f"down_layers.{i}", 1) for i in range(levels)],
        "blocks_up": [count_modules(state, f"up_layers.{i}") for i in range(levels - 1)],
        "upsample_mode": upsample_mode(state, "up_samples.0.1"),
    }


def upsample_mode(state: State, module: str) -> str:
    """By what a module ``UpSample`` up-samples."""
    for mode in ("deconvgroup", "deconv", "pixelshuffle"):
        if any(key.startswith(f"{module}.{mode}.") for key in state):
            return mode
    return "nontrainable"


def activation(state: State, module: str, assumptions: list[str]) -> Any:
    """The activation function, as far as a module of it shows it."""
    slope = state.get(f"{module}.weight")
    if slope is not None:
        return ["prelu", {"num_parameters": slope.size}]
    assumptions.append(
        "act: ReLU, MONAI's default; the checkpoint does not show it, --config sets it"
    )
    return "relu"


def _norm(state: State, filters: int, assumptions: list[str]) -> Any:
    norm = "down_layers.0.1.norm1"
    if f"{norm}.weight" not in state or f"{norm}.running_mean" in state:
        return norm_name(state, norm, assumptions, default_affine=None, argument="norm")
    if filters % _GROUPS:
        raise InputError(
            f"norm: group norm of {_GROUPS} groups, MONAI's default, does not fit {filters} "
            'channels: write the norm into a JSON file, such as {"norm": ["group", '
            '{"num_groups": 4}]}, and give that with --config'
        )
    assumptions.append(
        f"norm: group norm of {_GROUPS} groups, MONAI's default; other numbers of them and "
        "instance norm with learnt parameters look the same, --config sets it"
    )
    return ["group", {"num_groups": _GROUPS}]


def own_entries(state: State) -> State:
    """The entries, the last activation function's once.

    Raises:
        InputError: an entry and its duplicate differ.
    """
    return each_once(state, lambda key: key.replace("act_mod.", "conv_final.1."))


def parameter_rules(config: SegResNetConfig) -> dict[str, Rule]:
    """The rule for every parameter of ours, by its name."""
    return rules_of(config, (*_paths(config), *_activations(config)))


def aliases(config: SegResNetConfig) -> dict[str, str]:
    """MONAI's path of every module whose output is a layer of ours -> our layer name."""
    return aliases_of(config, _paths(config))


def _blocks(config: SegResNetConfig) -> Iterator[Pair]:
    """(our block, MONAI's) for all residual blocks."""
    for level, number in enumerate(config.blocks_down):
        for j in range(number):
            yield f"{encoder_level(config, level)}.blocks.{j}", f"down_layers.{level}.{j + 1}"
    for k, number in enumerate(config.blocks_up):
        for j in range(number):
            yield f"decoder.{config.levels - 1 - k}.blocks.{j}", f"up_layers.{k}.{j}"


def encoder_level(config: ResidualLevels, level: int) -> str:
    """Our name of a level of the encoder, the last of which is the bottleneck."""
    return f"encoder.{level}" if level < config.levels else "bottleneck"


def _paths(config: SegResNetConfig) -> Iterator[Pair]:
    """(our layer, MONAI's module path) for all modules; a layer can have several paths."""
    yield from _convolution("stem", "convInit")
    if config.dropout_prob:
        yield "stem", "dropout"
    for ours, theirs in _blocks(config):
        yield from _residual(ours, theirs)
    for level in range(config.levels + 1):
        ours, theirs = encoder_level(config, level), f"down_layers.{level}"
        yield from _convolution(f"{ours}.downsample", f"{theirs}.0")
        yield ours, theirs
    for level in range(config.levels):
        k = config.levels - 1 - level
        ours, theirs = f"decoder.{level}.upsample", f"up_samples.{k}"
        yield from _convolution(f"{ours}.reduce", f"{theirs}.0")
        yield from upsampling(config, ours, f"{theirs}.1")
        yield ours, theirs
        yield f"decoder.{level}", f"up_layers.{k}"
    yield "head.norm", "conv_final.0"
    yield "head.activation", "conv_final.1"
    yield "head.activation", "act_mod"
    yield from _convolution("head.conv", "conv_final.2")
    yield "head", "conv_final"


def _convolution(ours: str, theirs: str) -> Iterator[Pair]:
    yield ours, f"{theirs}.conv"
    yield ours, theirs


def _residual(ours: str, theirs: str) -> Iterator[Pair]:
    for k in range(2):
        yield f"{ours}.units.{k}.norm", f"{theirs}.norm{k + 1}"
        yield from _convolution(f"{ours}.units.{k}.conv", f"{theirs}.conv{k + 1}")
    yield f"{ours}.units.1.activation", f"{theirs}.act"
    yield ours, theirs


def upsampling(config: ResidualLevels, ours: str, theirs: str) -> Iterator[Pair]:
    """(our layer, MONAI's module path) within a module ``UpSample``."""
    if config.upsample_mode == "deconv":
        yield f"{ours}.conv", f"{theirs}.deconv"
    elif config.upsample_mode == "pixelshuffle":
        yield f"{ours}.conv", f"{theirs}.pixelshuffle.conv_block"
        for module in (".pad_pool.1", ".pad_pool", ""):
            yield ours, f"{theirs}.pixelshuffle{module}"
    else:
        yield f"{ours}.reduce", f"{theirs}.preconv"
        yield ours, f"{theirs}.upsample_non_trainable"
    yield ours, theirs


def _activations(config: SegResNetConfig) -> Iterator[Pair]:
    """(our activation function, MONAI's): it has parameters where it has learnt slopes."""
    for ours, theirs in _blocks(config):
        yield f"{ours}.activation", f"{theirs}.act"


def _is_idle(key: str) -> bool:
    """Whether an entry may do nothing at inference.

    The autoencoder does nothing, nor the last convolution where ``use_conv_final`` is false.
    """
    return key.startswith(("vae_", "conv_final."))


SEGRESNET = MonaiNetwork(
    "segresnet",
    "SegResNet",
    KEY_PATTERN,
    SegResNetConfig,
    infer_arguments,
    parameter_rules,
    aliases,
    own=own_entries,
    is_idle=_is_idle,
)
convert = SEGRESNET.convert
