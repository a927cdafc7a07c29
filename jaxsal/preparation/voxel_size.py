"""The grid of prepared images, with voxels of the size that is asked for."""

from __future__ import annotations

import math

from jaxsal.errors import InputError
from jaxsal.grid import Grid
from jaxsal.preparation.settings import PreparationSettings
from jaxsal.resampling import MOST_VOXELS, same_spacing
from jaxsal.volumes import Volume


def prepared_grid(fixed: Volume, settings: PreparationSettings) -> Grid:
    """The grid that all images of a scan are brought to.

    Args:
        fixed: the image that the others are registered to. Its grid stays where its voxels have
            the size asked for, up to `jaxsal.resampling.SAME_SPACING`; else the new one has the
            same axes and centre.
        settings: with the voxel size.

    Raises:
        InputError: it would have more than `jaxsal.resampling.MOST_VOXELS` times as many voxels,
            unless the settings permit it.
    """
    wanted = settings.voxel_size
    if wanted is None or same_spacing(fixed.grid.spacing, wanted):
        return fixed.grid
    grid = fixed.grid.with_spacing(wanted)
    voxels, needed = math.prod(fixed.grid.shape), math.prod(grid.shape)
    if needed > MOST_VOXELS * voxels and not settings.allow_upsampling:
        raise InputError(
            f"{fixed.path} has voxels of {sizes(fixed.grid.spacing)} mm; of {sizes(wanted)} mm it "
            f"would have {needed:,} voxels for {voxels:,}, which is more than {MOST_VOXELS:g} "
            "times as many. Check --voxel-size; --allow-upsampling takes it"
        )
    return grid


def sizes(spacing: tuple[float, float, float]) -> str:
    """Voxel sizes in words, without their unit."""
    return " × ".join(f"{size:.3g}" for size in spacing)
