"""The three networks of the paper, whole or narrower, with random weights or the trained ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.case import CHANNELS, PAPER_UNET, random_parameters
from bench.patient import CHECKPOINT
from jaxsal.model import Model
from jaxsal.nets.dynunet_config import DynUNetConfig
from jaxsal.nets.registry import NetworkConfig, config_from_arguments
from jaxsal.nets.swin_unetr_config import SwinUNETRConfig
from jaxsal.nets.unet_config import UNetConfig
from jaxsal.types import Triple


@dataclass(frozen=True)
class PaperNetwork:
    """A network of the paper.

    Attributes:
        name: as the paper has it.
        kind: jaxsal's key.
        arguments: of MONAI's constructor.
        layers: of the encoder, the bottleneck and the decoder, to make heat maps of.
        least: the smallest window on which the bottleneck has positions in space.
    """

    name: str
    kind: str
    arguments: Mapping[str, Any]
    layers: tuple[str, str, str]
    least: Triple

    def config(self, width: float = 1.0) -> NetworkConfig:
        """The architecture with this share of its features."""
        config = config_from_arguments(self.kind, self.arguments)
        if width == 1:
            return config
        if isinstance(config, UNetConfig):
            return replace(config, channels=_narrowed(config.channels, width))
        if isinstance(config, DynUNetConfig):
            return replace(config, filters=_narrowed(config.filters, width))
        assert isinstance(config, SwinUNETRConfig)
        # MONAI takes multiples of 12 only; the architecture is defined for any that the heads share
        (features,) = _narrowed((config.feature_size,), width)
        heads = tuple(
            2**stage if features * 2**stage % count else count
            for stage, count in enumerate(config.num_heads)
        )
        return replace(config, feature_size=features, num_heads=heads)

    def model(self, width: float = 1.0, seed: int = 0) -> Model:
        """With random weights."""
        config = self.config(width)
        return Model(config, random_parameters(config, seed), CHANNELS)


UNET = PaperNetwork(
    "U-Net",
    UNetConfig.kind,
    PAPER_UNET,
    ("encoder.1", "bottleneck", "decoder.1.upsample.conv"),
    (32, 16, 16),
)
NNUNET = PaperNetwork(
    "nnU-Net (DynUNet)",
    DynUNetConfig.kind,
    {
        "in_channels": 2,
        "out_channels": 2,
        "kernel_size": [3, 3, 3],
        "strides": [1, 2, 2],
        "upsample_kernel_size": [2, 2],
        "filters": [16, 32, 64],
        "dropout": 0.1,
        "res_block": True,
        "norm_name": "instance",
        "act_name": "leakyrelu",
    },
    ("encoder.1", "bottleneck", "decoder.1"),
    (8, 8, 8),
)
SWIN_UNETR = PaperNetwork(
    "Swin UNETR",
    SwinUNETRConfig.kind,
    {"in_channels": 2, "out_channels": 2},
    ("stages.2", "bottleneck", "decoder.4"),
    (64, 32, 32),
)
PAPER_NETWORKS = {"unet": UNET, "dynunet": NNUNET, "swin-unetr": SWIN_UNETR}


def trained_unet(shared: Path) -> Model | None:
    """The paper's U-Net with its published weights, where they are at hand."""
    path = shared / CHECKPOINT
    if not path.is_file():
        return None
    from jaxsal_converters.unet import convert_unet

    return convert_unet(path, channels=CHANNELS, threshold=0.3)[0]


def _narrowed(widths: tuple[int, ...], share: float) -> tuple[int, ...]:
    return tuple(max(round(width * share), 1) for width in widths)


def narrowest(config: NetworkConfig) -> int:
    """Number of channels on the finest level."""
    if isinstance(config, UNetConfig):
        return config.channels[0]
    if isinstance(config, DynUNetConfig):
        return config.filters[0]
    assert isinstance(config, SwinUNETRConfig)
    return config.feature_size
