"""Small networks of many families, as PyTorch, MONAI and nnU-Net build them; random weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import nn
from torch.nn import functional

from bench.pytorch.primus import Primus


class Family(NamedTuple):
    """A network, and what it is tried on.

    Attributes:
        make: builds it, freshly initialised.
        size: spatial sizes of the images, three of them or two.
        layer: path of the module whose activations a heat map weights.
    """

    make: Callable[[], nn.Module]
    size: tuple[int, ...]
    layer: str


CHANNELS = 2  # of images and of logits


def random_network(family: Family, seed: int = 0) -> nn.Module:
    """The family's network at inference, no statistic and no norm's value where it starts."""
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = family.make()
    for key, tensor in network.state_dict().items():
        if tensor.ndim == 1 and key.endswith(("weight", "running_var")):
            tensor.uniform_(0.5, 1.5)
        elif key.endswith(("bias", "running_mean")) and tensor.is_floating_point():
            tensor.normal_(0, 0.2)
    return network.eval().requires_grad_(False)


def _monai(name: str, *given: Any, **named: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        from monai.networks import nets

        network: nn.Module = getattr(nets, name)(*given, **named)
        return network

    return make


def _vnet(width: int = 4) -> nn.Module:
    """V-Net at a quarter of the width that MONAI's class has, of MONAI's blocks."""
    from monai.networks.nets import vnet

    elu = ("elu", {"inplace": True})
    network = vnet.VNet(3, **_IO)
    network.in_tr = vnet.InputTransition(3, CHANNELS, width, elu)
    for level, convolutions in enumerate((1, 2, 3, 2)):
        down = vnet.DownTransition(3, width * 2**level, convolutions, elu)
        setattr(network, f"down_tr{32 * 2**level}", down)
    for level, convolutions in enumerate((1, 1, 2, 2)):
        wide = width * 2 ** (level + 1)
        up = vnet.UpTransition(3, min(2 * wide, 16 * width), wide, convolutions, elu)
        setattr(network, f"up_tr{32 * 2**level}", up)
    network.out_tr = vnet.OutputTransition(3, 2 * width, CHANNELS, elu)
    found: nn.Module = network
    return found


def _flexible_unet(part: float = 0.25) -> nn.Module:
    """FlexibleUNet with a part of EfficientNet-B0's width and depth."""
    from monai.networks.nets import efficientnet, flexible_unet

    kind = efficientnet.EfficientNetBNFeatures
    settings = {"model_name": "part", "spatial_dims": 3, "in_channels": 3, "pretrained": False}
    backbone = {"type": kind, "feature_number": 5, "feature_channel": (8, 8, 16, 32, 80)}
    known = flexible_unet.FLEXUNET_BACKBONE.register_dict
    with (
        mock.patch.dict(efficientnet.efficientnet_params, part=(part, part, 32, 0.0, 0.0)),
        mock.patch.dict(known, part={**backbone, "parameter": settings}),
    ):
        network: nn.Module = flexible_unet.FlexibleUNet(
            CHANNELS,
            CHANNELS,
            "part",
            decoder_channels=(16, 8, 8, 4, 4),
            spatial_dims=3,
            act="leakyrelu",  # of so few channels ReLU would let none through
        )
    return network


def _residual_encoder() -> nn.Module:
    from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet

    network = ResidualEncoderUNet(
        *(CHANNELS, 3, [4, 6, 8], nn.Conv3d, 3, [1, 2, 2], [1, 2, 2], CHANNELS, [1, 1]),
        **{"conv_bias": True, "norm_op": nn.InstanceNorm3d},
        **{"norm_op_kwargs": {"eps": 1e-5, "affine": True}, "nonlin": nn.LeakyReLU},
        **{"nonlin_kwargs": {"inplace": True}, "deep_supervision": True},
    )
    network.decoder.deep_supervision = False  # as nnU-Net's inference sets it
    found: nn.Module = network
    return found


class Attention(nn.Module):
    """Attention between the cells of shifted windows, written with einops and torch.roll."""

    def __init__(self, width: int, window: int, heads: int) -> None:
        super().__init__()
        self.window, self.heads = window, heads
        self.norm, self.qkv = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.randn(heads, window**3, window**3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Cells (B, C, X, Y, Z)."""
        from einops import rearrange

        n, half = self.window, self.window // 2
        shifted = torch.roll(x, (-half, -half, -half), (2, 3, 4))
        cells = rearrange(shifted, "b c (x i) (y j) (z k) -> b (x y z) (i j k) c", i=n, j=n, k=n)
        q, k, v = rearrange(
            self.qkv(self.norm(cells)),
            "b w n (three h d) -> three b w h n d",
            three=3,
            h=self.heads,
        )
        scores = torch.einsum("bwhnd,bwhmd->bwhnm", q, k) / q.shape[-1] ** 0.5 + self.bias
        mixed = rearrange(scores.softmax(-1) @ v, "b w h n d -> b w n (h d)")
        sizes = {a: s // n for a, s in zip("xyz", x.shape[2:], strict=True)}
        back = rearrange(
            self.out(mixed),
            "b (x y z) (i j k) c -> b c (x i) (y j) (z k)",
            **sizes,
            **dict.fromkeys("ijk", n),
        )
        return x + torch.roll(back, (half, half, half), (2, 3, 4))


class HandWritten(nn.Module):
    """What people write themselves: functional norms, interpolation, attention, buffers."""

    scale: torch.Tensor

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv3d(CHANNELS, width, 3, padding=1, padding_mode="replicate")
        self.depthwise = nn.Conv3d(width, width, 3, padding=2, dilation=2, groups=width)
        self.down = nn.Conv3d(width, 2 * width, 2, stride=2)
        self.attention = Attention(2 * width, 4, 2)
        self.squeeze, self.excite = nn.Linear(2 * width, 4), nn.Linear(4, 2 * width)
        self.head = nn.Conv3d(3 * width, CHANNELS, 1)
        self.register_buffer("scale", torch.linspace(0.5, 1.5, width).view(1, -1, 1, 1, 1))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits, and features that nobody needs."""
        top = functional.silu(functional.group_norm(self.stem(x), 2)) * self.scale
        top = top + functional.hardswish(functional.instance_norm(self.depthwise(top)))
        below = self.attention(functional.mish(self.down(top)))
        gate = torch.sigmoid(self.excite(functional.relu(self.squeeze(below.mean((2, 3, 4))))))
        below = below * gate[:, :, None, None, None]
        up = functional.interpolate(below, size=top.shape[2:], mode="trilinear")
        features = torch.cat([top, functional.layer_norm(up, up.shape[2:])], dim=1)
        return {"logits": self.head(features), "features": below}


_CUBE = (16, 16, 16)
_UNET = {"channels": (4, 6, 8), "strides": (2, 2)}
_DYNUNET: dict[str, Any] = {
    **{"kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2]},
    **{"filters": [4, 6, 8], "res_block": True},
}
_HIGH_RESOLUTION = (
    {"name": "conv_0", "n_features": 4, "kernel_size": 3},
    {"name": "res_1", "n_features": 4, "kernels": (3, 3), "repeat": 1},
    {"name": "res_2", "n_features": 6, "kernels": (3, 3), "repeat": 1},
    {"name": "res_3", "n_features": 8, "kernels": (3, 3), "repeat": 1},
    {"name": "conv_1", "n_features": 8, "kernel_size": 1},
    {"name": "conv_2", "kernel_size": 1},
)
_PRIMUS: dict[str, Any] = {"patch": 4, "width": 24, "depth": 2, "heads": 2, "registers": 2}
_MEDNEXT: dict[str, Any] = {
    **{"spatial_dims": 3, "init_filters": 4, "in_channels": CHANNELS, "out_channels": CHANNELS},
    **{"encoder_expansion_ratio": 2, "decoder_expansion_ratio": 2, "kernel_size": 3},
    **{"bottleneck_expansion_ratio": 2, "blocks_down": (1, 1), "blocks_up": (1, 1)},
    **{"blocks_bottleneck": 1},
}
_IO = {"in_channels": CHANNELS, "out_channels": CHANNELS}

FAMILIES: dict[str, Family] = {
    "UNet": Family(
        _monai("UNet", spatial_dims=3, norm="batch", **_IO, **_UNET), _CUBE, "model.1.submodule.2"
    ),
    "DynUNet": Family(
        _monai("DynUNet", spatial_dims=3, **_IO, **_DYNUNET), _CUBE, "upsamples.0.conv_block"
    ),
    "SwinUNETR": Family(
        _monai(
            "SwinUNETR",
            **_IO,
            feature_size=12,
            depths=(2, 1, 1, 1),
            norm_name=("group", {"num_groups": 2}),
        ),
        (32, 32, 32),
        "decoder2",
    ),
    "SegResNet": Family(_monai("SegResNet", init_filters=8, **_IO), _CUBE, "up_layers.1.0"),
    "SegResNetDS": Family(
        _monai("SegResNetDS", init_filters=8, **_IO, blocks_down=(1, 2), dsdepth=2),
        _CUBE,
        "encoder.layers.0.blocks",
    ),
    "AttentionUnet": Family(
        _monai("AttentionUnet", 3, **_IO, channels=(4, 8, 8), strides=(2, 2)),
        _CUBE,
        "model.1.merge",
    ),
    "BasicUNet": Family(
        _monai("BasicUNet", 3, **_IO, features=(4, 4, 8, 8, 8, 4)), (32, 32, 32), "upcat_2"
    ),
    "BasicUNetPlusPlus": Family(
        _monai("BasicUNetPlusPlus", 3, **_IO, features=(4, 4, 8, 8, 8, 4), norm="batch"),
        _CUBE,
        "upcat_1_3",
    ),
    "VNet": Family(_vnet, _CUBE, "up_tr32"),
    "UNETR": Family(
        _monai(
            "UNETR",
            **_IO,
            img_size=_CUBE,
            feature_size=4,
            hidden_size=24,
            mlp_dim=32,
            num_heads=3,
        ),
        _CUBE,
        "decoder3",
    ),
    "MedNeXt": Family(_monai("MedNeXt", **_MEDNEXT), _CUBE, "dec_stages.0"),
    "FlexibleUNet": Family(_flexible_unet, (32, 32, 32), "decoder.blocks.3"),
    "HighResNet": Family(
        _monai("HighResNet", 3, **_IO, layer_params=_HIGH_RESOLUTION), _CUBE, "blocks.2"
    ),
    "ResidualEncoderUNet": Family(_residual_encoder, _CUBE, "decoder.stages.0"),
    "Primus": Family(
        partial(Primus, CHANNELS, CHANNELS, _CUBE, **_PRIMUS), _CUBE, "up_projection.decode.0"
    ),
    "UNet, 2D": Family(
        _monai("UNet", spatial_dims=2, norm="batch", **_IO, **_UNET),
        (16, 16),
        "model.1.submodule.2",
    ),
    "hand-written": Family(HandWritten, _CUBE, "attention"),
}
