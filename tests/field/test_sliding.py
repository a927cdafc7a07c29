"""Windows placed and weighted by nnU-Net's rules."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from helpers.nnunet_inference import gaussian, sliding_window_logits

from jaxsal import InputError, sliding_window
from jaxsal.field.sliding import axis_starts, gaussian_importance


@pytest.mark.parametrize(
    ("size", "roi", "overlap", "expected"),
    [
        (110, 64, 0.5, [0, 23, 46]),  # the example in nnU-Net's source
        (128, 128, 0.5, [0]),
        (160, 128, 0.5, [0, 32]),
        (193, 128, 0.5, [0, 32, 65]),  # 32.5 becomes the even neighbour
        (63, 40, 0.5, [0, 12, 23]),  # 11.5 too
        (100, 40, 0.25, [0, 30, 60]),
        (41, 40, 0.0, [0, 1]),
    ],
)
def test_nnunets_windows_are_evenly_spaced(size, roi, overlap, expected):
    assert axis_starts("nnunet", size, roi, overlap).tolist() == expected


@pytest.mark.parametrize("roi", [(16, 16, 16), (7, 12, 96), (40, 33, 28)])
def test_importance_is_that_of_nnunet_to_the_last_bit(roi):
    np.testing.assert_array_equal(gaussian_importance("nnunet", roi), gaussian(roi).numpy())


def test_nnunets_importance_is_not_a_multiple_of_monais():
    ratio = gaussian_importance("nnunet", (16,) * 3) / gaussian_importance("monai", (16,) * 3)
    assert ratio.max() > 2 * ratio.min()


@pytest.mark.parametrize("shape", [(25, 19, 7), (12, 10, 9), (31, 10, 22)])
def test_blending_equals_nnunet_for_a_network_that_depends_on_the_position_in_its_window(shape):
    roi = (12, 10, 9)
    ramp = np.linspace(-1, 1, 12 * 10 * 9, dtype=np.float32).reshape(roi)
    image = np.random.default_rng(0).standard_normal((*shape, 2), "f4")
    field = sliding_window(
        lambda batch: batch * ramp[..., None], roi=roi, overlap=0.5, windows="nnunet"
    )
    batch = torch.movedim(torch.tensor(image), -1, 0)[None]
    theirs = sliding_window_logits(lambda window: window * torch.tensor(ramp), batch, roi)
    ours = np.moveaxis(np.asarray(field(jnp.asarray(image))), -1, 0)
    np.testing.assert_allclose(ours, theirs[0], rtol=1e-5, atol=1e-6)


def test_other_rules_are_refused():
    with pytest.raises(InputError, match="windows must be one of monai, nnunet; got 'tta'"):
        sliding_window(lambda batch: batch, windows="tta")
