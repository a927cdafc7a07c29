"""MONAI's 3D ``UNet`` -> `jaxsal.Model`: its modules and keys, and ours.

MONAI nests level i + 1 into level i: ``P(0) = model``, ``P(i + 1) = P(i).1.submodule``.

=====================  ============================================================
ours                   MONAI's
=====================  ============================================================
encoder.i              P(i).0
bottleneck             P(number of levels)
decoder.i.joined       P(i).1
decoder.i.upsample     P(i).2, with residual units P(i).2.0
decoder.i.refine       P(i).2.1
…units.j               ….conv.unit{j}
…shortcut              ….residual
…conv                  ….conv
…norm, …activation     ….adn.N, ….adn.A
=====================  ============================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from jaxsal.nets.unet_config import UNetConfig
from jaxsal_converters.monai import MonaiNetwork, convert_checkpoint, verify, verify_checkpoint
from jaxsal_converters.rules import Rule, aliases_of, plain_rule, rules_of
from jaxsal_converters.state_dict import State
from jaxsal_converters.unet_architecture import infer_arguments, level_path

KEY_PATTERN = r"model\.(?:0|1\.submodule|2)\."  # how every key of a bare network begins
_OLD = re.compile(r"(?<=\.)(norm|act)(?=\.)")
_NEW = {"norm": "adn.N", "act": "adn.A"}


def renamed(state: State) -> State:
    """The entries of MONAI 0.3 and older by its newer keys.

    Until then, norm and activation were modules of their own beside the convolution: ``….norm``
    and ``….act`` instead of ``….adn.N`` and ``….adn.A``.
    """
    if any(".adn." in key for key in state):
        return dict(state)
    return {_OLD.sub(lambda m: _NEW[m[1]], key): value for key, value in state.items()}


def parameter_rules(config: UNetConfig) -> dict[str, Rule]:
    """The rule for every parameter of ours, by its name."""
    return rules_of(config, _paths(config), partial(_rule, config))


def aliases(config: UNetConfig) -> dict[str, str]:
    """MONAI's path of every module whose output is a layer of ours -> our layer name."""
    return aliases_of(config, _paths(config))


def _rule(config: UNetConfig, key: str, shape: tuple[int, ...]) -> Rule:
    if len(shape) == 4:  # layer norm over the last axes of (C, X, Y, Z)
        assert config.norm is not None
        return Rule(key, dict(config.norm[1])["normalized_shape"], (1, 2, 3, 0))
    return plain_rule(key, shape)


def _paths(config: UNetConfig) -> Iterator[tuple[str, str]]:
    """(our layer, MONAI's module path) for all modules; a layer can have several paths."""
    residual = config.num_res_units > 0
    for level in range(config.levels):
        ours, theirs, is_top = f"decoder.{level}", level_path(level), level == 0
        yield from _encoder_block(config, f"encoder.{level}", f"{theirs}.0")
        yield f"{ours}.joined", f"{theirs}.1"
        upsample = f"{theirs}.2.0" if residual else f"{theirs}.2"
        conv_only = is_top and not residual
        yield from _convolution(config, f"{ours}.upsample", upsample, conv_only)
        if residual:
            yield from _residual(config, f"{ours}.refine", f"{theirs}.2.1", 1, is_top)
            yield ours, f"{theirs}.2"
        yield ours, theirs
    yield from _encoder_block(config, "bottleneck", level_path(config.levels))


def _encoder_block(config: UNetConfig, ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    if config.num_res_units == 0:
        return _convolution(config, ours, theirs)
    return _residual(config, ours, theirs, config.num_res_units)


def _residual(
    config: UNetConfig, ours: str, theirs: str, units: int, last_conv_only: bool = False
) -> Iterator[tuple[str, str]]:
    for j in range(units):
        conv_only = last_conv_only and j == units - 1
        yield from _convolution(config, f"{ours}.units.{j}", f"{theirs}.conv.unit{j}", conv_only)
    yield f"{ours}.units.{units - 1}", f"{theirs}.conv"
    yield f"{ours}.shortcut", f"{theirs}.residual"
    yield ours, theirs


def _convolution(
    config: UNetConfig, ours: str, theirs: str, conv_only: bool = False
) -> Iterator[tuple[str, str]]:
    yield f"{ours}.conv", f"{theirs}.conv"
    yield ours, theirs
    if conv_only:
        return
    yield ours, f"{theirs}.adn"
    output = f"{ours}.conv"
    steps = {
        "N": "norm" if config.norm else None,
        "A": "activation" if config.act else None,
        "D": "dropout" if config.dropout else None,
    }
    for letter in config.adn_ordering:
        if steps[letter]:
            output = f"{ours}.{steps[letter]}"
        elif letter != "D":  # MONAI builds dropout of rate 0 too; it passes its input on
            continue
        yield output, f"{theirs}.adn.{letter}"


UNET = MonaiNetwork(
    "unet",
    "UNet",
    KEY_PATTERN,
    UNetConfig,
    infer_arguments,
    parameter_rules,
    aliases,
    renamed=renamed,
)
convert = UNET.convert
convert_unet = partial(convert_checkpoint, UNET)
verify_unet = partial(verify_checkpoint, UNET)
verify = partial(verify, UNET)
