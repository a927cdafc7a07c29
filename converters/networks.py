"""The networks of MONAI's that can be converted, by their names on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxsal.registry import Registry

if TYPE_CHECKING:
    from jaxsal_converters.monai import MonaiNetwork

MONAI_NETWORKS: Registry[MonaiNetwork] = Registry(
    "network of MONAI's",
    "jaxsal.monai_networks",
    {
        "unet": "jaxsal_converters.unet:UNET",
        "dynunet": "jaxsal_converters.dynunet:DYNUNET",
        "swin-unetr": "jaxsal_converters.swin_unetr:SWIN_UNETR",
    },
)
