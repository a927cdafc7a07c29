"""The architecture of MONAI's 3D ``MedNeXt``, by constructor arguments, and of MIC-DKFZ's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from jaxsal.errors import InputError
from jaxsal.nets.architecture import Architecture, Argument, as_counts
from jaxsal.nets.settings import as_count, as_flag
from jaxsal.types import Triple

NORMS = ("group", "layer")
_BLOCKS = (2, 2, 2, 2)


def _as_ratios(name: str, value: Any) -> int | tuple[int, ...] | None:
    """One ratio for all levels, one for each, or none."""
    return as_counts(name, value) if isinstance(value, list | tuple) else as_count(name, value)


def _as_own_ratios(name: str, value: Any) -> int | tuple[int, ...] | None:
    return None if value is None else _as_ratios(name, value)


def _as_kernel_size(name: str, value: Any) -> int:
    size = as_count(name, value)
    if size % 2 == 0:
        raise InputError(f"{name} must be odd, got {value!r}")
    return size


def _as_norm_type(name: str, value: Any) -> str:
    if value not in NORMS:
        raise InputError(f"{name} must be one of {', '.join(NORMS)}; got {value!r}")
    return str(value)


@dataclass(frozen=True)
class MedNeXtConfig(Architecture):
    """Architecture of a `MedNeXt`; the fields have the meaning of MONAI's constructor arguments.

    Make one with `MedNeXtConfig.from_arguments`, which fills in MONAI's defaults and checks. Deep
    supervision is not part of it: its heads do nothing at inference. Two things are of MIC-DKFZ's
    network and not of MONAI's: ``norm_type`` "layer" normalises over the channels (MONAI's own,
    over a grid of the kernel's size, cannot be run), and ``down_expansion_ratio`` is that of the
    blocks that halve the size; None: that of the level above, as in MONAI.
    """

    kind: ClassVar[str] = "mednext"
    source: ClassVar[str] = "monai.networks.nets.MedNeXt"
    further: ClassVar[Mapping[str, Any]] = {"spatial_dims": 3, "deep_supervision": False}
    repeated: ClassVar[tuple[str, ...]] = ("blocks_down", "blocks_bottleneck", "blocks_up")

    init_filters: Annotated[int, Argument(as_count, 32)]
    in_channels: Annotated[int, Argument(as_count, 1)]
    out_channels: Annotated[int, Argument(as_count, 2)]
    encoder_expansion_ratio: Annotated[tuple[int, ...], Argument(_as_ratios, 2)]
    decoder_expansion_ratio: Annotated[tuple[int, ...], Argument(_as_ratios, 2)]
    bottleneck_expansion_ratio: Annotated[int, Argument(as_count, 2)]
    kernel_size: Annotated[int, Argument(_as_kernel_size, 7)]
    use_residual_connection: Annotated[bool, Argument(as_flag, False)]
    blocks_down: Annotated[tuple[int, ...], Argument(as_counts, _BLOCKS)]
    blocks_bottleneck: Annotated[int, Argument(as_count, 2)]
    blocks_up: Annotated[tuple[int, ...], Argument(as_counts, _BLOCKS)]
    norm_type: Annotated[str, Argument(_as_norm_type, "group")]
    global_resp_norm: Annotated[bool, Argument(as_flag, False)]
    down_expansion_ratio: Annotated[tuple[int, ...], Argument(_as_own_ratios, None)]

    @classmethod
    def stated(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        stated, levels = dict(arguments), len(as_counts("blocks_down", arguments["blocks_down"]))
        for name in ("encoder_expansion_ratio", "decoder_expansion_ratio"):
            if not isinstance(stated[name], list | tuple):
                stated[name] = (stated[name],) * levels
        if stated["down_expansion_ratio"] is None:
            stated["down_expansion_ratio"] = stated["encoder_expansion_ratio"]
        return stated

    def check(self, arguments: Mapping[str, Any]) -> None:
        as_flag("deep_supervision", arguments["deep_supervision"])
        if len(self.blocks_up) != self.levels:
            raise InputError(
                "blocks_up and blocks_down need as many entries; got "
                f"{list(self.blocks_up)} with {list(self.blocks_down)}"
            )
        for name in ("encoder", "decoder", "down"):
            ratios = getattr(self, f"{name}_expansion_ratio")
            if len(ratios) != self.levels:
                raise InputError(
                    f"{name}_expansion_ratio needs one number, or one per level ({self.levels}); "
                    f"got {list(ratios)}"
                )

    @property
    def levels(self) -> int:
        """Number of levels above the bottleneck."""
        return len(self.blocks_down)

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of channels of each level, the bottleneck's last."""
        return tuple(self.init_filters * 2**level for level in range(self.levels + 1))

    @property
    def divisor(self) -> Triple:
        """What each spatial size of an input must be a multiple of."""
        factor = 2**self.levels
        return factor, factor, factor
