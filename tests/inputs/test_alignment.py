"""Images of a scan that do not lie on each other."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from jaxsal.grid import Grid
from jaxsal.inputs.alignment import misaligned, unregistered

SHAPE, SPACING = (48, 52, 44), (2.0, 2.0, 2.0)


def tissue(seed: int = 0) -> np.ndarray:
    """Smooth random structures, from 0 to 1."""
    rough = np.random.default_rng(seed).standard_normal(SHAPE)
    smooth = ndimage.gaussian_filter(rough, 2)
    return 1 / (1 + np.exp(-3 * smooth / smooth.std()))


def cut(values: np.ndarray) -> np.ndarray:
    """A head of these values; 0 around it."""
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    return np.where(sum(axis**2 for axis in axes) < 0.8, values, 0).astype(np.float32)


FLAIR, T1 = cut(1 + tissue()), cut(3 - 2 * tissue() ** 2)  # other contrasts of one head


def turned(image: np.ndarray, degrees: float, axes: tuple[int, int]) -> np.ndarray:
    return ndimage.rotate(image, degrees, axes, reshape=False, order=1)


MOVED = {
    "x": ndimage.shift(T1, (3, 0, 0), order=1),
    "-y, z": ndimage.shift(T1, (0, -2, 3), order=1),
    "far": ndimage.shift(T1, (0, 0, 7), order=1),
    "turned": turned(T1, 6, (0, 1)),
    "turned back": turned(T1, -6, (0, 2)),
    "within one outline": cut(3 - 2 * np.roll(tissue(), 3, axis=1) ** 2),
}


@pytest.mark.parametrize("t1", MOVED.values(), ids=MOVED)
def test_an_image_that_was_moved_is_noticed(t1: np.ndarray) -> None:
    assert misaligned(FLAIR, t1, SPACING) != ""


def test_the_move_that_is_told_is_the_way_back() -> None:
    assert misaligned(FLAIR, MOVED["x"], SPACING) == "shifted by about (-3, 0, 0) voxels"
    told = misaligned(FLAIR, MOVED["turned"], SPACING)
    assert told == "turned by about 5° about its third axis"


noise = np.random.default_rng(1).standard_normal((2, *SHAPE))
REGISTERED = {
    "other contrast": (FLAIR, T1),
    "the same": (FLAIR, FLAIR),
    "noisy": (FLAIR, np.where(T1 != 0, T1 + noise[0], 0)),
    "half a voxel off": (FLAIR, ndimage.shift(T1, (0.5, 0, 0), order=1)),
    "noise alone": (cut(noise[0]), cut(noise[1])),
    "another head": (FLAIR, cut(1 + tissue(1))),
    "cut off": (FLAIR, np.where(np.arange(SHAPE[2]) < 30, T1, 0)),
    "noise that fills the grid": tuple(noise[:, :17, :14, :10]),
    "empty": (FLAIR, np.zeros_like(T1)),
    "a constant": (FLAIR, cut(np.ones(SHAPE))),
}


@pytest.mark.parametrize("pair", REGISTERED.values(), ids=REGISTERED)
def test_nothing_is_said_of_others(pair: tuple[np.ndarray, np.ndarray]) -> None:
    assert misaligned(*pair, SPACING) == ""


def test_a_voxel_is_moved_by_where_slices_are_thick() -> None:
    thick = (1.0, 1.0, 7.0)
    assert misaligned(FLAIR, T1, thick) == ""
    assert misaligned(FLAIR, np.roll(T1, 1, 2), thick) == "shifted by about (0, 0, -1) voxels"


def test_every_image_is_compared_with_the_first() -> None:
    image = np.stack([FLAIR, T1, MOVED["x"]], axis=-1)
    grid = Grid(SHAPE, np.diag([*SPACING, 1.0]))
    ((place, note),) = unregistered(["flair.nii", "t1.nii", "t2.nii"], image, grid)
    assert place == 2
    assert note.startswith("t2.nii does not seem to lie on flair.nii: ")
    assert "shifted by about (-3, 0, 0) voxels" in note


@pytest.mark.thorough
@pytest.mark.parametrize("patient", ["patient07", "patient19"])
def test_real_patients(shared, patient: str) -> None:
    flair, t1 = (
        np.asarray(nib.load(shared / "data" / patient / f"{name}.nii.gz").dataobj)
        for name in ("FLAIR", "T1")
    )
    mm = (1.0, 1.0, 1.0)
    assert misaligned(flair, t1, mm) == ""
    assert misaligned(flair, np.roll(t1, 5, axis=1), mm) == "shifted by about (0, -6, 0) voxels"
    told = misaligned(flair, turned(t1, 3, (1, 2)), mm)
    assert told == "turned by about 2.5° about its first axis"
