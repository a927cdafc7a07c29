"""Heat maps' invariants, the choice of layers, and what is refused."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from helpers.peers import ROI, converted
from helpers.small_networks import AttentionFunction, attention_parameters

from jaxsal import InputError, gradcam, gradcam_plus_plus, sliding_window, whole_volume
from jaxsal.box import Box
from jaxsal.saliency.gradcam.maps import HeatMaps, WindowMap
from jaxsal.saliency.gradcam.parts import apart, box_of, frame_of
from jaxsal.saliency.gradcam.upper_network import UpperNetwork

SHAPE = (20, 16, 16)
LAYER = "decoder.0.joined"

rng = np.random.default_rng(0)
IMAGE = rng.normal(size=(*SHAPE, 2)).astype(np.float32)
LABELS = np.zeros(SHAPE, np.int32)
LABELS[2:4, 3:5, 3] = 3
LABELS[16:18, 12, 10:13] = 5


def explain(labels=LABELS, network="short", image=IMAGE, **options):
    return gradcam_plus_plus(converted(network), image, labels, **{"layer": LAYER, **options})


def difference(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


def test_distant_lesions_share_a_pull_back_and_keep_their_own_maps():
    together = explain()
    for label in (3, 5):
        alone = explain(np.where(label == LABELS, label, 0))
        assert difference(together.native(label), alone.native(label)) <= 1e-6


def test_only_lesions_that_lie_apart_share():
    model = converted("short")
    upper = UpperNetwork(model.function, LAYER, 1)
    boxes = [
        box_of(upper, model.parameters, np.argwhere(label == LABELS), SHAPE) for label in (3, 5)
    ]
    assert apart(boxes) == [[0, 1]]
    assert apart([boxes[0], boxes[0]]) == [[0], [1]]


def test_boxes_that_meet_are_kept_apart():
    boxes = [
        Box.at((0, 0, 0), (2, 2, 2)),
        Box.at((1, 1, 1), (2, 2, 2)),
        Box.at((2, 0, 0), (1, 1, 1)),
    ]
    assert apart(boxes) == [[0, 2], [1]]


def test_frames_hold_their_boxes_and_have_few_sizes():
    assert frame_of(Box.at((4, 0, 2), (3, 1, 2)), (8, 8, 8)) == Box.at((4, 0, 2), (4, 4, 4))
    assert frame_of(Box.at((7, 7, 0), (1, 1, 5)), (8, 8, 6)) == Box.whole((8, 8, 6))


def test_maps_do_not_depend_on_labels_numbers():
    renamed = explain(np.select([LABELS == 3, LABELS == 5], [8, 2]))
    assert renamed.labels == (2, 8)
    np.testing.assert_array_equal(renamed.native(8), explain().native(3))


def test_results_do_not_depend_on_the_number_of_devices():
    field = sliding_window(converted("short"), roi=ROI)
    one, two = (explain(field=field, devices=jax.devices()[:count]) for count in (1, 2))
    for label in one.labels:
        np.testing.assert_allclose(two.dense(label), one.dense(label), rtol=1e-6)


def test_monais_path_names_the_same_layer():
    model = converted("short")
    model = type(model)(
        model.config, model.parameters, model.channels, aliases={"model.0.conv": "encoder.0.conv"}
    )
    ours, theirs = (
        gradcam_plus_plus(model, IMAGE, LABELS, layer=layer).native(3)
        for layer in ("encoder.0.conv", "model.0.conv")
    )
    np.testing.assert_array_equal(ours, theirs)


def test_derivatives_are_kept_on_request():
    kept = explain(keep_derivatives=True).windows(3)[0].derivatives
    assert explain().windows(3)[0].derivatives is None
    assert kept.first.any()
    assert kept.diagonals is None  # the network is piecewise linear


def test_without_lesions_there_are_no_maps():
    assert explain(np.zeros_like(LABELS)).labels == ()


def test_progress_ends_with_all_lesions():
    told = []
    explain(on_progress=told.append)
    assert (told[-1].lesions_done, told[-1].gradients_done) == (2, told[-1].gradients)


def test_a_dead_layer_gives_a_map_of_zeros():
    model = converted("short")
    zero = {
        name: value * 0 if name.startswith("encoder.0.conv.") else value
        for name, value in model.parameters.items()
    }
    dead = type(model)(model.config, zero, model.channels)
    with pytest.warns(UserWarning, match=r"2 of 2 heat maps at encoder\.0\.conv are zero"):
        maps = gradcam_plus_plus(dead, IMAGE, LABELS, layer="encoder.0.conv")
    assert not maps.dense(3).any()
    assert maps.crop(3).values.shape == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "decoder.0.joint"}, "decoder.0.joined"),
        ({"derivatives": "second"}, "closed-form, exact, stochastic"),
        ({"denominator": "keras"}, "paper, monai"),
        ({"probes": 1}, "at least 2"),
        ({"target": 2}, "2 outputs"),
        ({"memory": 2**10}, "allow more memory"),
        ({"image": IMAGE[..., :1]}, "2 channels"),
        ({"image": IMAGE[..., 0]}, "axes"),
        ({"labels": LABELS[1:]}, "image's grid"),
        ({"field": whole_volume(converted("local"))}, "another's"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_done_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        explain(**options)


def test_gradcam_has_none_of_the_arguments_of_gradcam_plus_plus_weights():
    with pytest.raises(InputError, match="unknown option probes"):
        gradcam(converted("short"), IMAGE, LABELS, layer="conv", probes=9)


def test_a_network_without_named_layers_is_refused():
    with pytest.raises(InputError, match=r"jaxsal\.Model"):
        gradcam(lambda batch: batch, IMAGE, LABELS, layer="conv")


def test_a_layer_without_positions_in_space_is_refused():
    class Model:
        function, parameters = AttentionFunction(), attention_parameters()

        def resolve_layer(self, name):
            return name

    with pytest.raises(InputError, match="positions in space"):
        gradcam(Model(), IMAGE, LABELS, layer="flat")


def test_a_lesion_in_several_windows_has_no_single_native_map():
    shared = np.roll(LABELS, 6, axis=0)  # lesion 3 to where both windows along X reach
    maps = explain(shared, field=sliding_window(converted("short"), roi=ROI))
    assert [window.origin for window in maps.windows(3)] == [(0, 0, 0), (4, 0, 0)]
    with pytest.raises(InputError, match="2 windows"):
        maps.native(3)


def test_an_unknown_label_is_refused():
    with pytest.raises(InputError, match=r"\[3, 5\]"):
        explain().dense(4)


def test_a_map_in_the_padding_is_left_out():
    values = np.ones((2, 2, 2), np.float32)
    maps = HeatMaps(
        {1: (WindowMap(values, (0, 0, 0), (2, 2, 2), (-2, 0, 0), (4, 4, 4)),)}, (2, 4, 4)
    )
    assert maps.dense(1).shape == (2, 4, 4)
    assert (maps.dense(1) == 1).all()
