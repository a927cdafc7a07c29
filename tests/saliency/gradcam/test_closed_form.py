"""Closed-form Grad-CAM++ and its relatives equal PyTorch's autograd, formulas written out.

On the image's grid they are compared by PyTorch's own ``interpolate``, with half-pixel alignment.
"""

from __future__ import annotations

from itertools import product

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from captum.attr import LayerGradientXActivation
from helpers.gradcam_peer import activations_and_gradients, heat_map, module_path, on_image
from helpers.peers import ROI, converted, monai_logits, monai_network
from helpers.thorough import thorough_except

from jaxsal import (
    GradCamSettings,
    Model,
    gradcam,
    gradcam_plus_plus,
    hirescam,
    layercam,
    sliding_window,
    whole_volume,
)
from jaxsal.saliency.heat_maps import heat_maps

SHAPE = (20, 18, 13)  # padded for the whole volume, on both sides alike
# float32 rounding of gradients, of which α takes a quotient whose denominator may have cancelled
# to a thousandth: measured below 1e-4 of the map's peak.
TOLERANCE = 1e-3

rng = np.random.default_rng(0)
IMAGE = rng.normal(size=(*SHAPE, 2)).astype(np.float32)
LABELS = np.zeros(SHAPE, np.int32)
LABELS[7:9, 8:10, 5:7] = 1  # in the interior
LABELS[15:17, 4:6, 8] = 2  # across the seams of windows along X
LABELS[0, 0:2, 0] = 4  # at the volume's border
LABELS[19, 17, 12] = 9  # one voxel in the last corner
LAYERS = {
    "local": ("encoder.0", "bottleneck", "decoder.1.upsample.conv"),
    "short": ("encoder.0.conv", "bottleneck", "decoder.0.joined"),
    "global": ("encoder.0", "bottleneck", "decoder.0.upsample"),
}
FIELDS = ("whole", "sliding")
CASES = [
    (network, layer, field, denominator)
    for network, layers in LAYERS.items()
    for layer in layers
    for field in FIELDS
    for denominator in ("paper", "monai")
]
# Each network, field and denominator at least twice; a layer going down, at the bottom, joined, up.
QUICK = [
    ("local", "bottleneck", "sliding", "paper"),
    ("local", "decoder.1.upsample.conv", "whole", "monai"),
    ("short", "encoder.0.conv", "whole", "paper"),
    ("short", "decoder.0.joined", "sliding", "monai"),
    ("global", "encoder.0", "sliding", "monai"),
    ("global", "decoder.0.upsample", "whole", "paper"),
]


def make_field(name, network):
    model = converted(network)
    return sliding_window(model, roi=ROI) if name == "sliding" else whole_volume(model)


def expected_map(network, field, layer, domain, kind="instance", denominator="paper"):
    found = activations_and_gradients(network, field, IMAGE, domain, layer)
    maps = [heat_map(a, g, kind, denominator) for a, g in zip(*found, strict=True)]
    return maps, on_image(maps, network, field, SHAPE)


def assert_equal(found, expected):
    assert expected.max() > 0
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= TOLERANCE * expected.max()


@pytest.mark.parametrize(
    ("network", "layer", "field", "denominator"), thorough_except(CASES, *QUICK)
)
def test_instance_maps_equal_autograd(network, layer, field, denominator):
    maps = gradcam_plus_plus(
        converted(network),
        IMAGE,
        LABELS,
        layer=layer,
        field=make_field(field, network),
        denominator=denominator,
        alignment="half-pixel",
    )
    assert maps.labels == (1, 2, 4, 9)
    for label in maps.labels:
        native, dense = expected_map(
            network, field, layer, label == LABELS, denominator=denominator
        )
        assert_equal(maps.dense(label), dense)
        if field == "whole":
            assert_equal(maps.native(label), native[0].numpy())


OTHERS = {"gradcam": gradcam, "hirescam": hirescam, "layercam": layercam}


# Quick: each method, and each network and field twice.
@pytest.mark.parametrize(
    ("method", "network", "field"),
    thorough_except(
        product(OTHERS, ("local", "global"), FIELDS),
        ("gradcam", "local", "sliding"),
        ("gradcam", "global", "whole"),
        ("hirescam", "local", "whole"),
        ("layercam", "global", "sliding"),
    ),
)
def test_maps_of_other_weights_equal_autograd(method, network, field):
    maps = OTHERS[method](
        converted(network),
        IMAGE,
        LABELS,
        layer="encoder.0",
        field=make_field(field, network),
        alignment="half-pixel",
    )
    for label in maps.labels:
        _, dense = expected_map(network, field, "encoder.0", label == LABELS, method)
        assert_equal(maps.dense(label), dense)


@pytest.mark.parametrize(
    ("kind", "field"),
    thorough_except(
        product(("class", *OTHERS), FIELDS),
        ("class", "whole"),
        ("class", "sliding"),
        ("gradcam", "whole"),
        ("hirescam", "sliding"),
        ("layercam", "whole"),
    ),
)
def test_class_level_maps_equal_autograd(kind, field):
    probability = monai_logits("local", field, torch.tensor(IMAGE)).softmax(-1)[..., 1].numpy()
    _, dense = expected_map("local", field, "encoder.0", probability >= 0.5, kind)
    explain = OTHERS.get(kind, gradcam_plus_plus)
    model = converted("local")
    given = make_field(field, "local")
    maps = explain(model, IMAGE, layer="encoder.0", field=given, alignment="half-pixel")
    assert maps.labels == (0,)
    assert_equal(maps.dense(), dense)


def test_hirescam_is_captums_gradient_times_activation():
    """Of a wrapper that returns the lesion's summed logits; a size that needs no padding."""
    image, label, layer = IMAGE[:16, :16, :8], LABELS[:16, :16, :8] == 1, "encoder.0.conv"

    def score(batch):
        return monai_network("short")(batch)[:, 1][:, torch.tensor(label)].sum(-1)

    module = monai_network("short").get_submodule(module_path("short", layer))
    batch = torch.tensor(np.moveaxis(image, -1, 0))[None].requires_grad_()
    product = LayerGradientXActivation(score, module).attribute(batch)
    expected = torch.relu(product.detach()[0].sum(0)).numpy()
    found = hirescam(converted("short"), image, label, layer=layer)
    assert_equal(found.native(1), expected)


@pytest.mark.parametrize("field", FIELDS)
def test_domains_may_have_class_level_maps(field):
    settings = GradCamSettings("encoder.0", alignment="half-pixel")
    model, given = converted("local"), make_field(field, "local")
    maps = heat_maps(model, IMAGE, LABELS, settings, class_level=True, field=given)
    _, dense = expected_map("local", field, "encoder.0", LABELS == 2, "class")
    assert_equal(maps.dense(2), dense)


def test_an_ensembles_map_joins_its_members_channels():
    """Activations side by side, each member's gradient half of what it is alone."""
    single, layer = converted("short"), "encoder.0.conv"
    members = {name: jnp.stack([value, value]) for name, value in single.parameters.items()}
    ensemble = Model(single.config, members, single.channels, members=2)
    maps = gradcam_plus_plus(ensemble, IMAGE, LABELS, layer=layer)
    for label in (1, 9):
        (a,), (g,) = activations_and_gradients("short", "whole", IMAGE, label == LABELS, layer)
        both = torch.cat([a, a]), torch.cat([g, g]) / 2
        assert_equal(maps.native(label), heat_map(*both, "instance").numpy())
