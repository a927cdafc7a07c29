"""MONAI's 3D ``UNet`` -> `jaxsal.Model`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax

from jaxsal.nets.unet_config import UNetConfig
from jaxsal_converters.monai import MonaiNetwork, convert_checkpoint, verify, verify_checkpoint
from jaxsal_converters.rules import apply_rules
from jaxsal_converters.state_dict import State
from jaxsal_converters.unet_architecture import infer_arguments
from jaxsal_converters.unet_keys import KEY_PATTERN, aliases, parameter_rules, renamed


def convert(
    state: State, given: Mapping[str, Any] | None = None
) -> tuple[UNetConfig, dict[str, jax.Array], list[str]]:
    """Architecture and parameters from the state dict of a bare MONAI ``UNet``.

    Args:
        state: arrays by MONAI's keys.
        given: constructor arguments that take precedence over what the shapes show.

    Returns:
        The architecture, the parameters by our names, and a sentence for all that was assumed.

    Raises:
        InputError: entries are missing, extra or misshapen, or the architecture is unclear.
    """
    arguments, assumptions = infer_arguments(state, given or {})
    config = UNetConfig.from_arguments(arguments)
    return config, apply_rules(parameter_rules(config), state), assumptions


UNET = MonaiNetwork("unet", "UNet", KEY_PATTERN, convert, aliases, renamed=renamed)
convert_unet = partial(convert_checkpoint, UNET)
verify_unet = partial(verify_checkpoint, UNET)
verify = partial(verify, UNET)
