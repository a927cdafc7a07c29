"""From what is published to maps in three commands: convert, predict, explain."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from helpers.nnunet_folders import RESIDUAL, dataset, plans, write_results
from helpers.tiny import SHAPE, TinyScan, load, read_table
from monai.networks.nets import DynUNet

from jaxsal.cli.main import main

pytestmark = [pytest.mark.thorough, pytest.mark.filterwarnings("ignore:the images were resampled")]
LESION = 18
CLASSES = 20


def run(*words: object) -> None:
    assert main([*map(str, words)]) == 0


def test_a_zip_of_nnunets_for_flair_and_scans_of_another_voxel_size(
    scan: TinyScan, tmp_path: Path
) -> None:
    """As FLAMeS is: FLAIR alone, residual encoder, a spacing of its own."""
    name = "Dataset004_WML/nnUNetTrainer_8000epochs__nnUNetResEncUNetMPlans__3d_fullres"
    told = plans(RESIDUAL, image_reader_writer="NibabelIOWithReorient")
    told["configurations"]["3d_fullres"] |= {
        **{"normalization_schemes": ["ZScoreNormalization"], "use_mask_for_norm": [True]},
        "spacing": [1.0, 1.0, 1.25],
    }
    write_results(tmp_path / "results" / name, told, dataset(channel_names={"0": "FLAIR"}))
    with zipfile.ZipFile(tmp_path / "FLAMeS.zip", "w") as archive:
        for path in (tmp_path / "results").rglob("*.*"):
            archive.write(path, path.relative_to(tmp_path / "results"))
    (tmp_path / "images").mkdir()
    shutil.copy(scan.flair, tmp_path / "images" / "MS_1_0000.nii.gz")
    model, images = tmp_path / "model", ("--image", tmp_path / "images")

    run("convert", "nnunet", tmp_path / "FLAMeS.zip", "--out", model)
    run("predict", model, *images, "--out", tmp_path / "found")
    probability = load(tmp_path / "found/prediction.nii.gz")
    threshold = float(np.quantile(probability[probability > 0], 0.97))
    options = ("--threshold", threshold, "--samples", 1, "--max-voxels", 60)
    run("explain", model, *images, "--out", tmp_path / "maps", *options)
    expect_maps(tmp_path / "maps", "FLAIR", scan)

    cohort = tmp_path / "images", "--out", tmp_path / "cohort"
    run("cohort", "run", model, *cohort, *options[:-2], "--output", "table")
    rows = read_table(tmp_path / "cohort/lesions.tsv")
    assert {row["scan"] for row in rows} == {"MS_1"}
    assert {row["label"] for row in read_table(tmp_path / "maps/instances.tsv")} <= {
        row["label"] for row in rows
    }


def test_a_checkpoint_of_twenty_classes_and_scans_of_another_voxel_size(
    scan: TinyScan, tmp_path: Path
) -> None:
    """As MindGlide is: one sequence, many classes, lesions being one of them."""
    torch.manual_seed(0)
    levels = {"strides": [1, 2, 2], "kernel_size": [3, 3, 3], "upsample_kernel_size": [2, 2]}
    network = DynUNet(3, 1, CLASSES, **levels, filters=[4, 6, 8], res_block=True)
    with torch.no_grad():
        network.output_block.conv.conv.bias[LESION] += 0.5
    torch.save(network.state_dict(), tmp_path / "mindglide.pt")
    told = ("--channels", "flair", "--voxel-size", 1.25, 1, 1, "--target", LESION)
    model = tmp_path / "model"

    run("convert", "dynunet", tmp_path / "mindglide.pt", "--out", model, *told)
    found = ("--image", scan.flair, "--roi", 16, "--domain", "argmax")
    run("predict", model, *found, "--out", tmp_path / "found")
    assert nib.load(tmp_path / "found/prediction.nii.gz").shape == SHAPE
    options = ("--samples", 1, "--max-voxels", 60, "--resample", "linear")
    run("explain", model, *found, "--out", tmp_path / "maps", *options)
    expect_maps(tmp_path / "maps", "flair", scan)


def expect_maps(folder: Path, channel: str, scan: TinyScan) -> None:
    """Maps that lie on the network's grid, and lesions on the scan's."""
    assert nib.load(folder / "instances.nii.gz").shape == SHAPE
    rows = read_table(folder / "instances.tsv")
    assert rows
    label = int(rows[0]["label"])
    found = nib.load(folder / f"maps/lesion-{label:04d}_{channel}_smoothgrad-max.nii.gz")
    sizes = sorted(np.linalg.norm(found.affine[:3, :3], axis=0))
    np.testing.assert_allclose(sizes, [1.0, 1.0, 1.25], rtol=0.05)
    assert np.abs(np.asarray(found.dataobj)).max() > 0
    assert (folder / f"pictures/lesion-{label:04d}.png").is_file()
