"""``jaxsal convert torch``: from a .pt2 to a model directory, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.programs import save_program
from helpers.tiny import CHANNELS, ROI, SHAPE, TinyScan, load, save
from monai.networks.nets import SegResNet
from torch import nn

from jaxsal.checkpoints import load_model
from jaxsal.cli.main import main

pytestmark = pytest.mark.usefixtures("xla_convolutions")

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # importing it raises ImportError
from jaxsal.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


class Network(nn.Module):
    """A convolution, a norm, and coarse logits beside the fine ones."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv3d(2, 3, 3, padding=1), nn.BatchNorm3d(3), nn.ReLU())
        self.head = nn.Conv3d(3, 2, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.head(self.body(x))
        return {"fine": logits, "coarse": nn.functional.avg_pool3d(logits, 2), "same": logits + 1}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("programs") / "network.pt2"
    return save_program(Network(), path, torch.randn(1, 2, 4, 6, 8))


def test_a_program_becomes_a_model_directory(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model"
    options = ["--channels", "flair", "t1", "--threshold", "0.4", "--output", "fine", "--verify"]
    given = ["--voxel-size", "1", "1", "1", "--orientation", "RAS", "--outputs", "none", "lesion"]
    assert main(["convert", "torch", str(program), "--out", str(out), *options, *given]) == 0
    printed = capsys.readouterr().out
    difference = float(printed.partition("relative to the largest: ")[2].split()[0])
    assert difference < 1e-5
    model = load_model(out)
    assert (model.channels, model.threshold, model.roi) == (("flair", "t1"), 0.4, (4, 6, 8))
    assert model.source["file"] == "network.pt2"
    assert model.outputs is not None
    assert model.outputs.names == ("none", "lesion")
    assert model.preprocessing is not None
    assert model.preprocessing.orientation == "RAS"

    assert main(["info", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) < 500  # the graph is not printed
    assert "size must be: 4 × 6 × 8" in lines
    layers = [line.split()[0] for line in lines[-5:]]
    assert layers == ["body.0", "body.1", "body.2", "body", "head"]


def test_torch_is_not_needed(program: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    command = ["convert", "torch", str(program), "--out", str(out), "--output", "same"]
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *command], check=True)
    record = json.loads((out / "model.json").read_text())
    assert record["network"]["kind"] == "graph"
    assert record["source"]["output"] == "same"


@pytest.mark.thorough
def test_maps_of_a_converted_network_need_no_torch(scan: TinyScan, tmp_path: Path) -> None:
    """From an exported SegResNet to a lesion's maps, where torch cannot be imported."""
    torch.manual_seed(0)
    levels = {"blocks_down": (1, 1), "blocks_up": (1,)}
    network = SegResNet(3, 8, 2, 2, **levels)
    program = save_program(network, tmp_path / "network.pt2", torch.randn(1, 2, *ROI))
    labels = np.zeros(SHAPE, np.uint8)
    labels[10:12, 12, 8] = 1
    lesions = save(tmp_path / "lesions.nii.gz", labels)
    model, maps = tmp_path / "model", tmp_path / "maps"
    for command in (
        ("convert", "torch", program, "--out", model, "--channels", *CHANNELS),
        ("explain", model, "--image", *scan.images, "--instances", lesions, "--out", maps),
    ):
        words = [*map(str, command), *(["--samples", "1"] if "explain" in command else [])]
        subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *words], check=True)
    for channel in CHANNELS:
        assert np.any(load(maps / f"maps/lesion-0001_{channel}_smoothgrad-max.nii.gz"))


def test_a_program_is_known_wherever_another_file_is_expected(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (
        ["convert", "unet", str(program), "--out", str(tmp_path / "model")],
        ["info", str(program)],
    ):
        assert main(command) != 0
        assert f"`jaxsal convert torch {program} --out MODEL_DIR`" in capsys.readouterr().err


def test_mistakes_leave_nothing_behind(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model"
    for options, reason in {
        (): "--output; its outputs are fine",
        ("--output", "coarse"): "the image's spatial sizes",
        ("--output", "fine", "--channels", "flair"): "2 input channels",
        ("--output", "fine", "--roi", "8"): "windows of 4 × 6 × 8 voxels; got roi 8 × 8 × 8",
    }.items():
        assert main(["convert", "torch", str(program), "--out", str(out), *options]) != 0
        assert reason in capsys.readouterr().err
        assert not out.exists()
    assert main(["convert", "torch", str(tmp_path / "none.pt2"), "--out", str(out)]) != 0
    assert "none.pt2 does not exist" in capsys.readouterr().err
