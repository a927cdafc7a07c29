"""Files of what a caller has in memory: images of nibabel's, and arrays with their affine."""

from __future__ import annotations

import os
import shutil
import weakref
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage

from jaxsal.errors import InputError

File = str | os.PathLike[str] | SpatialImage | tuple[np.ndarray, np.ndarray]


class Files:
    """Paths as they are; all else as files of a folder that is removed with this object."""

    def path(self, name: str, given: File) -> Path:
        """Where it is, or, if it is no path, where it is now.

        Args:
            name: of the argument.
            given: a path, an image, or an array (X, Y, Z) with its affine (4, 4), voxel -> mm.

        Raises:
            InputError: it is something else.
        """
        if isinstance(given, str | os.PathLike):
            return Path(given)
        image: Any = given
        if isinstance(given, tuple) and len(given) == 2:
            image = _with_affine(name, *given)
        if not isinstance(image, SpatialImage):
            raise InputError(
                f"{name} must be a path, an image of nibabel's, or an array (X, Y, Z) with its "
                f"affine (4, 4); got {type(given).__name__}"
            )
        path = self._folder / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image.from_image(image), path)
        return path

    @cached_property
    def _folder(self) -> Path:
        folder = mkdtemp(prefix="jaxsal-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)


def _with_affine(name: str, array: Any, affine: Any) -> nib.Nifti1Image:
    array, affine = np.asarray(array), np.asarray(affine, np.float64)
    if array.ndim != 3 or affine.shape != (4, 4):
        raise InputError(
            f"{name} must be an array (X, Y, Z) with its affine (4, 4); got the shapes "
            f"{array.shape} and {affine.shape}"
        )
    if array.dtype.kind in "bui":  # of which NIfTI has not all
        whole = array.astype(np.int32)
        if (whole != array).any():
            raise InputError(f"{name} must hold whole numbers that fit 32 bits: renumber labels")
        array = whole
    return nib.Nifti1Image(array, affine)
