"""Lesions copied to other places of a scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import signal

from jaxsal.box import Box
from jaxsal.experiments.regions import distance_mm
from jaxsal.grid import Grid


@dataclass(frozen=True, eq=False)
class Graft:
    """What is copied of a scan.

    Attributes:
        corner: (3,) first voxel of its box.
        part: (x, y, z) bool, the voxels of the box that are copied.
        omega: (x, y, z) bool, those of the lesion.
    """

    corner: np.ndarray
    part: np.ndarray
    omega: np.ndarray

    @classmethod
    def of(cls, omega: np.ndarray, surroundings_mm: float, grid: Grid) -> Graft:
        """A lesion (X, Y, Z) bool, not empty, with what lies within so many mm of it."""
        part = omega
        if surroundings_mm > 0:
            part = distance_mm(omega, grid) <= surroundings_mm
        box = Box.around(np.argwhere(part))
        return cls(np.array(box.start), box.cut(part), box.cut(omega))


def places(allowed: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Where a part can lie wholly within a region.

    Args:
        allowed: (X, Y, Z) bool.
        part: (x, y, z) bool.

    Returns:
        (N, 3) first voxels of its box, in the array's order.
    """
    if any(n > m for n, m in zip(part.shape, allowed.shape, strict=True)):
        return np.zeros((0, 3), int)
    kernel = part[::-1, ::-1, ::-1].astype(np.float32)
    outside = signal.fftconvolve((~allowed).astype(np.float32), kernel, mode="valid")
    return np.argwhere(outside < 0.5)  # voxels of the part that lie outside


def placed(mask: np.ndarray, corner: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A mask (x, y, z) on a grid (X, Y, Z), its first voxel at a corner: bool."""
    return Box.at(corner, mask.shape).place(mask, shape)


def grafted(images: np.ndarray, graft: Graft, corner: np.ndarray) -> np.ndarray:
    """The images with a part of them copied to a place.

    Args:
        images: (X, Y, Z, C), in any units, which are kept.
        graft: what is copied.
        corner: (3,) first voxel of its box at the new place.
    """
    result = images.copy()
    own, there = (Box.at(at, graft.part.shape) for at in (graft.corner, corner))
    there.cut(result)[graft.part] = own.cut(images)[graft.part]
    return result
