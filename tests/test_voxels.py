"""The domain argmax against PyTorch's, and what is said where nothing is segmented."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from jaxsal.errors import InputError
from jaxsal.voxels import most_probable, nothing_segmented


@pytest.mark.parametrize("outputs", [2, 4])
def test_the_most_probable_class_is_pytorchs_argmax(outputs):
    logits = np.random.default_rng(0).normal(size=(5, 4, 3, outputs)).astype(np.float32)
    classes = torch.from_numpy(logits).softmax(-1).argmax(-1).numpy()
    for target in range(outputs):
        np.testing.assert_array_equal(most_probable(logits, target), classes == target)


def test_of_equally_probable_classes_the_first_is_taken():
    logits = np.zeros((1, 1, 1, 3))
    assert [bool(most_probable(logits, target).item()) for target in range(3)] == [1, 0, 0]


@pytest.mark.parametrize(("outputs", "probability"), [(1, "softmax"), (3, "sigmoid")])
def test_outputs_that_are_no_classes_have_no_argmax(outputs, probability):
    with pytest.raises(InputError, match=f"this network has {outputs} output"):
        most_probable(np.zeros((2, 2, 2, outputs)), 0, probability)


@pytest.mark.parametrize(
    ("threshold", "outputs", "probability", "said"),
    [
        (0.5, 20, "softmax", "is 0.311, below the threshold 0.5, which the most probable of 20"),
        (0.5, 20, "softmax", "the domain argmax takes the voxels where that is lesion"),
        (0.3, 2, "softmax", "is 0.311, below the threshold 0.3"),
        (0.3, 3, "sigmoid", "is 0.311, below the threshold 0.3"),
        (None, 20, "softmax", "nowhere the most probable class; its highest probability is 0.311"),
    ],
)
def test_it_is_said_how_far_from_lesion_the_voxels_are(threshold, outputs, probability, said):
    told = nothing_segmented(0.31111, threshold, outputs, probability)
    assert said in told
    assert ("domain argmax" in told) == (threshold is not None and outputs == 20)
