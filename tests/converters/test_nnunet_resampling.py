"""Scans of other voxel sizes than the plans': nnU-Net's rules, its probabilities and lesions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from helpers import nnunet_resampling as nnunet
from helpers.nnunet_folders import PLAIN, RESIDUAL, dataset, plans, write_results
from helpers.nnunet_inference import predictors_probability, sliding_window_logits
from helpers.tiny import load
from scipy import ndimage

from jaxsal.errors import InputError
from jaxsal.inputs.entries import Scan
from jaxsal.resampling import Resampling, Spline
from jaxsal.scan.predict import predict
from jaxsal.scan.prediction import for_model
from jaxsal.settings import PredictSettings
from jaxsal_converters.nnunet import convert_nnunet
from jaxsal_converters.nnunet_resampling import read_resampling
from jaxsal_converters.nnunet_source import torch_network

pytestmark = pytest.mark.usefixtures("xla_convolutions")

PLANNED = {"is_seg": False, "order_z": 0, "force_separate_z": None}
TORCH = {"is_seg": False, "force_separate_z": False, "memefficient_seg_resampling": False}
Spacing = tuple[float, float, float]
THICK: Spacing = (0.75, 0.75, 3.0)
SPACINGS: list[Spacing] = [(1.3, 1.2, 1.2), (0.7, 0.7, 3.0), (0.8, 0.9, 1.1)]


def trained(folder: Path, spacing: Spacing, architecture: dict[str, Any], **of_plans: Any) -> Path:
    """Results of nnU-Net's, with all that its predictor asks for."""
    told = plans(architecture, **of_plans)
    order = told["transpose_forward"]
    told["transpose_backward"] = [order.index(axis) for axis in range(3)]
    told["configurations"]["3d_fullres"] |= {
        **{
            "spacing": [spacing[::-1][axis] for axis in order],
            "batch_size": 2,
            "batch_dice": False,
        },
        **{"data_identifier": "nnUNetPlans_3d_fullres", "use_mask_for_norm": [False, False]},
        "normalization_schemes": ["ZScoreNormalization"] * 2,
        **{f"resampling_fn_{what}": "resample_data_or_seg_to_shape" for what in ("data", "seg")},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {**PLANNED, "order": 3},
        "resampling_fn_probabilities_kwargs": {**PLANNED, "order": 1},
        "resampling_fn_seg_kwargs": {**PLANNED, "order": 1, "is_seg": True},
    }
    name = "nnUNetTrainer__nnUNetPlans__3d_fullres"
    return write_results(folder / name, told, dataset(channel_names={"0": "FLAIR", "1": "T1"}))


def head(folder: Path, spacing: Spacing) -> list[Path]:
    """Two images of a textured ball with spots, zeros around it."""
    shape = [round(26 / size) for size in spacing]
    places = np.meshgrid(
        *[(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)],
        indexing="ij",
    )
    inside = sum(place**2 for place in places) < 11**2
    files = []
    for channel, seed in enumerate((1, 2)):
        rng = np.random.default_rng(seed)
        texture = ndimage.gaussian_filter(rng.standard_normal(shape), 2 / np.array(spacing))
        image = np.where(inside, 100 + 30 * texture / texture.std(), 0)
        for spot in ((-4, 3, 2), (5, -4, 0)):
            near = sum((p - c) ** 2 for p, c in zip(places, spot, strict=True)) < 3**2
            image[near] += 150
        files.append(folder / f"head_{channel:04d}.nii.gz")
        saved = nib.Nifti1Image(image.astype(np.float32), np.diag([*spacing, 1.0]))
        saved.set_qform(saved.affine, code="scanner")
        nib.save(saved, files[-1])
    return files


def written_out(results: Path, files: list[Path], spacing: Spacing, wanted: Spacing) -> np.ndarray:
    """nnU-Net's inference in PyTorch and scipy, with arrays (Z, Y, X)."""
    model, _ = convert_nnunet(results)
    network = torch_network(model.config)
    content = torch.load(results / "fold_0/checkpoint_final.pth", weights_only=False)
    network.load_state_dict(content["network_weights"])
    data = np.stack([load(path) for path in files]).transpose(0, 3, 2, 1)
    had, has = np.float32(spacing[::-1]).astype(float).tolist(), wanted[::-1]
    image, where = nnunet.preprocess(data, had, has)
    with torch.no_grad():
        batch = torch.from_numpy(image)[None]
        logits = sliding_window_logits(network, batch, [8, 12, 24])[0].numpy()
    part = [axis.stop - axis.start for axis in where]
    back = nnunet.resample(logits, part, has, had, 1)
    probability = np.zeros(data.shape[1:])
    probability[where] = torch.softmax(torch.from_numpy(back), 0)[1].numpy()
    return probability.transpose(2, 1, 0)


def predicted(results: Path, files: list[Path], out: Path) -> np.ndarray:
    model, _ = convert_nnunet(results)
    settings = for_model(PredictSettings(), model, roi=None, overlap=None, target=None)
    predict(replace(model, threshold=0.2), Scan(tuple(files)), out, settings)
    return load(out / "prediction.nii.gz")


def same_lesions(found: np.ndarray, expected: np.ndarray) -> None:
    """At a threshold that leaves a few lesions."""
    threshold = np.quantile(expected[expected > 0], 0.9)
    touching = ndimage.generate_binary_structure(3, 2)
    one, other = (image >= threshold for image in (found, expected))
    assert 2 * (one & other).sum() > 0.99 * (one.sum() + other.sum())
    for mask, peer in ((one, other), (other, one)):
        labels, _ = ndimage.label(mask, touching)
        large = np.flatnonzero(np.bincount(labels[mask]) > 5)
        assert len(large)
        assert set(large) <= set(labels[mask & peer])


@pytest.mark.parametrize(
    "spacing", [SPACINGS[0], *(pytest.param(s, marks=pytest.mark.thorough) for s in SPACINGS[1:])]
)
def test_probabilities_are_those_of_nnunets_rules(tmp_path: Path, spacing: Spacing) -> None:
    wanted = THICK if spacing == SPACINGS[2] else (1.0, 1.0, 1.0)
    results, files = trained(tmp_path, wanted, PLAIN), head(tmp_path, spacing)
    found = predicted(results, files, tmp_path / "out")
    expected = written_out(results, files, spacing, wanted)
    assert np.abs(found - expected).mean() < 1e-4  # weights of windows in half precision there
    same_lesions(found, expected)


@pytest.mark.thorough
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("order", [[0, 1, 2], [1, 0, 2]], ids=["plain", "transposed"])
def test_probabilities_are_those_of_nnunets_own_predictor(
    tmp_path: Path, order: list[int], spacing: Spacing
) -> None:
    pytest.importorskip("nnunetv2")
    results = trained(tmp_path, THICK, RESIDUAL, transpose_forward=order)
    files = head(tmp_path, spacing)
    found = predicted(results, files, tmp_path / "out")
    expected = predictors_probability(results, files)
    assert np.abs(found - expected).mean() < 1e-3  # it adds up windows in half precision
    same_lesions(found, expected)


def test_plans_say_by_which_rules_images_are_resampled(tmp_path: Path) -> None:
    model, _ = convert_nnunet(trained(tmp_path, (0.75, 0.5, 3.0), PLAIN))
    assert model.preprocessing is not None
    assert model.preprocessing.spacing == (0.75, 0.5, 3.0)
    expected = Resampling(Spline(3, apart=None), Spline(1, apart=None), tolerance=0.0)
    assert model.preprocessing.resampling == expected


@pytest.mark.parametrize(
    ("told", "images", "logits"),
    [
        ({}, Spline(3, apart=None), Spline(1, apart=None)),  # older plans list no arguments
        (
            {
                "resampling_fn_data": "resample_torch_fornnunet",
                "resampling_fn_data_kwargs": TORCH,
                "resampling_fn_probabilities": "resample_torch_fornnunet",
                "resampling_fn_probabilities_kwargs": {**TORCH, "force_separate_z": None},
            },
            Spline(1),
            Spline(1, apart=None),
        ),
        (
            {
                "resampling_fn_data": "resample_data_or_seg_to_shape",
                "resampling_fn_data_kwargs": {"separate_z_anisotropy_threshold": 2},
                "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
                "resampling_fn_probabilities_kwargs": {"order": 0, "force_separate_z": True},
            },
            Spline(3, apart=False, anisotropy=2),
            Spline(0, apart=True),
        ),
    ],
)
def test_arguments_of_nnunets_functions_are_read(
    told: dict[str, Any], images: Spline, logits: Spline
) -> None:
    assert read_resampling(told) == Resampling(images, logits, tolerance=0.0)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"resampling_fn_data": "my_resampling"}, "data with my_resampling; supported: resample_"),
        (
            {
                "resampling_fn_probabilities": "resample_torch_fornnunet",
                "resampling_fn_probabilities_kwargs": {"mode": "nearest"},
            },
            "probabilities by resample_torch_fornnunet with",
        ),
    ],
)
def test_other_functions_are_refused(told: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        read_resampling(told)
