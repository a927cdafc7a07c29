"""MONAI's 3D ``SwinUNETR``, of any of its versions -> `jaxsal.Model`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from jaxsal.errors import InputError
from jaxsal.nets.swin_unetr_config import OCTANTS, OLD_MERGING, SwinUNETRConfig
from jaxsal_converters.monai import MonaiNetwork
from jaxsal_converters.swin_unetr_architecture import infer_arguments, is_rebuilt
from jaxsal_converters.swin_unetr_keys import KEY_PATTERN, aliases, parameter_rules


def restate(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Our constructor arguments -> those with which MONAI 1.5 and newer compute the same.

    Raises:
        InputError: an older MONAI is installed, to which the same arguments mean something else.
    """
    import torch
    from monai.networks.nets.swin_unetr import PatchMergingV2, SwinUNETR

    if "img_size" in inspect.signature(SwinUNETR).parameters:
        raise InputError("comparing with MONAI needs version 1.5 or newer of it")

    class OldMerging(PatchMergingV2):
        """What "merging" was until MONAI 1.4."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            starts = (map(int, octant) for octant in OCTANTS[OLD_MERGING])
            parts = [x[:, i::2, j::2, k::2] for i, j, k in starts]
            return self.reduction(self.norm(torch.cat(parts, -1)))

    is_old = arguments["downsample"] == OLD_MERGING
    return {**arguments, "downsample": OldMerging} if is_old else dict(arguments)


SWIN_UNETR = MonaiNetwork(
    "swin-unetr",
    "SwinUNETR",
    KEY_PATTERN,
    SwinUNETRConfig,
    infer_arguments,
    parameter_rules,
    aliases,
    restate,
    is_idle=is_rebuilt,
)
convert = SWIN_UNETR.convert
