"""Which volumes lie on the same grid, by one rule, and how the others are said to differ."""

from __future__ import annotations

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from scipy.spatial.transform import Rotation

from jaxsal.box import Box
from jaxsal.errors import InputError
from jaxsal.grid import Grid
from jaxsal.same_grid import difference, require_same_grid

SHAPE = (181, 217, 60)
LPS = np.array([[-1, 0, 0, 90], [0, -1, 0, 126], [0, 0, 3, -72], [0, 0, 0, 1.0]])  # slices of 3 mm


def shifted(x: float = 0, y: float = 0, z: float = 0) -> np.ndarray:
    return nib.affines.from_matvec(np.eye(3), (x, y, z))


def turned(degrees: float, axis: str = "z") -> np.ndarray:
    return nib.affines.from_matvec(Rotation.from_euler(axis, degrees, degrees=True).as_matrix())


def grid(change: np.ndarray | None = None) -> Grid:
    return Grid(SHAPE, LPS if change is None else change @ LPS)


@pytest.mark.parametrize(
    ("change", "voxels"),
    [
        (shifted(0.002), 0.002),
        (shifted(z=0.03), 0.01),  # slices are 3 mm apart
        (shifted(0.3, 0.4, 0), 0.5),
        (nib.affines.from_matvec(np.diag([1.001, 1, 1])), 0.09),  # grows from x = 0 to ±90
        (turned(0.01), np.hypot(90, 126) * np.deg2rad(0.01)),  # about the origin
    ],
)
def test_displacement_is_that_of_the_farthest_corner_in_voxels(change, voxels):
    np.testing.assert_allclose(grid().displacement(grid(change)), voxels, rtol=2e-3)


def test_displacement_is_the_largest_of_all_voxels():
    rng = np.random.default_rng(0)
    one, other = (
        Grid((5, 4, 6), nib.affines.from_matvec(np.eye(3) + rng.normal(0, 0.1, (3, 3)), by))
        for by in rng.normal(0, 1, (2, 3))
    )
    voxels = np.argwhere(np.ones(one.shape))
    apart = one.world(voxels) - other.world(voxels)
    in_voxels = [apart @ np.linalg.inv(each.affine[:3, :3]).T for each in (one, other)]
    expected = np.linalg.norm(in_voxels, axis=-1).max()
    np.testing.assert_allclose(one.displacement(other), expected, rtol=1e-12)


@pytest.mark.parametrize(("by", "same"), [(0.0, True), (0.002, True), (0.05, True), (0.06, False)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_grids_match_up_to_a_twentieth_of_a_voxel(by, same, axis):
    """Whatever the size of voxels, of which a rounded header may take a thousandth."""
    voxels = np.zeros(3)
    voxels[axis] = by
    moved = Grid(SHAPE, np.float32(LPS @ nib.affines.from_matvec(np.eye(3), voxels)))
    assert grid().matches(moved) is same
    assert not grid().matches(Grid((*SHAPE[:2], 61), LPS))


def test_a_small_shear_counts_where_it_moves_most():
    sheared = LPS.copy()
    sheared[1, 0] += 9e-4  # of 1 mm in a voxel, 0.16 mm at the other end of 181 of them
    assert not grid().matches(Grid(SHAPE, sheared))
    assert difference(grid(), Grid(SHAPE, sheared)).startswith("corners lie up to 0.162 voxels")
    assert Grid((30, 217, 60), LPS).matches(Grid((30, 217, 60), sheared))


numbers = st.floats(-1, 1)
vectors = st.tuples(numbers, numbers, numbers)


@st.composite
def small_changes(draw: st.DrawFn) -> np.ndarray:
    """Turns, stretches, shears and shifts that move corners by up to a few tenths of a voxel."""
    linear = np.eye(3) + 1e-3 * np.array(draw(st.tuples(vectors, vectors, vectors)))
    return nib.affines.from_matvec(linear, 0.1 * np.array(draw(vectors)))


@given(small_changes(), small_changes())
def test_the_rule_does_not_ask_which_volume_comes_first(one, other):
    assert grid(one).displacement(grid(other)) == grid(other).displacement(grid(one))
    assert grid(one).matches(grid(other)) == grid(other).matches(grid(one))


@given(small_changes(), vectors, vectors)
def test_a_common_rigid_motion_changes_nothing(change, turn, shift):
    motion = nib.affines.from_matvec(
        Rotation.from_rotvec(3 * np.array(turn)).as_matrix(), 200 * np.array(shift)
    )
    moved = Grid(SHAPE, motion @ LPS), Grid(SHAPE, motion @ change @ LPS)
    # Differences of places up to some 500 mm from the origin, in float64
    np.testing.assert_allclose(
        moved[0].displacement(moved[1]), grid().displacement(grid(change)), rtol=0, atol=1e-10
    )


@given(small_changes(), st.sampled_from([("meter", 1e3), ("micron", 1e-3), ("unknown", 1.0)]))
def test_units_of_length_change_nothing(change, unit):
    name, millimetres = unit
    header = nib.Nifti1Header()
    header.set_xyzt_units(name)
    scale = np.diag([1 / millimetres] * 3 + [1])
    in_units = Grid(SHAPE, scale @ change @ LPS, header)
    np.testing.assert_allclose(
        in_units.displacement(grid()), grid(change).displacement(grid()), rtol=0, atol=1e-10
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (shifted(-7), "but the origin differs by 7 mm in x; corners lie up to 7 voxels apart"),
        (shifted(0, 0.2, 3), "the origin differs by 0.2 mm in y, 3 mm in z;"),
        (turned(5), "one is rotated by 5° against the other; the centre differs by"),
        (turned(-0.2, "x"), "one is rotated by 0.2° against the other"),
        (np.diag([1, 1.02, 1, 1]), "the voxel size differs, 1 × 1 × 3 against 1 × 1.02 × 3 mm"),
        (np.diag([-1, 1, 1, 1.0]), "the axes differ, LPS against RPS (flipped in x)"),
        (np.diag([-1, 1, -1, 1.0]), "LPS against RPI (flipped in x, z)"),
        (np.eye(4) + 0.1 * np.eye(4, k=1), "one is sheared against the other"),
    ],
)
def test_a_difference_is_said_in_words(change, said):
    with pytest.raises(InputError) as refused:
        require_same_grid("t1.nii", grid(), "flair.nii", grid(change))
    assert str(refused.value).startswith("t1.nii and flair.nii must lie on one grid, but ")
    assert said in str(refused.value)
    assert "[" not in str(refused.value)  # no matrix


def test_only_what_differs_is_said():
    assert "rotated" not in difference(grid(), grid(shifted(7)))
    assert "voxel size" not in difference(grid(), grid(turned(30) @ shifted(7)))
    assert "axes" not in difference(grid(), grid(np.diag([1, 1.02, 1, 1])))


def test_the_same_volume_in_other_axes_differs_in_shape_and_axes_alone():
    image = nib.Nifti1Image(np.zeros(SHAPE, np.uint8), LPS)
    change = ornt_transform(io_orientation(LPS), axcodes2ornt("PIR"))
    other = image.as_reoriented(change)
    said = difference(grid(), Grid(other.shape, other.affine))
    assert said == (
        "the shape differs, (181, 217, 60) against (217, 60, 181); the axes differ, LPS against PIR"
    )


AXES = ["".join(sides) for order in permutations(("RL", "AP", "SI")) for sides in product(*order)]


@pytest.mark.parametrize("axes", AXES)
def test_grids_at_45_degrees_come_in_the_axes_asked_for_and_back(axes):
    """Where two sides are equally near, the affine alone does not tell which axis is which."""
    for degrees, about in product((45, -45, 135, 225), "xyz"):
        own = Grid((6, 7, 8), turned(degrees, about) @ np.diag([1, 1.1, 1.2, 1]))
        there = own.in_axes(axes)
        assert there.axes == axes
        data = np.arange(6 * 7 * 8).reshape(own.shape)
        moved = there.from_file(data)
        assert moved.shape == there.shape
        np.testing.assert_array_equal(there.to_file(moved), data)
        voxel = (1, 2, 3)
        first = np.unravel_index(int(moved[voxel]), own.shape)
        np.testing.assert_allclose(there.world(voxel), own.world(first), atol=1e-12)
        box = Box.at(voxel, (3, 3, 3))
        own_box = there.box_in_file(box)
        np.testing.assert_array_equal(there.to_file(box.cut(moved)), own_box.cut(data))
        crop = there.crop(voxel, (3, 3, 3))
        np.testing.assert_array_equal(crop.change, there.change)
        # Its affine is rounded to float32, as the header holds it
        np.testing.assert_allclose(crop.world((0, 0, 0)), there.world(voxel), atol=1e-5)
        np.testing.assert_allclose(crop.world((2, 2, 2)), there.world((3, 4, 5)), atol=1e-5)


def test_grids_of_one_origin_and_another_number_of_slices_differ_in_shape_alone():
    other = Grid((181, 217, 61), LPS)
    assert difference(grid(), other) == "the shape differs, (181, 217, 60) against (181, 217, 61)"


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SLA"])
def test_voxels_of_another_size_keep_axes_and_centre(axes):
    affine = turned(20) @ np.diag([-0.7, 0.7, 3.0, 1.0])
    scan = Grid((40, 50, 11), affine).in_axes(axes)
    found, sizes = scan.with_spacing((1.0, 2.0, 1.5)), (1.0, 2.0, 1.5)
    assert found.shape == tuple(np.rint(np.multiply(scan.shape, scan.spacing) / sizes))
    assert found.axes == scan.axes == axes
    np.testing.assert_allclose(found.spacing, sizes, rtol=1e-5)
    steps = [each.affine_mm[:3, :3] / each.spacing for each in (found, scan)]
    np.testing.assert_allclose(*steps, atol=1e-6)
    centres = [each.world((np.array(each.shape) - 1) / 2) for each in (found, scan)]
    np.testing.assert_allclose(*centres, atol=1e-4)
