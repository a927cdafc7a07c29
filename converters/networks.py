"""The networks of MONAI's that can be converted, by their names on the command line."""

from __future__ import annotations

from jaxsal_converters.dynunet import DYNUNET
from jaxsal_converters.monai import MonaiNetwork
from jaxsal_converters.swin_unetr import SWIN_UNETR
from jaxsal_converters.unet import UNET

MONAI_NETWORKS: dict[str, MonaiNetwork] = {n.name: n for n in (UNET, DYNUNET, SWIN_UNETR)}
