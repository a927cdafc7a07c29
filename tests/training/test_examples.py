"""The configurations that come with jaxsal: valid, and of the paper's networks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from monai.networks.nets import DynUNet, SwinUNETR, UNet

from jaxsal.cli.main import main
from jaxsal.losses import DICE_AND_BLOB
from jaxsal.nets.registry import parameter_shapes, statistics_names
from jaxsal.training.config import read_config

NETWORKS: dict[str, Any] = {
    "unet": lambda: UNet(3, 2, 2, (32, 64, 128, 256, 512), (2, 2, 2, 2), norm="batch"),
    "nnunet": lambda: DynUNet(
        *(3, 2, 2, [3, 3, 3], [1, 2, 2], [2, 2], [16, 32, 64]),
        dropout=0.1,
        res_block=True,
        norm_name="instance",
        act_name="leakyrelu",
    ),
    "swin-unetr": lambda: SwinUNETR(in_channels=2, out_channels=2, feature_size=24),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_an_example_is_of_the_papers_network(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--example", name]) == 0
    path = tmp_path / "train.toml"
    path.write_text(capsys.readouterr().out, encoding="utf-8")
    config = read_config(path)
    assert config.network is not None
    shapes = parameter_shapes(config.network)
    measured = statistics_names(config.network)
    ours = sum(math.prod(shape) for key, shape in shapes.items() if key not in measured)
    assert ours == sum(p.numel() for p in NETWORKS[name]().parameters())
    assert config.patches.size == (96, 96, 96)
    assert config.loss.weights == DICE_AND_BLOB.weights
    assert getattr(config.network, "dropout", 0.0) == (0.1 if name == "nnunet" else 0.0)
