"""The anatomy of a random head as signed distances.

Distances are in mm, negative inside, over world coordinates: the anatomy does not depend on the
voxel size, and the share of a voxel that a structure fills follows from its distance. Axis
letters: X, Y, Z in RAS order (right, anterior, superior); all arrays are float32 (X, Y, Z).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

BACKGROUND, SCALP, MUSCLE, SKULL, CSF, GREY, WHITE, DEEP_GREY = range(8)
CENTRE = np.array([0.0, -17.0, 6.0])  # of the grid and of the head's pose, mm

Array = np.ndarray
Points = tuple[Array, Array, Array]  # world coordinates of the voxels, each (X, Y, Z), mm
Triple = tuple[float, float, float]


class Anatomy(NamedTuple):
    """A head: tissue layers from the outside in, the later over the earlier.

    Attributes:
        layers: pairs of tissue code and signed distance (X, Y, Z) in mm.
        ventricles: distance to the ventricles, mm.
        intracranial: distance to the brain with its fluid, mm.
    """

    layers: list[tuple[int, Array]]
    ventricles: Array
    intracranial: Array


def draw_anatomy(rng: np.random.Generator, axes: list[Array]) -> Anatomy:
    """Draw a head over the world coordinates (mm) of a grid's X, Y and Z axes."""
    scale = rng.uniform(0.87, 0.96)
    x, y, z = _head_coordinates(rng, axes, scale)
    q = (np.abs(x), y, z)  # both hemispheres at once; the warp has already made them differ
    cerebrum = _cerebrum(q)
    cerebellum = ellipsoid(q, (22, -64, -38), (31, 27, 19))
    stem = _smooth_union(
        _capsule(q, (0, -22, -12), (0, -36, -90), 9),
        ellipsoid(q, (0, -24, -30), (16, 13, 14)),
        6,
    )
    brain = _smooth_union(_smooth_union(cerebrum, cerebellum, 16), stem, 10)
    ventricles = _ventricles(q, rng.uniform(-1.5, 2.0))
    ventricles += 0.7 * smooth_field(rng, axes, 14)
    cortex = _depth_below_pia(rng, axes, (x, y, z), cerebrum, rng.uniform(0.3, 0.9))
    folia = _depth_in_cerebellum(q, cerebellum, smooth_field(rng, axes, 22))
    thickness = rng.uniform(3.0, 3.6) + 0.3 * smooth_field(rng, axes, 25)
    white = np.minimum(np.minimum(thickness - cortex, 2.1 - folia), stem)
    intracranial = brain - rng.uniform(1.5, 3.5)
    layers = _outside_brain(rng, q, intracranial)
    layers += [
        (CSF, intracranial),
        (GREY, -np.maximum(cortex, folia)),
        (WHITE, white),
        (DEEP_GREY, _nuclei(q)),
        (CSF, ventricles),
    ]
    layers = [(code, scale * distance) for code, distance in layers]
    return Anatomy(layers, scale * ventricles, scale * intracranial)


def _norm(components: Sequence[Array]) -> Array:
    """Euclidean length per voxel of a vector field."""
    total = components[0] * components[0]
    for component in components[1:]:
        total += component * component
    return np.sqrt(total)


def ellipsoid(p: Points, centre: Triple, radii: Triple) -> Array:
    """Signed distance to an ellipsoid, to first order."""
    scaled = [(a - c) / r for a, c, r in zip(p, centre, radii, strict=True)]
    level = _norm(scaled) + np.float32(1e-4)  # the centre itself has no slope
    slope = _norm([s / r for s, r in zip(scaled, radii, strict=True)])
    return level * (level - 1) / (slope + np.float32(1e-4 / max(radii)))


def _capsule(p: Points, start: Triple, end: Triple, radius: float) -> Array:
    """Signed distance to a rounded rod."""
    along = np.subtract(end, start).astype(np.float32)
    offset = [a - np.float32(s) for a, s in zip(p, start, strict=True)]
    share = sum(o * d for o, d in zip(offset, along / (along @ along), strict=True))
    share = np.clip(share, 0, 1)
    return _norm([o - share * d for o, d in zip(offset, along, strict=True)]) - radius


def _smooth_union(a: Array, b: Array, blend: float) -> Array:
    """Signed distance to both shapes, their crease filled over `blend` mm."""
    overlap = np.maximum(blend - np.abs(a - b), 0)
    return np.minimum(a, b) - overlap * overlap / (4 * blend)


def smooth_field(rng: np.random.Generator, axes: list[Array], wavelength: float) -> Array:
    """Draw a field of unit variance and one wavelength (mm): a sum of standing waves."""
    directions = rng.standard_normal((48, 3))
    directions *= 2 * np.pi / wavelength / np.linalg.norm(directions, axis=1, keepdims=True)
    phases = rng.uniform(0, 2 * np.pi, (48, 3))
    x, y, z = (
        np.cos(directions[:, i, None] * axes[i] + phases[:, i, None]).astype(np.float32)
        for i in range(3)
    )
    plane = np.einsum("wx,wy->xyw", x, y)
    return plane @ z * np.float32(np.sqrt(8 / 48))


def coverage(distance: Array, width: float) -> Array:
    """Share of a voxel inside a surface that lies `distance` mm away."""
    return np.clip(0.5 - distance / np.float32(width), 0, 1)


def _head_coordinates(rng: np.random.Generator, axes: list[Array], scale: float) -> Points:
    """World coordinates carried into the template head: pose, size, proportions, smooth warp."""
    turn = Rotation.from_euler("xyz", rng.uniform(-6, 6, 3), degrees=True).as_matrix()
    proportions = scale * rng.uniform(0.97, 1.03, 3)
    shift = CENTRE + rng.uniform(-2, 2, 3)
    grid = np.meshgrid(*axes, indexing="ij", sparse=True)
    moved = []
    for i in range(3):
        weights = (turn[i] / proportions[i]).astype(np.float32)
        straight = sum(
            w * (g - np.float32(s)) for w, g, s in zip(weights, grid, shift, strict=True)
        )
        moved.append(straight + np.float32(CENTRE[i]) + 0.7 * smooth_field(rng, axes, 85))
    return moved[0], moved[1], moved[2]


def _cerebrum(q: Points) -> Array:
    """Distance to the cerebrum's hull: a dome over a flatter base, with temporal lobes."""
    dome = ellipsoid(q, (0, -17, 8), (66, 85, 64))
    base = ellipsoid(q, (0, -17, 8), (66, 85, 34))
    temporal = ellipsoid(q, (43, -14, -22), (23, 39, 21))
    return _smooth_union(np.where(q[2] > 8, dome, base), temporal, 10)


def _ventricles(q: Points, swelling: float) -> Array:
    """Distance to the lateral, third and fourth ventricles, lateral ones swollen by some mm."""
    horns = [
        ((9, 31, 2), (8, 10, 19), 4.0),
        ((8, 10, 19), (13, -20, 21), 4.5),
        ((13, -20, 21), (25, -38, 9), 5.0),
        ((25, -38, 9), (23, -56, 5), 3.2),
        ((25, -38, 9), (33, -10, -17), 2.4),
    ]
    lateral = _capsule(q, *horns[0])
    for horn in horns[1:]:
        lateral = _smooth_union(lateral, _capsule(q, *horn), 5)
    lateral = np.maximum(lateral - swelling, 1.2 - q[0])  # the septum keeps the two apart
    third = ellipsoid(q, (0, -10, -3), (2.6, 13, 10))
    fourth = ellipsoid(q, (0, -42, -32), (6, 5, 9))
    return np.minimum(np.minimum(lateral, third), fourth)


def _nuclei(q: Points) -> Array:
    """Distance to the caudate nucleus, putamen and thalamus."""
    caudate = _capsule(q, (16, 22, 2), (17, -4, 20), 4.5)
    putamen = ellipsoid(q, (27, 3, 1), (6, 17, 11))
    thalamus = ellipsoid(q, (11, -19, 5), (9, 14, 9))
    return np.minimum(np.minimum(caudate, putamen), thalamus)


def _depth_below_pia(
    rng: np.random.Generator, axes: list[Array], p: Points, cerebrum: Array, width: float
) -> Array:
    """Depth (mm) below the folded surface of the cerebrum; sulci are `width` mm to each side."""
    fold = _fold_distance(rng, p, float(axes[0][1] - axes[0][0]))
    reach = 15 + 4 * smooth_field(rng, axes, 40)
    mouth = width * np.clip(1 + cerebrum / 8, 0, 1)  # sulci widen towards the surface
    sulci = np.hypot(fold, np.maximum(-cerebrum - reach, 0)) - width - mouth
    x, y, z = np.abs(p[0]), p[1], p[2]
    callosum = ellipsoid(p, (0, -14, 5), (40, 44, 24))
    fissure = np.hypot(x, np.maximum(-callosum, 0)) - 0.8
    ends = np.maximum(np.maximum(y - 26, -48 - y), 0)
    height = z + 6 + 0.4 * (y + 5) + 2.5 * smooth_field(rng, axes, 30)
    sylvian = np.hypot(height, np.hypot(np.maximum(36 - x, 0), ends)) - width - mouth - 0.4
    return np.minimum(np.minimum(-cerebrum, sulci), np.minimum(fissure, sylvian))


def _fold_distance(rng: np.random.Generator, p: Points, spacing: float) -> Array:
    """Distance (mm) to random sheets that run inwards from the surface, where sulci may lie."""
    step, reach, sphere, core = 2.5, 100.0, 65.0, 32.0
    axis = np.arange(-reach, reach, step, dtype=np.float32)
    field = smooth_field(rng, [axis] * 3, 18)
    centred = [a - np.float32(c) for a, c in zip(p, CENTRE, strict=True)]
    radius = _norm(centred)
    # Points are drawn towards one sphere, so that the field changes little along a radius.
    stretch = (np.maximum(radius, core) / sphere) ** -0.75
    index = np.stack([(c * stretch + reach) / step for c in centred])
    folded = ndimage.map_coordinates(field, index, order=1, mode="nearest")
    slope = _norm(np.gradient(folded, spacing))
    distance = np.minimum(np.abs(folded) / np.maximum(slope, 0.02), 20)
    return np.hypot(distance, np.maximum(core - radius, 0))  # near the centre sheets would crowd


def _depth_in_cerebellum(q: Points, cerebellum: Array, waves: Array) -> Array:
    """Depth (mm) below the surface of the cerebellum with its parallel folia."""
    period = 8.5
    height = q[2] + 0.35 * q[1] + 0.15 * q[0] + 2 * waves
    sheets = np.abs(height % period - period / 2)
    folia = np.hypot(sheets, np.maximum(-cerebellum - 11, 0)) - 0.3
    return np.minimum(-cerebellum, folia)


def _outside_brain(
    rng: np.random.Generator, q: Points, intracranial: Array
) -> list[tuple[int, Array]]:
    """Scalp, muscle, eyes and skull around the intracranial space."""
    skull = intracranial - rng.uniform(4.5, 7.0)
    face = ellipsoid(q, (0, 38, -62), (58, 46, 52))
    neck = _capsule(q, (0, -30, -50), (0, -40, -140), 48)
    head = _smooth_union(_smooth_union(skull, face, 20), neck, 20) - rng.uniform(4.0, 7.0)
    eyes = ellipsoid(q, (31, 64, -34), (12, 12, 12))
    return [(SCALP, head), (MUSCLE, head + 8), (CSF, eyes), (SKULL, skull)]
