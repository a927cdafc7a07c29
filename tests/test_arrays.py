"""The arrays of public functions are what their annotations say."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from helpers.checked import array_hints, checked

import jaxsal
from jaxsal.saliency.maps import Crop

WITH_ARRAYS = {
    *("gradcam", "gradcam_plus_plus", "hirescam", "layercam", "quantus_explain"),
    *("gradient", "integrated_gradients", "occlusion", "vargrad"),
    *("smoothgrad", "smoothgrad_stream"),
    *("read_image", "read_labels", "read_scan", "write_volume"),
}


def promising(image: Image, labels: Labels | None = None) -> tuple[SaliencyMap, int]:  # noqa: F821
    return np.asarray(image, np.float32)[..., :2], 3


def test_public_functions_say_which_arrays_they_take_and_return() -> None:
    functions = {name: getattr(jaxsal, name) for name in jaxsal.__all__}
    found = {n for n, f in functions.items() if inspect.isfunction(f) and array_hints(f)}
    assert found == WITH_ARRAYS


@pytest.mark.parametrize(
    ("image", "labels", "said"),
    [
        ((3, 4, 5), None, "image of promising"),
        ((3, 4, 5, 2), (3, 4, 6), "labels of promising"),
        ((3, 4, 5, 3), None, r"return of promising \[0\]"),
    ],
)
def test_other_axes_are_found_out(
    image: tuple[int, ...], labels: tuple[int, ...] | None, said: str
) -> None:
    with pytest.raises(TypeError, match=said):
        checked(promising)(np.ones(image), None if labels is None else np.ones(labels, int))


def test_arrays_as_promised_pass() -> None:
    values, count = checked(promising)(np.ones((3, 4, 5, 2)), np.ones((3, 4, 5), bool))
    assert (values.dtype, count) == (np.float32, 3)


def test_methods_and_fields_are_checked() -> None:
    maps = jaxsal.SaliencyMaps(
        {1: Crop(np.ones((1, 1, 1, 2), np.float32), (0, 0, 0), 1)}, (2, 2, 2)
    )
    assert maps.dense(1).shape == (2, 2, 2, 2)
    with pytest.raises(TypeError, match=r"values of Crop.__init__"):
        Crop(np.ones((1, 1, 1, 2)), (0, 0, 0), 1)
