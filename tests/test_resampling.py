"""Images in another voxel size: by nnU-Net's rules, and what holds for any resampling."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import nnunet_resampling as nnunet
from hypothesis import given
from hypothesis import strategies as st

from jaxsal.errors import InputError
from jaxsal.resampling import Resampling, Spline, new_shape, resample

ISOTROPIC = (1.0, 1.0, 1.0)
SIZES = st.tuples(*3 * [st.sampled_from([0.5, 0.7, 1.0, 1.2, 3.1])])
SHAPES = st.tuples(*3 * [st.integers(2, 9)])


def noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, "f4")


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize(
    ("spacing", "wanted"),
    [
        ((1.2, 0.9, 0.8), ISOTROPIC),
        ((0.7, 0.7, 3.0), ISOTROPIC),  # the longest voxels are apart, of the scan
        (ISOTROPIC, (3.5, 0.7, 0.7)),  # and of the network
        ((4.0, 4.0, 1.0), ISOTROPIC),  # two axes share the longest: none is apart
    ],
)
def test_images_are_resampled_as_nnunet_does(
    spacing: tuple[float, float, float], wanted: tuple[float, float, float], order: int
) -> None:
    data = noise((11, 12, 9, 2))
    shape = new_shape(data.shape[:3], spacing, wanted)
    assert shape == nnunet.new_shape(data.shape[:3], spacing, wanted)
    found = resample(data, shape, spacing, wanted, Spline(order, apart=None))
    expected = nnunet.resample(np.moveaxis(data, -1, 0), shape, spacing, wanted, order)
    np.testing.assert_allclose(found, np.moveaxis(expected, 0, -1), atol=1e-6)  # of float32


@pytest.mark.parametrize("order", [0, 1, 3])
def test_resizing_is_that_of_scikit_image(order: int) -> None:
    transform = pytest.importorskip("skimage.transform")
    data = noise((7, 10, 6, 1))
    expected = transform.resize(
        data[..., 0].astype(float), (9, 6, 8), order, mode="edge", anti_aliasing=False
    )
    found = resample(data, (9, 6, 8), ISOTROPIC, ISOTROPIC, Spline(order))
    np.testing.assert_allclose(found[..., 0], expected, atol=1e-6)


@given(SHAPES, SIZES, st.sampled_from([Spline(), Spline(1), Spline(3, apart=None)]))
def test_the_same_voxels_are_left_as_they_are(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], spline: Spline
) -> None:
    data = noise((*shape, 1))
    assert new_shape(shape, spacing, spacing) == shape
    assert resample(data, shape, spacing, spacing, spline) is data


@given(SHAPES, SHAPES, SIZES, SIZES)
def test_values_stay_within_those_of_the_image(
    shape: tuple[int, int, int],
    new: tuple[int, int, int],
    spacing: tuple[float, float, float],
    wanted: tuple[float, float, float],
) -> None:
    data = noise((*shape, 1))
    found = resample(data, new, spacing, wanted, Spline(3, apart=None))
    assert found.shape == (*new, 1)
    assert data.min() <= found.min()
    assert found.max() <= data.max()


@pytest.mark.parametrize(("order", "error"), [(1, 0.02), (3, 0.002)])
def test_a_smooth_image_is_the_same_after_there_and_back(order: int, error: float) -> None:
    places = np.meshgrid(*[np.linspace(0, np.pi, n) for n in (40, 36, 30)], indexing="ij")
    image = np.prod(np.sin(places), axis=0)[..., None].astype(np.float32)
    there = resample(image, (50, 52, 43), ISOTROPIC, (0.8, 0.7, 0.7), Spline(order))
    back = resample(there, image.shape[:3], (0.8, 0.7, 0.7), ISOTROPIC, Spline(order))
    inside = (slice(3, -3),) * 3  # at the edges nothing is known of what lies beyond
    np.testing.assert_allclose(back[inside], image[inside], atol=error)


@pytest.mark.parametrize(
    ("spline", "spacing", "axis"),
    [
        (Spline(apart=None), (1.0, 3.1, 1.0), 1),
        (Spline(apart=None), (1.0, 3.0, 1.0), None),  # more than three times as long
        (Spline(apart=None, anisotropy=2.0), (1.0, 3.0, 1.0), 1),
        (Spline(apart=True), (1.0, 1.0, 1.1), 2),
        (Spline(apart=False), (1.0, 9.0, 1.0), None),
    ],
)
def test_an_axis_of_long_voxels_is_resampled_apart(
    spline: Spline, spacing: tuple[float, float, float], axis: int | None
) -> None:
    assert spline.axis_apart(spacing, ISOTROPIC) == axis


@pytest.mark.parametrize(
    ("tolerance", "shape"), [(0.01, (200, 9, 9)), (0.0, (201, 9, 9))], ids=["scanner", "nnunet"]
)
def test_sizes_that_differ_by_rounding_are_the_same_unless_voxels_count(
    tolerance: float, shape: tuple[int, int, int]
) -> None:
    found = Resampling(tolerance=tolerance).shape((200, 9, 9), (1.004, 1.0, 1.0), ISOTROPIC)
    assert found == shape


@pytest.mark.parametrize("order", [-1, 6])
def test_splines_have_orders_from_0_to_5(order: int) -> None:
    with pytest.raises(InputError, match=f"from 0 to 5, got {order}"):
        Spline(order)
