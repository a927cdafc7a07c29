"""A head whose anatomy is a formula, so that it can be put on any grid without interpolation.

A point of the head at p, in mm (RAS), is at `TRUE_MOVE` p in the space of the FLAIR image.
"""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from scipy.spatial.transform import Rotation

RADII = np.array([38.0, 44.0, 36.0])
TRUE_MOVE = np.eye(4)
TRUE_MOVE[:3, :3] = Rotation.from_euler("xyz", [5, -4, 6], degrees=True).as_matrix()
TRUE_MOVE[:3, 3] = (3.0, -4.0, 2.5)
LANDMARKS = np.array([[0, 0, 0], [30, 0, 0], [-30, 5, 0], [0, 35, 5], [0, -35, 0], [0, 0, 28.0]])


def affine(spacing: tuple[float, float, float], shape: tuple[int, ...], turn: float) -> np.ndarray:
    """Oblique, x flipped, the head's centre in the middle."""
    matrix = np.eye(4)
    rotation = Rotation.from_euler("zx", [turn, 8], degrees=True).as_matrix()
    matrix[:3, :3] = rotation @ np.diag([-spacing[0], *spacing[1:]])
    matrix[:3, 3] = -matrix[:3, :3] @ (np.array(shape) - 1) / 2
    return matrix


T1_SHAPE, FLAIR_SHAPE = (40, 42, 38), (38, 40, 26)
T1_AFFINE = affine((2.5, 2.5, 2.6), T1_SHAPE, 20.0)
FLAIR_AFFINE = affine((2.8, 2.7, 4.0), FLAIR_SHAPE, 5.0)


def points(shape: tuple[int, ...], matrix: np.ndarray) -> np.ndarray:
    """Where voxels lie, (X, Y, Z, 3) in mm."""
    return apply_affine(matrix, np.stack(np.indices(shape), axis=-1))


def tissue(places: np.ndarray, seed: int) -> np.ndarray:
    """What is at each place (..., 3): 0 outside the head, else from 0 to 1."""
    rng = np.random.default_rng(seed)
    centres, widths = rng.uniform(-0.8, 0.8, (30, 3)) * RADII, rng.uniform(5, 11, 30)
    signs = rng.choice([-1.0, 1.0], 30)
    total = np.zeros(places.shape[:-1])
    for centre, width, sign in zip(centres, widths, signs, strict=True):
        total += sign * np.exp(-((places - centre) ** 2).sum(-1) / (2 * width**2))
    inside = ((places / RADII) ** 2).sum(-1) < 1
    return np.where(inside, 1 / (1 + np.exp(-3 * total)), 0)


def t1_of(values: np.ndarray) -> np.ndarray:
    return (np.where(values > 0, 100 + 300 * values, 0)).astype(np.float32)


def flair_of(values: np.ndarray) -> np.ndarray:
    """Another contrast: not in one line with T1's."""
    return (np.where(values > 0, 80 + 200 * (1 - values) ** 2, 0)).astype(np.float32)


def true_flair(seed: int) -> np.ndarray:
    """The FLAIR image on T1's grid, as if the head had not moved."""
    return flair_of(tissue(points(T1_SHAPE, T1_AFFINE), seed))


def lesion(places: np.ndarray) -> np.ndarray:
    return ((places - [8.0, 10.0, 4.0]) ** 2).sum(-1) < 9.0**2


def save(path: Path, data: np.ndarray, matrix: np.ndarray) -> Path:
    """Writes a file whose sform and qform agree."""
    image = nib.Nifti1Image(data, matrix)
    image.set_sform(matrix, code=1)
    image.set_qform(matrix, code=1)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def make_head(folder: Path, seed: int) -> dict[str, Path]:
    """T1, the FLAIR of the head that has moved, and the lesion drawn on FLAIR."""
    folder.mkdir(parents=True)
    head = points(T1_SHAPE, T1_AFFINE)
    moved = apply_affine(np.linalg.inv(TRUE_MOVE), points(FLAIR_SHAPE, FLAIR_AFFINE))
    return {
        "t1": save(folder / "t1.nii.gz", t1_of(tissue(head, seed)), T1_AFFINE),
        "flair": save(folder / "fl.nii.gz", flair_of(tissue(moved, seed)), FLAIR_AFFINE),
        "reference": save(folder / "les.nii.gz", lesion(moved).astype(np.uint8), FLAIR_AFFINE),
    }
