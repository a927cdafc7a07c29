"""The compiled step: PyTorch's numbers, whatever the devices; small U-Nets learn a patch.

Of the networks that take long to compile it is only looked at how a step changes their state.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest
import torch
from helpers.compilations import compilations
from helpers.training_small import CHANNELS, LOSS, QUICK, Trainer, config, patches, training
from monai.losses import FocalLoss
from monai.networks.nets import UNet

from jaxsal.losses import WeightedLoss
from jaxsal.model import Model
from jaxsal.nets.registry import parameter_shapes
from jaxsal.training.step import (
    Placement,
    initial_state,
    learning_rate,
    make_optimiser,
    make_update,
)
from jaxsal_converters.unet import convert

pytestmark = pytest.mark.usefixtures("xla_convolutions")

FOCAL = WeightedLoss(normalised_dice=0.0, blob=0.0, focal=1.0)


def arrays(network: torch.nn.Module) -> dict[str, np.ndarray]:
    entries = network.state_dict().items()
    return {k: v.numpy().copy() for k, v in entries if "num_batches" not in k}


def test_two_steps_are_those_of_pytorch() -> None:
    torch.manual_seed(0)
    network = UNet(3, 2, 2, (3, 4), (2,), norm="batch", bias=False).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=0.1)
    settings = replace(QUICK, weight_decay=0.1, clip=0.05)
    architecture, parameters, _ = convert(arrays(network))
    trainer = Trainer(training(architecture), settings, loss=FOCAL, parameters=parameters)
    norms = []
    for seed in range(2):
        batch = patches(seed=seed)
        image = torch.from_numpy(batch["image"].transpose(0, 4, 1, 2, 3).copy())
        truth = torch.from_numpy((batch["labels"] > 0).astype(np.float32))
        optimiser.zero_grad()
        logits = network(image)
        loss = FocalLoss(gamma=2)((logits[:, 1] - logits[:, 0])[:, None], truth[:, None])
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(network.parameters(), settings.clip)))
        optimiser.step()
        figures = trainer.step(batch)
        assert figures["loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
        assert figures["gradient_norm"] == pytest.approx(norms[-1], rel=1e-4)
    assert norms[0] > settings.clip  # so that clipping is compared, too
    _, expected, _ = convert(arrays(network))
    found = trainer.state.parameters
    voxels = {"encoder.0": 2 * 4**3, "bottleneck": 2 * 4**3}
    for name, value in expected.items():
        ours, start = found[name], np.asarray(parameters[name])
        block, _, kind = name.rpartition(".norm.")
        if kind == "var":  # PyTorch keeps the unbiased variance; 0.81 of it is the initial one
            count = voxels[block]
            ours = 0.81 + (ours - 0.81) * count / (count - 1)
        assert np.abs(np.asarray(value) - start).max() > 1e-3, name  # it did change
        np.testing.assert_allclose(ours, value, rtol=0, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("kind", ["unet", "nnunet"])
def test_networks_learn_a_patch(kind: str) -> None:
    batch = patches(size=8)
    trainer = Trainer(training(config(kind)))
    losses = [trainer.step(batch)["loss"]]
    with compilations() as names:
        losses += [trainer.step(batch)["loss"] for _ in range(14)]
    assert min(losses[-3:]) < losses[0] - 0.1  # of 3, which is the most; dropout is noisy
    assert np.isfinite(losses).all()
    assert names == []  # nothing is compiled again


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("dynunet", {}),
        pytest.param("swin-unetr", {"rematerialise": True}, marks=pytest.mark.thorough),
    ],
)
def test_a_step_keeps_the_state_as_it_is_made(kind: str, options: dict[str, Any]) -> None:
    """Traced alone: it takes long to compile, a minute and more for the transformer."""
    network = training(config(kind), "bfloat16", **options)
    optimiser = make_optimiser(QUICK, learning_rate(QUICK, 10))
    update = make_update(network, LOSS, optimiser, Placement(jax.devices()[:1], 1))
    parameters = {
        name: jax.ShapeDtypeStruct(shape, np.float32)
        for name, shape in parameter_shapes(network.config).items()
    }
    before = jax.eval_shape(lambda p: initial_state(network.config, p, optimiser), parameters)
    after, figures = jax.eval_shape(update, before, *patches(1, 32).values())
    assert jax.tree.structure(after) == jax.tree.structure(before)
    pairs = zip(jax.tree.leaves(after), jax.tree.leaves(before), strict=True)
    assert all((a.shape, a.dtype) == (b.shape, b.dtype) for a, b in pairs)
    assert figures["loss"].shape == ()


def test_devices_share_a_batch_as_one_would_compute_it() -> None:
    if len(jax.devices()) < 2:
        pytest.skip("XLA_FLAGS were set to one CPU device")
    found = []
    for devices in (1, 2):
        trainer = Trainer(training(config("unet")), devices=devices)
        figures = [trainer.step(patches(seed=seed)) for seed in range(3)]
        found.append((figures, trainer.state.parameters))
    (one, a), (two, b) = found
    for first, second in zip(one, two, strict=True):
        assert second == pytest.approx(first, rel=1e-4)
    for name, value in a.items():  # statistics, too, which are those of the whole batch
        np.testing.assert_allclose(b[name], value, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(("devices", "batch", "used"), [(4, 6, 3), (4, 1, 1), (2, 4, 2)])
def test_as_many_devices_are_used_as_divide_a_batch(devices: int, batch: int, used: int) -> None:
    if len(jax.devices()) < devices:
        pytest.skip("XLA_FLAGS were set to fewer CPU devices")
    assert len(Placement(jax.devices()[:devices], batch).devices) == used


def test_accumulated_batches_are_one_large_batch() -> None:
    architecture = config("unet", norm=None, kernel_size=1, up_kernel_size=1)
    whole = Trainer(training(architecture), batch=4)
    parts = Trainer(training(architecture), replace(QUICK, accumulate=2))
    batch = patches(4)
    start = parts.state.parameters
    whole.step(batch)
    parts.step({name: value[:2] for name, value in batch.items()})
    for name, value in start.items():
        np.testing.assert_array_equal(parts.state.parameters[name], value)
    parts.step({name: value[2:] for name, value in batch.items()})
    for name, value in whole.state.parameters.items():
        np.testing.assert_allclose(parts.state.parameters[name], value, atol=2e-5, err_msg=name)


def test_batches_of_an_update_count_as_one_in_the_statistics() -> None:
    settings = replace(QUICK, accumulate=4, momentum=0.9)
    assert settings.momentum_per_batch**4 == pytest.approx(0.9)


def test_bfloat16_is_close_and_keeps_float32_weights() -> None:
    found = {}
    for precision in ("float32", "bfloat16"):
        trainer = Trainer(training(config("unet"), precision))
        found[precision] = [trainer.step(patches())["loss"] for _ in range(5)]
        leaves = jax.tree.leaves((trainer.state.weights, trainer.state.statistics))
        assert {leaf.dtype.name for leaf in leaves} == {"float32"}
    np.testing.assert_allclose(found["bfloat16"], found["float32"], rtol=0.02)
    assert found["bfloat16"] != found["float32"]


@pytest.mark.thorough
def test_dropout_is_drawn_from_the_key() -> None:
    architecture = config("dynunet", dropout=0.5, kernel_size=[1, 1, 1])
    parameters = Model.initialise(architecture, CHANNELS).parameters
    run = jax.jit(training(architecture))
    batch = patches()["image"]
    first, again, other = (
        np.asarray(run(parameters, {}, batch, jax.random.key(seed))[0]) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1
    assert np.mean(first == 0) == pytest.approx(0.5, abs=0.05)  # MONAI drops logits, too
