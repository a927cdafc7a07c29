"""The architecture of MONAI's 3D ``DynUNet``, as its constructor's arguments describe it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from jaxsal.errors import InputError
from jaxsal.nets.architecture import (
    Architecture,
    Argument,
    Count,
    as_convolution_norm,
    as_counts,
    check_first_stride,
    setting_or_empty,
)
from jaxsal.nets.settings import (
    Setting,
    as_activation,
    as_count,
    as_dropout,
    as_flag,
    as_triples,
    check_odd,
    check_widths,
    product,
)
from jaxsal.types import Triple

_UNSTRIDED = (1, 1, 1)
_SIZES = Argument(as_triples)
_NORM = Argument(as_convolution_norm, ("instance", {"affine": True}), setting_or_empty)
_ACT = Argument(as_activation, ("leakyrelu", {"negative_slope": 0.01}), setting_or_empty)


@dataclass(frozen=True)
class DynUNetConfig(Architecture):
    """Architecture of a `DynUNet`; the fields have the meaning of MONAI's constructor arguments.

    Make one with `DynUNetConfig.from_arguments`, which fills in MONAI's defaults and checks.
    Deep supervision is not part of it: its heads do nothing at inference.
    """

    kind: ClassVar[str] = "dynunet"
    source: ClassVar[str] = "monai.networks.nets.DynUNet"
    further: ClassVar[Mapping[str, Any]] = {
        "spatial_dims": 3,
        "deep_supervision": False,
        "deep_supr_num": 1,
    }

    in_channels: Count
    out_channels: Count
    kernel_size: Annotated[tuple[Triple, ...], _SIZES]
    strides: Annotated[tuple[Triple, ...], _SIZES]
    upsample_kernel_size: Annotated[tuple[Triple, ...], _SIZES]
    filters: Annotated[tuple[int, ...], Argument(as_counts, None)]
    dropout: Annotated[float, Argument(as_dropout, None)]
    norm_name: Annotated[Setting | None, _NORM]
    act_name: Annotated[Setting | None, _ACT]
    res_block: Annotated[bool, Argument(as_flag, False)]
    trans_bias: Annotated[bool, Argument(as_flag, False)]

    @classmethod
    def stated(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        levels = len(as_triples("strides", arguments["strides"]))
        filters = arguments["filters"]
        if filters is None:  # MONAI's default, after nnU-Net
            filters = tuple(min(2 ** (5 + level), 320) for level in range(levels))
        filters = as_counts("filters", filters)
        if len(filters) < levels:
            raise InputError(
                f"filters needs as many entries as strides, {levels}; got {list(filters)}"
            )
        return {**arguments, "filters": filters[:levels]}

    def check(self, arguments: Mapping[str, Any]) -> None:
        as_flag("deep_supervision", arguments["deep_supervision"])
        as_count("deep_supr_num", arguments["deep_supr_num"])
        self._check_sizes(self.upsample_kernel_size)
        check_widths(self.norm_name, self.act_name, self.filters)

    @property
    def levels(self) -> int:
        """Number of encoder levels above the bottleneck."""
        return len(self.filters) - 1

    @property
    def divisor(self) -> Triple:
        """What each spatial size of an input must be a multiple of."""
        return product(self.strides)

    def _check_sizes(self, upsample: tuple[Triple, ...]) -> None:
        kernels, strides = self.kernel_size, self.strides
        if len(kernels) != len(strides) or len(strides) < 3:
            raise InputError(
                "kernel_size and strides need one entry per level, at least three; got "
                f"{len(kernels)} and {len(strides)}"
            )
        check_odd("kernel_size", kernels)
        check_first_stride(strides)
        if upsample != strides[1:]:
            raise InputError(
                "upsample_kernel_size must equal strides without its first entry, else the sizes "
                f"of the levels do not match; got {[list(k) for k in upsample]} with strides "
                f"{[list(s) for s in strides]}"
            )
        for kernel, stride in zip(kernels, strides, strict=True):
            kernels_there = [kernel, _UNSTRIDED] if self.res_block else [kernel]
            if any(s > k + 1 for size in kernels_there for s, k in zip(stride, size, strict=True)):
                raise InputError(
                    "a stride can be at most one more than the kernel (with res_block: at most "
                    f"2); got stride {list(stride)} with kernel {list(kernel)}"
                )
