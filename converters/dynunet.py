"""MONAI's 3D ``DynUNet`` -> `jaxsal.Model`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from jaxsal.nets.dynunet_config import DynUNetConfig
from jaxsal_converters.dynunet_architecture import infer_arguments
from jaxsal_converters.dynunet_keys import KEY_PATTERN, aliases, own_entries, parameter_rules
from jaxsal_converters.monai import MonaiNetwork
from jaxsal_converters.rules import apply_rules
from jaxsal_converters.state_dict import State


def convert(
    state: State, given: Mapping[str, Any] | None = None
) -> tuple[DynUNetConfig, dict[str, jax.Array], list[str]]:
    """Architecture and parameters from the state dict of a bare MONAI ``DynUNet``.

    Args:
        state: arrays by MONAI's keys, of any of its versions.
        given: constructor arguments that take precedence over what the shapes show.

    Returns:
        The architecture, the parameters by our names, and a sentence for all that was assumed.

    Raises:
        InputError: entries are missing, extra, misshapen or contradictory.
    """
    entries = own_entries(state)
    arguments, assumptions = infer_arguments(entries, given or {})
    config = DynUNetConfig.from_arguments(arguments)
    rules = parameter_rules(config)
    used = {rule.key for rule in rules.values()}
    needed = {key: value for key, value in entries.items() if key in used or not _is_idle(key)}
    return config, apply_rules(rules, needed), assumptions


def _is_idle(key: str) -> bool:
    """Whether an entry may do nothing at inference.

    Heads of deep supervision do; and older versions of MONAI built shortcuts that they did not use.
    """
    return key.startswith("deep_supervision_heads.") or ".conv3." in key or ".norm3." in key


DYNUNET = MonaiNetwork("dynunet", "DynUNet", KEY_PATTERN, convert, aliases)
