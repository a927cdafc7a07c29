"""A tiny network and a tiny scan as files, for tests of what happens at the edge of the program."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np

from jaxsal.field.sliding import sliding_window
from jaxsal.model import Model
from jaxsal.nets.registry import parameter_shapes
from jaxsal.nets.unet_config import UNetConfig

SHAPE = (24, 28, 20)
ROI = (16, 16, 16)  # the same everywhere, so that each program is compiled once
CHANNELS = ("flair", "t1")
MISSED = (slice(3, 6), slice(12, 15), slice(9, 12))  # a lesion that it does not find
_SPOTS = ((8, 10, 9), (15, 18, 11), (14, 7, 6))
SEED = 7  # gives three lesions, clear of the missed one


class TinyScan(NamedTuple):
    """Files of a scan; the image order is that of the model's channels."""

    flair: Path
    t1: Path
    image: np.ndarray
    affine: np.ndarray

    @property
    def images(self) -> tuple[Path, Path]:
        return self.flair, self.t1


def oblique_affine() -> np.ndarray:
    """Turned about z by 20 degrees, x flipped, three different spacings: (4, 4), mm."""
    a = np.deg2rad(20)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-1.0, 0.9, 1.2])
    affine[:3, 3] = (31.5, -40.25, 12.0)
    return affine


def save(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> Path:
    """Write a NIfTI file whose sform is the affine."""
    image = nib.Nifti1Image(data, oblique_affine() if affine is None else affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def make_scan(folder: Path, seed: int = SEED) -> TinyScan:
    """A noisy ball with a few bright spots in a black background, in two channels."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    head = sum(axis**2 for axis in axes) < 0.8
    data = np.zeros((2, *SHAPE), np.float32)
    data[:, head] = 400 + 20 * rng.standard_normal((2, int(head.sum())))
    for x, y, z in _SPOTS:
        data[:, x - 1 : x + 2, y - 1 : y + 2, z - 1 : z + 2] += [[[[300]]], [[[-200]]]]
    files = [save(folder / f"{c}.nii.gz", v) for c, v in zip(CHANNELS, data, strict=True)]
    inside = data[:, head].astype(np.float64)
    image = np.zeros((*SHAPE, 2), np.float32)
    image[head] = ((inside - inside.mean(1, keepdims=True)) / inside.std(1, keepdims=True)).T
    return TinyScan(files[0], files[1], image, nib.load(files[0]).affine)


def make_model(scan: TinyScan) -> Model:
    """A random U-Net whose threshold lets a few components of the scan pass as lesions."""
    model = random_model(2)
    logits = np.asarray(sliding_window(model, roi=ROI)(scan.image), np.float64)
    evidence = logits[..., 1] - logits[..., 0]
    threshold = 1 / (1 + np.exp(-np.quantile(evidence, 0.995)))
    return Model(model.config, model.parameters, CHANNELS, float(threshold))


def random_model(outputs: int) -> Model:
    """A random U-Net of so many output channels."""
    config = UNetConfig.from_arguments(
        {"in_channels": 2, "out_channels": outputs, "channels": [4, 6, 8], "strides": [2, 2]}
        | {"norm": "batch"}
    )
    rng = np.random.default_rng(SEED)
    parameters = {}
    for name, shape in parameter_shapes(config).items():
        values, kind = rng.standard_normal(shape), name.rpartition(".")[2]
        scale = 1 / np.sqrt(np.prod(shape[:-1])) if kind == "kernel" else 0.1
        parameters[name] = scale * values + (kind in ("var", "scale"))
    return Model(config, parameters, CHANNELS)


def read_table(path: Path) -> list[dict[str, Any]]:
    """Rows of a tab-separated table."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def load(path: Path) -> np.ndarray:
    """Voxels of a NIfTI file in the type that it has."""
    return np.asanyarray(nib.load(path).dataobj)


def as_dense(path: Path, affine: np.ndarray) -> np.ndarray:
    """A cropped map on the image's grid, found by where its affine says that it lies."""
    image = nib.load(path)
    np.testing.assert_allclose(image.affine[:3, :3], affine[:3, :3], atol=1e-6)
    origin = nib.affines.apply_affine(np.linalg.inv(affine), image.affine[:3, 3])
    first = np.rint(origin).astype(int)
    np.testing.assert_allclose(origin, first, atol=1e-4)
    dense = np.zeros(SHAPE, np.float32)
    dense[tuple(slice(a, a + n) for a, n in zip(first, image.shape, strict=True))] = load(path)
    return dense


def assert_same_map(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal up to rounding, of maps that are not zero."""
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too, by name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
