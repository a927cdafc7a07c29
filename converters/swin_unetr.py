"""MONAI's 3D ``SwinUNETR`` -> `jaxsal.Model`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import jax

from jaxsal.errors import InputError
from jaxsal.nets.swin_unetr_config import OCTANTS, OLD_MERGING, SwinUNETRConfig
from jaxsal_converters.monai import MonaiNetwork
from jaxsal_converters.rules import apply_rules
from jaxsal_converters.state_dict import State
from jaxsal_converters.swin_unetr_architecture import infer_arguments, is_rebuilt
from jaxsal_converters.swin_unetr_keys import KEY_PATTERN, aliases, parameter_rules


def convert(
    state: State, given: Mapping[str, Any] | None = None
) -> tuple[SwinUNETRConfig, dict[str, jax.Array], list[str]]:
    """Architecture and parameters from the state dict of a bare MONAI ``SwinUNETR``.

    Args:
        state: arrays by MONAI's keys, of any of its versions.
        given: constructor arguments that take precedence over what the shapes show.

    Returns:
        The architecture, the parameters by our names, and a sentence for all that was assumed.

    Raises:
        InputError: entries are missing, extra or misshapen, or they are those of another network.
    """
    arguments, assumptions = infer_arguments(state, given or {})
    config = SwinUNETRConfig.from_arguments(arguments)
    entries = {key: value for key, value in state.items() if not is_rebuilt(key)}
    return config, apply_rules(parameter_rules(config), entries), assumptions


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


SWIN_UNETR = MonaiNetwork("swin-unetr", "SwinUNETR", KEY_PATTERN, convert, aliases, restate)
