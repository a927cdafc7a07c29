"""A lesion's map in a notebook, in a viewer to move through: NiiVue, by its widget ipyniivue."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from scipy import ndimage

from jaxsal.errors import InputError
from jaxsal.extras import import_extra
from jaxsal.grid import Grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxsal.saliency.maps import Crop
    from jaxsal.types import Scale

_HEIGHT = 480  # pixels
_LAYOUT = {  # as NiiVue calls it
    **{"is_colorbar": True, "is_radiological_convention": True},
    **{"crosshair_width": 0.5, "crosshair_gap": 12.0},
}
_ZOOM = 3.0  # at first, with the lesion in the middle
_FAINT = 0.25  # of the peak: weaker values fade
_OPACITY = 0.8  # of the map


def lesion_widget(
    image: np.ndarray,
    omega: np.ndarray,
    crop: Crop,
    grid: Grid,
    channels: Sequence[str],
    channel: str | None,
    scale: Scale,
) -> Any:
    """A widget with a channel of the image, the lesion's outline and the map of that channel.

    All three are volumes of their own, in mm; map and outline are cut out. Colours are centred at
    zero: warm ones for positive values, cold ones for negative ones.

    Args:
        image: (X, Y, Z, C); exact zeros, the background, are shown as its smallest value.
        omega: (X, Y, Z) bool, the lesion; not empty.
        crop: its map, one channel or C.
        grid: of the image.
        channels: C names.
        channel: which of them is shown; None: the first.
        scale: of the map's colours.

    Returns:
        An ``ipyniivue.NiiVue``.

    Raises:
        InputError: there is no such channel, or ipyniivue is not installed.
    """
    if channel is not None and channel not in channels:
        raise InputError(f"channel must be one of {', '.join(channels)}; got {channel!r}")
    name = channels[0] if channel is None else channel
    niivue = import_extra("ipyniivue", "view", "the view in a notebook")
    at = channels.index(name)
    values = crop.values[..., min(at, crop.values.shape[-1] - 1)]
    peak = float(np.abs(values).max()) or 1.0
    seen = image[..., at]
    background = _canonical(np.where(seen == 0, seen.min(), seen), grid)
    rim, origin = _rim(omega)
    volumes = [
        {"data": _packed(background), "name": f"{name}.nii.gz", "colormap": "gray"},
        {
            **{"data": _packed(_canonical(values, grid.crop(crop.origin, values.shape)))},
            **{"name": "map.nii.gz", "opacity": _OPACITY, **_colours(niivue, peak, scale)},
        },
        {
            **{"data": _packed(_canonical(rim, grid.crop(origin, rim.shape)))},
            **{"name": "outline.nii.gz", "colormap": "gray", "cal_min": 0.5, "cal_max": 1.0},
        },
    ]
    volumes[0]["colorbar_visible"] = volumes[2]["colorbar_visible"] = False
    widget = niivue.NiiVue(height=_HEIGHT, **_LAYOUT)
    widget.load_volumes(volumes)
    widget.scene.crosshair_pos, widget.scene.pan2d_xyzmm = _place(omega, grid, background)
    return widget


def _colours(niivue: Any, peak: float, scale: Scale) -> dict[str, Any]:
    """Those of a map, as NiiVue calls them: from zero to the peak, weak ones transparent."""
    found = {
        "colormap": "redyell",
        "colormap_type": niivue.ColormapType.ZERO_TO_MAX_TRANSLUCENT_BELOW_MIN,
        "cal_min": _FAINT * peak,
        "cal_max": peak,
    }
    if scale == "diverging":
        negative = {"cal_min_neg": -peak, "cal_max_neg": -_FAINT * peak}
        found |= {"colormap_negative": "blue2cyan", **negative}
    return found


def _rim(omega: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int]]:
    """The voxels around a lesion that share a face with it, cut out, and where the cut begins."""
    rim = ndimage.binary_dilation(omega) & ~omega
    if not rim.any():  # a lesion that fills the image
        rim = omega
    (box,) = ndimage.find_objects(rim.astype(np.int8))
    x, y, z = (part.start for part in box)
    return rim[box], (x, y, z)


def _canonical(values: np.ndarray, grid: Grid) -> nib.Nifti1Image:
    """As float32 in the axes nearest to RAS, which the viewer turns images to, too."""
    array = np.ascontiguousarray(values, np.float32)
    image = nib.as_closest_canonical(nib.Nifti1Image(array, grid.affine_mm))
    image.header.set_xyzt_units("mm")
    return image


def _packed(image: nib.Nifti1Image) -> bytes:
    return gzip.compress(image.to_bytes(), 1)


def _place(
    omega: np.ndarray, grid: Grid, image: nib.Nifti1Image
) -> tuple[list[float], list[float]]:
    """Where the viewer begins: at a voxel of the lesion near its centre.

    Args:
        omega: (X, Y, Z) bool, the lesion.
        grid: its grid.
        image: the image in the viewer's axes.

    Returns:
        The place of its crosshair, from 0 to 1 along each axis; and by how many mm along each axis
        the slices are moved, and how much they are magnified.
    """
    voxels = np.argwhere(omega)
    middle = voxels[np.argmin(((voxels - voxels.mean(0)) ** 2).sum(1))]
    there = apply_affine(np.linalg.inv(image.affine), apply_affine(grid.affine_mm, middle))
    # NiiVue moves slices, then magnifies them about the origin of the world, by the image's axes.
    origin, sizes = np.linalg.inv(image.affine)[:3, 3], np.array(image.header.get_zooms())
    centre = ((np.array(image.shape) - 1) / 2 - origin) * sizes
    moved = centre - _ZOOM * (there - origin) * sizes
    return ((there + 0.5) / image.shape).tolist(), [*moved.tolist(), _ZOOM]
