"""A synthetic head with lesions on two MR channels, drawn from a seed.

Lesions are bright on FLAIR and dark on T1. Look-alikes (bright cortex, bright ventricular lining,
spots on one channel alone, fluid around vessels) make a network look at the surroundings and at
both channels. Axis letters: X, Y, Z in RAS order (right, anterior, superior).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from jaxsal.box import Box
from jaxsal.demo.anatomy import (
    BACKGROUND,
    CENTRE,
    GREY,
    WHITE,
    Anatomy,
    Array,
    coverage,
    draw_anatomy,
    ellipsoid,
    smooth_field,
)
from jaxsal.errors import InputError

# Relative intensities by tissue code: background, scalp, muscle, skull, fluid, cortex, white
# matter, deep grey nuclei.
FLAIR = np.array([0.0, 0.70, 0.38, 0.10, 0.12, 0.80, 0.60, 0.73], np.float32)
T1 = np.array([0.0, 0.95, 0.50, 0.14, 0.20, 0.62, 1.00, 0.78], np.float32)

_HEAD = (162, 198, 162)  # mm along X, Y, Z, with some space around


@dataclass(frozen=True)
class Phantom:
    """A synthetic patient; all volumes share one (X, Y, Z) grid.

    Attributes:
        flair: float32, scanner-like units, exactly 0 outside the head (or brain).
        t1: float32, likewise.
        lesions: int32 ground truth, 1.. per lesion, 0 background.
        tissue: uint8 healthy anatomy below the lesions: 0 background, 1 skin and fat, 2 muscle,
            3 skull, 4 cerebrospinal fluid (and eyes), 5 cortex, 6 white matter, 7 deep grey nuclei.
        affine: (4, 4) float64 from voxel indices to RAS mm.
    """

    flair: Array
    t1: Array
    lesions: Array
    tissue: Array
    affine: Array


class Spots(NamedTuple):
    """A family of blobs: how many, in which tissue, how large, and what they add per channel."""

    number: int
    tissue: int
    radius: tuple[float, float]  # mm
    flair: tuple[float, float]  # relative to white matter on T1
    t1: tuple[float, float]
    lesion: bool = False


def make_phantom(
    seed: int,
    shape: tuple[int, int, int] = (112, 136, 112),
    spacing: float = 1.5,
    lesions: int = 12,
    skull: bool = True,
) -> Phantom:
    """Draw a head with lesions: anatomy, pose, contrast, bias field and noise follow the seed.

    Args:
        seed: the same seed and arguments give the same phantom, bit for bit.
        shape: voxels along X, Y, Z; a field of view under 160 x 190 x 160 mm cuts the head.
        spacing: voxel size in mm, isotropic.
        lesions: number of lesions, each one component, none touching another.
        skull: False keeps the brain with its fluid alone, all else exactly 0.

    Returns:
        The two channels, the ground truth and the anatomy.

    Raises:
        InputError: the white matter in the field of view has no room for that many lesions.
    """
    rng = np.random.default_rng(seed)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = CENTRE - spacing * (np.array(shape) - 1) / 2
    axes = [(affine[i, 3] + spacing * np.arange(shape[i])).astype(np.float32) for i in range(3)]
    anatomy = draw_anatomy(rng, axes)
    contrasts = [values * rng.uniform(0.93, 1.07, 8).astype(np.float32) for values in (FLAIR, T1)]
    tissue, (flair, t1) = _paint(anatomy, contrasts, spacing)
    flair += _ventricular_rim(rng, axes, anatomy) * (tissue == WHITE)
    truth = _add_spots(rng, (flair, t1), tissue, anatomy, spacing, lesions)
    inside = tissue != BACKGROUND if skull else anatomy.intracranial < 0
    flair, t1 = (_scan(rng, channel, axes) * inside for channel in (flair, t1))
    return Phantom(flair, t1, truth, tissue * inside, affine)


def field_of_view(spacing: float) -> tuple[int, int, int]:
    """Voxels along X, Y, Z that hold a head, in multiples of 8 as networks like them.

    Args:
        spacing: voxel size in mm.

    Raises:
        InputError: it is not from 1 to 4 mm.
    """
    if not 1 <= spacing <= 4:
        raise InputError(f"the voxel size of a phantom must be from 1 to 4 mm, got {spacing}")
    x, y, z = (8 * math.ceil(extent / spacing / 8) for extent in _HEAD)
    return x, y, z


def write_phantom(phantom: Phantom, folder: str | Path) -> None:
    """Write FLAIR.nii.gz, T1.nii.gz and lesions.nii.gz (mm, RAS) into a folder, made if absent."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    volumes = {"FLAIR": phantom.flair, "T1": phantom.t1, "lesions": phantom.lesions}
    for name, array in volumes.items():
        image = nib.Nifti1Image(array, phantom.affine)
        image.header.set_xyzt_units("mm")
        nib.save(image, folder / f"{name}.nii.gz")


def _paint(anatomy: Anatomy, contrasts: list[Array], spacing: float) -> tuple[Array, list[Array]]:
    """Lay tissues over one another, the later over the earlier; voxels on an edge are mixed."""
    shape = anatomy.intracranial.shape
    tissue = np.zeros(shape, np.uint8)
    channels = [np.zeros(shape, np.float32) for _ in contrasts]
    for code, distance in anatomy.layers:
        share = coverage(distance, spacing)
        tissue[share > 0.5] = code
        for channel, values in zip(channels, contrasts, strict=True):
            channel += share * (values[code] - channel)
    return tissue, channels


def _ventricular_rim(rng: np.random.Generator, axes: list[Array], anatomy: Anatomy) -> Array:
    """Return the thin bright lining of healthy ventricles on FLAIR: a look-alike of lesions."""
    patchy = np.clip(0.5 + 0.5 * smooth_field(rng, axes, 18), 0, 1)
    lining = coverage(anatomy.ventricles - rng.uniform(1, 2.2), 2.0)
    return rng.uniform(0.1, 0.25) * patchy * lining


def _add_spots(
    rng: np.random.Generator,
    channels: tuple[Array, Array],
    tissue: Array,
    anatomy: Anatomy,
    spacing: float,
    lesions: int,
) -> Array:
    """Add lesions, then look-alikes, to both channels; returns the lesions' labels, int32."""
    labels = np.zeros(tissue.shape, np.int32)
    depth = int(np.ceil(2.5 / spacing))  # voxels: a blob starts in white matter, not at its edge
    core = ndimage.binary_erosion(tissue == WHITE, iterations=depth)
    allowed = {WHITE: core, GREY: tissue == GREY}
    atlases = {code: _atlas(mask, anatomy.ventricles) for code, mask in allowed.items()}
    taken: list[tuple[Array, float]] = []
    for family in _families(lesions):
        low, high = np.log(family.radius)
        radii = np.exp(rng.uniform(low, high, family.number))
        for radius in sorted(radii, reverse=True):  # the large ones while there is room
            centre = _free_place(rng, atlases[family.tissue], taken, radius, spacing)
            if centre is None and family.lesion:
                raise InputError(
                    f"lesions must lie apart in the white matter: there was room for {len(taken)} "
                    f"of {lesions}; ask for fewer or for a larger field of view"
                )
            if centre is None:
                continue
            taken.append((centre, radius))
            box, share = _blob(rng, tissue, centre, radius, spacing)
            for channel, gain in zip(channels, (family.flair, family.t1), strict=True):
                channel[box.slices] += np.float32(rng.uniform(*gain)) * share
            if family.lesion:
                box.cut(labels)[share > 0.5] = len(taken)
    return labels


def _families(lesions: int) -> list[Spots]:
    """Lesions, one in six of them faint, and the look-alikes."""
    faint = lesions // 6
    return [
        Spots(lesions - faint, WHITE, (2.5, 7.5), (0.28, 0.6), (-0.45, -0.15), lesion=True),
        Spots(faint, WHITE, (2.4, 5.0), (0.15, 0.22), (-0.25, -0.08), lesion=True),
        Spots(5, WHITE, (1.5, 3.5), (0.12, 0.35), (0.0, 0.0)),  # bright on FLAIR alone
        Spots(8, GREY, (1.5, 3.0), (0.2, 0.45), (0.0, 0.0)),  # bright cortex
        Spots(8, WHITE, (1.0, 1.8), (-0.35, -0.1), (-0.6, -0.2)),  # fluid around vessels
    ]


def _atlas(allowed: Array, ventricles: Array) -> tuple[Array, Array]:
    """Voxel indices (N, 3) where a blob may start, and their cumulative probability (N,)."""
    probability = np.exp(-np.maximum(ventricles[allowed], 0) / 7) + 0.04  # periventricular
    return np.argwhere(allowed), np.cumsum(probability, dtype=np.float64)


def _free_place(
    rng: np.random.Generator,
    atlas: tuple[Array, Array],
    taken: list[tuple[Array, float]],
    radius: float,
    spacing: float,
) -> Array | None:
    """Voxel index (3,) drawn from an atlas, clear of the blobs before it; None without room."""
    places, cumulative = atlas
    for _ in range(500 if len(places) else 0):
        draw = rng.uniform(0, cumulative[-1])
        place = places[np.searchsorted(cumulative, draw, side="right")]
        if all(
            spacing * (np.linalg.norm(place - other) - 2) > 1.4 * (radius + reach)
            for other, reach in taken  # 1.4: how far a blob may bulge
        ):
            return place
    return None


def _blob(
    rng: np.random.Generator,
    tissue: Array,
    centre: Array,
    radius: float,
    spacing: float,
) -> tuple[Box, Array]:
    """Draw an irregular ellipsoid in its centre's tissue: box in the volume, share per voxel."""
    half = int(np.ceil(1.4 * radius / spacing)) + 1
    box = Box(centre - half, centre + half + 1).clip(tissue.shape)
    axes = [
        (spacing * (np.arange(a, b) - c)).astype(np.float32)
        for a, b, c in zip(box.start, box.stop, centre, strict=True)
    ]
    turn = Rotation.random(random_state=rng).as_matrix().astype(np.float32)
    x, y, z = np.einsum("ij,jxyz->ixyz", turn, np.stack(np.meshgrid(*axes, indexing="ij")))
    distance = ellipsoid((x, y, z), (0, 0, 0), tuple(radius * rng.uniform(0.65, 1.15, 3)))
    bumps = smooth_field(rng, axes, 1.8 * radius + 2)
    distance += 0.22 * radius * np.clip(bumps - bumps[tuple(centre - box.start)], -1.1, 1.1)
    share = coverage(distance, spacing + rng.uniform(0, 0.8)) * (
        box.cut(tissue) == tissue[tuple(centre)]
    )
    parts, _ = ndimage.label(share > 0.5)
    return box, share * ((parts == parts[tuple(centre - box.start)]) | (share <= 0.5))


def _scan(rng: np.random.Generator, channel: Array, axes: list[Array]) -> Array:
    """Add what a scanner adds: texture, blur, a bias field, Rician noise, arbitrary units."""
    channel = channel * (1 + 0.025 * smooth_field(rng, axes, 11))
    channel = ndimage.gaussian_filter(channel, rng.uniform(0.35, 0.6))
    channel *= np.exp(rng.uniform(0.03, 0.09) * smooth_field(rng, axes, 220))
    noise = rng.uniform(0.012, 0.035) * rng.standard_normal((2, *channel.shape), np.float32)
    measured = np.hypot(channel + noise[0], noise[1])
    return (rng.uniform(300, 1200) * measured).astype(np.float32)
