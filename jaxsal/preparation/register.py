"""Images of one head aligned by elastix: rigid or affine, by mutual information.

Klein et al., "elastix: a toolbox for intensity-based medical image registration", IEEE Transactions
on Medical Imaging 29 (2010); the optimiser is that of Klein et al., International Journal of
Computer Vision 81 (2009).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxsal.errors import InputError
from jaxsal.preparation.libraries import Elastix, import_elastix
from jaxsal.preparation.settings import TransformKind
from jaxsal.preparation.spatial import geometry, itk_order, resample_image, to_lps
from jaxsal.volumes import Volume

_BINS = 32  # of the joint histogram, along each axis
_RANGE = (0.5, 99.5)  # percentiles: a few extreme voxels must not fill one bin with all others
_MOST_LEVELS = 4
_COARSEST = 16  # voxels along the shortest axis that the coarsest level should still have
_PARAMETERS = {
    "AutomaticTransformInitialization": ("false",),  # a session's headers share one space
    "RandomSeed": ("1",),
    "NumberOfSpatialSamples": ("4096",),
    "MaximumNumberOfIterations": ("300",),
    "WriteResultImage": ("false",),
}


@dataclass(frozen=True, eq=False)
class Registration:
    """An image brought onto another's grid.

    Attributes:
        matrix: the transform; see `spatial`.
        before: (X, Y, Z) float32 on the fixed grid, by the headers alone.
        after: likewise, by the transform.
        information_before: mutual information with the fixed image, where that is not zero; nats.
        information_after: likewise.
        note: why the image was left where it is, or "".
    """

    matrix: np.ndarray
    before: np.ndarray
    after: np.ndarray
    information_before: float
    information_after: float
    note: str = ""


def register(fixed: Volume, moving: Volume, kind: TransformKind = "rigid") -> Registration:
    """Aligns an image with another one of the same head, by mutual information.

    It begins where the headers place the images, and what it comes to is taken only if it is not
    worse. Equal input gives equal results.

    Raises:
        InputError: elastix or SimpleITK is not installed, or elastix finds no way.
    """
    found = elastix_matrix(fixed, moving, kind)
    inside = fixed.data != 0
    images, information = [], []
    for matrix in (np.eye(4), found):
        images.append(resample_image(moving.data, moving.grid, fixed.grid, matrix))
        information.append(mutual_information(fixed.data, images[-1], inside))
    if information[1] >= information[0]:
        return Registration(found, images[0], images[1], information[0], information[1])
    note = (
        f"{moving.path.name} is left where its header places it: registration would have lowered "
        f"mutual information from {information[0]:.3f} to {information[1]:.3f}"
    )
    return Registration(np.eye(4), images[0], images[0], information[0], information[0], note)


def elastix_matrix(fixed: Volume, moving: Volume, kind: TransformKind) -> np.ndarray:
    """The transform that elastix finds, (4, 4); see `spatial`."""
    elastix = import_elastix()
    method = elastix.method.New()
    method.SetFixedImage(_image(elastix, fixed))
    method.SetMovingImage(_image(elastix, moving))
    method.SetParameterObject(_parameters(elastix, fixed, moving, kind))
    method.SetLogToConsole(False)
    method.SetNumberOfThreads(1)  # sums of several threads would differ in their last digits
    try:
        method.UpdateLargestPossibleRegion()
    except RuntimeError as error:
        raise InputError(
            f"{moving.path} cannot be registered to {fixed.path}: {_reason(error)}. Look whether "
            "both show the same head, and whether their headers place it in the same space."
        ) from error
    return to_lps(_matrix_of(method.GetCombinationTransform()))


def _image(elastix: Elastix, volume: Volume) -> Any:
    image = elastix.buffer.GetImageFromArray(itk_order(volume.data))
    spacing, origin, direction = geometry(volume.grid)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    return image


def _parameters(elastix: Elastix, fixed: Volume, moving: Volume, kind: TransformKind) -> Any:
    """One stage, or for an affine transform two: it begins where the rigid one ended."""
    shortest = min(*fixed.grid.shape, *moving.grid.shape)
    levels = 1 + int(math.log2(max(shortest / _COARSEST, 1)))
    parameters = elastix.parameters.New()
    for stage in ("rigid",) if kind == "rigid" else ("rigid", "affine"):
        chosen = parameters.GetDefaultParameterMap(stage, min(levels, _MOST_LEVELS))
        for name, value in _PARAMETERS.items():
            chosen[name] = value
        parameters.AddParameterMap(chosen)
    return parameters


def _matrix_of(transform: Any) -> np.ndarray:
    """The matrix (4, 4) of an affine transform of any class, by where it takes four points."""
    images = [np.array(transform.TransformPoint(p)) for p in (np.zeros(3), *np.eye(3))]
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([image - images[0] for image in images[1:]], axis=1)
    matrix[:3, 3] = images[0]
    return matrix


def _reason(error: RuntimeError) -> str:
    """The sentence of an error of ITK's, without its places in the source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    mark = "Description:"
    reasons = [line.partition(mark)[2].strip() for line in lines if mark in line]
    return (reasons or lines or [type(error).__name__])[-1].rstrip(".")


def mutual_information(first: np.ndarray, second: np.ndarray, inside: np.ndarray) -> float:
    """Mutual information of the intensities of two images on one grid, in nats.

    Args:
        first: (X, Y, Z).
        second: (X, Y, Z).
        inside: (X, Y, Z) bool, the voxels to look at.

    Returns:
        From a joint histogram of 32 × 32 bins of equal width; 0 if there is no voxel.
    """
    if not inside.any():
        return 0.0
    a, b = _binned(first[inside]), _binned(second[inside])
    joint = np.bincount(a * _BINS + b, minlength=_BINS**2).reshape(_BINS, _BINS) / a.size
    independent = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    there = joint > 0
    return float(np.sum(joint[there] * np.log(joint[there] / independent[there])))


def _binned(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values, _RANGE)
    scaled = (values - low) * (_BINS / max(float(high - low), 1e-12))
    return np.clip(scaled, 0, _BINS - 1).astype(np.int64)
