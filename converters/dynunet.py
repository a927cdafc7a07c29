"""MONAI's 3D ``DynUNet``, of any of its versions -> `jaxsal.Model`."""

from __future__ import annotations

from jaxsal.nets.dynunet_config import DynUNetConfig
from jaxsal_converters.dynunet_architecture import infer_arguments
from jaxsal_converters.dynunet_keys import KEY_PATTERN, aliases, own_entries, parameter_rules
from jaxsal_converters.monai import MonaiNetwork


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
