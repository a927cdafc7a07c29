"""A model checks what it is given, and names and measures its network."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.peers import converted

from jaxsal.errors import InputError
from jaxsal.model import Model, describe_mismatch
from jaxsal.nets.unet_config import UNetConfig
from jaxsal.preprocessing import Normalisation, Preprocessing
from jaxsal.settings import PRECISIONS

TINY = UNetConfig.from_arguments(
    {
        "in_channels": 2,
        "out_channels": 2,
        "channels": [2, 3],
        "strides": [[2, 2, 1]],
        "kernel_size": [1, 3, 3],
        "norm": "batch",
    }
)
CHANNELS = ("flair", "t1")
ALIASES = {"model.0.conv": "encoder.0.conv", "model.2": "decoder.0.upsample"}


@pytest.fixture(scope="module")
def model() -> Model:
    fresh = Model.initialise(TINY, CHANNELS, threshold=0.3, seed=3)
    return Model(TINY, fresh.parameters, CHANNELS, 0.3, ALIASES)


def batch_of(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape)


def test_a_notebook_shows_a_model_on_one_line(model: Model) -> None:
    many = f"{model.parameter_count:,} parameters"
    assert repr(model) == f"Model(unet, channels flair t1, threshold 0.3, {many})"


def test_logits_have_the_size_of_the_images(model: Model) -> None:
    logits = model(batch_of((3, 4, 2, 5, 2)))
    assert logits.shape == (3, 4, 2, 5, 2)
    assert logits.dtype == jnp.float32
    assert float(jnp.ptp(logits)) > 0


def test_activations_come_with_the_logits_in_the_order_of_computation(model: Model) -> None:
    batch = batch_of((1, 4, 4, 4, 2))
    logits, activations = model.activations(batch)
    assert tuple(activations) == model.layers
    assert model.layers[0] == "encoder.0.conv"
    assert activations["bottleneck"].shape == (1, 2, 2, 4, 3)
    np.testing.assert_array_equal(activations[model.layers[-1]], logits)
    np.testing.assert_allclose(logits, model(batch), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "rule"),
    [
        ((4, 4, 4, 2), r"\(B, X, Y, Z, 2\).*flair, t1.*\(4, 4, 4, 2\)"),
        ((1, 4, 4, 4, 3), r"\(1, 4, 4, 4, 3\)"),
        ((1, 4, 5, 4, 2), r"multiples of \(2, 2, 1\).*\(4, 5, 4\)"),
        ((1, 0, 4, 4, 2), "multiples"),
    ],
)
def test_batches_of_another_shape_are_refused(
    model: Model, shape: tuple[int, ...], rule: str
) -> None:
    with pytest.raises(InputError, match=rule):
        model(np.zeros(shape))


def test_layer_norm_refuses_images_of_another_size() -> None:
    norm = ["layer", {"normalized_shape": [4, 5, 6]}]
    config = UNetConfig.from_arguments({**TINY.to_arguments(), "strides": [1], "norm": norm})
    model = Model.initialise(config, CHANNELS)
    assert config.fixed_size == (4, 5, 6)
    with pytest.raises(InputError, match=r"\(4, 5, 6\)"):
        model(np.zeros((1, 4, 5, 7, 2)))


def test_the_same_seed_gives_the_same_weights() -> None:
    one, same, other = (Model.initialise(TINY, CHANNELS, seed=s).parameters for s in (1, 1, 2))
    np.testing.assert_array_equal(one["bottleneck.conv.kernel"], same["bottleneck.conv.kernel"])
    assert not np.array_equal(one["bottleneck.conv.kernel"], other["bottleneck.conv.kernel"])


def test_parameter_count_is_that_of_learnt_values(model: Model) -> None:
    encoder = 1 * 3 * 3 * 2 * 2 + 2 + (2 + 2) + 1  # kernel, bias, norm, slope
    bottleneck = 1 * 3 * 3 * 2 * 3 + 3 + (3 + 3) + 1
    decoder = 3 * 3 * 3 * (2 + 3) * 2 + 2
    assert model.parameter_count == encoder + bottleneck + decoder


def test_receptive_field_is_the_largest_over_positions(model: Model) -> None:
    # x: up-sampling reads 1 or 2 cells, the kernels of one voxel keep them: 2 (2 - 1) + 1 = 3
    # y: those 2 become 4 in the bottleneck and 2 (4 - 1) + 3 = 9 in the image; z: 3 + 2 + 2 = 7
    assert model.receptive_field == (3, 9, 7)


def test_receptive_field_is_unlimited_with_instance_norm() -> None:
    config = UNetConfig.from_arguments({**TINY.to_arguments(), "norm": "instance"})
    assert Model.initialise(config, CHANNELS).receptive_field is None


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("bottleneck.conv", "bottleneck.conv"),
        ("model.0.conv", "encoder.0.conv"),
        ("model.2", "decoder.0.upsample"),
    ],
)
def test_layers_answer_to_both_names(model: Model, name: str, layer: str) -> None:
    assert model.resolve_layer(name) == layer


@pytest.mark.parametrize(
    ("name", "similar"),
    [("bottelneck.conv", "bottleneck.conv"), ("model.0.convs", "model.0.conv")],
)
def test_an_unknown_layer_is_answered_with_similar_names(
    model: Model, name: str, similar: str
) -> None:
    with pytest.raises(InputError, match=f"{name}.*mean.*{similar}"):
        model.resolve_layer(name)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_gives_about_the_same_logits(model: Model, precision: str) -> None:
    batch = batch_of((1, 4, 4, 4, 2))
    expected, logits = model(batch), model.with_precision(precision)(batch)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, expected, rtol=0, atol=0.03 * float(abs(expected).max()))


def test_an_unknown_precision_is_answered_with_the_known_ones(model: Model) -> None:
    with pytest.raises(InputError, match=r"float32, tf32, bfloat16.*'float64'"):
        model.with_precision("float64")


@pytest.mark.parametrize("threshold", [0, 1, -0.5, 30, float("nan"), "0.3", True, None])
def test_a_threshold_is_a_probability(model: Model, threshold: float) -> None:
    with pytest.raises(InputError, match="threshold"):
        Model(TINY, model.parameters, CHANNELS, threshold)


@pytest.mark.parametrize(
    "channels", [("flair",), ("a", "b", "c"), ("t1", "T1"), ("a/b", "t1"), ("", "t1"), ("a b", "c")]
)
def test_channel_names_are_one_per_channel_distinct_and_fit_for_files(
    model: Model, channels: tuple[str, ...]
) -> None:
    with pytest.raises(InputError, match="channel"):
        Model(TINY, model.parameters, channels)


def test_parameters_must_be_those_of_the_network(model: Model) -> None:
    wrong = dict(model.parameters)
    del wrong["bottleneck.conv.bias"]
    wrong["head.bias"] = jnp.zeros(2)
    wrong["encoder.0.norm.scale"] = jnp.ones(5)
    with pytest.raises(InputError) as raised:
        Model(TINY, wrong, CHANNELS)
    message = str(raised.value)
    assert "1 missing (bottleneck.conv.bias)" in message
    assert "1 extra (head.bias)" in message
    assert "encoder.0.norm.scale (5,) instead of (2,)" in message


def test_a_long_list_of_mismatches_is_shortened() -> None:
    expected = {f"layer.{i}": (1,) for i in range(7)}
    assert describe_mismatch(expected, {}) == "7 missing (layer.0, layer.1, layer.2, …)"
    assert describe_mismatch(expected, expected) == ""


def test_mirroring_averages_over_all_ways_to_mirror_the_image():
    told = Preprocessing((Normalisation("none"),) * 2, (1.0,) * 3, (16,) * 3, mirror_axes=(0, 2))
    model = replace(converted("local"), preprocessing=told)
    batch = jax.random.normal(jax.random.key(0), (1, 12, 8, 8, 2))
    ways = [(), (1,), (3,), (1, 3)]
    expected = np.mean([np.flip(model(jnp.flip(batch, w)), w) for w in ways], axis=0)
    mirroring = model.with_mirroring()
    np.testing.assert_allclose(mirroring(batch), expected, atol=1e-5)
    assert mirroring.receptive_field is None


def test_activations_of_mirrored_images_lie_side_by_side_and_can_be_perturbed():
    model = replace(converted("local"), mirror_axes=(1,))
    batch = jax.random.normal(jax.random.key(0), (1, 8, 12, 8, 2))
    _, activations = model.activations(batch)
    name = model.layers[0]
    _, mirrored = converted("local").activations(jnp.flip(batch, 2))
    own = mirrored[name].shape[-1]
    np.testing.assert_allclose(activations[name][..., own:], jnp.flip(mirrored[name], 2), atol=1e-5)
    last = model.layers[-1]
    moved = jnp.zeros_like(activations[last]).at[:, 1, 2, 3, 2].set(6.0)  # mirrored, channel 0
    perturbed, _ = model.function.with_activations(model.parameters, batch, {last: moved})
    difference = np.asarray(perturbed - model(batch))
    assert difference[0, 1, 2, 3, 0] == pytest.approx(3, abs=1e-4)  # half of it in the mean
    assert np.abs(difference).sum() == pytest.approx(3, abs=1e-2)


@pytest.mark.parametrize(
    ("axes", "said"), [(None, "does not say along which axes"), ((), "was trained without")]
)
def test_mirroring_needs_axes(axes, said):
    model = replace(converted("local"), preprocessing=Preprocessing(mirror_axes=axes))
    with pytest.raises(InputError, match=said):
        model.with_mirroring()
