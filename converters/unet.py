"""MONAI's 3D ``UNet`` -> `jaxsal.Model`."""

from __future__ import annotations

from functools import partial

from jaxsal.nets.unet_config import UNetConfig
from jaxsal_converters.monai import MonaiNetwork, convert_checkpoint, verify, verify_checkpoint
from jaxsal_converters.unet_architecture import infer_arguments
from jaxsal_converters.unet_keys import KEY_PATTERN, aliases, parameter_rules, renamed

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
