"""Trains the network that comes with jaxsal for the demo; used for nothing else.

``python -m bench.demo_network --out DIR``, from the repository's root, trains a small U-Net on
synthetic heads. Networks of one's own are trained by ``jaxsal train``.

The network sees noise of up to the strength that SmoothGrad adds, and intensities whose offset and
scale change from patch to patch: so it learns the contrast of a lesion against what surrounds it,
on both channels, rather than a brightness. Letters: B batch, X Y Z spatial axes, C channels
(FLAIR, T1), K outputs (background, lesion).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxsal.box import Box
from jaxsal.checkpoints import save_model
from jaxsal.demo.phantom import make_phantom
from jaxsal.field.sliding import sliding_window
from jaxsal.lesions import lesion_probability
from jaxsal.model import Model
from jaxsal.nets.registry import NetworkConfig, build, config_from_arguments, split
from jaxsal.types import Triple
from jaxsal.volumes import z_score

CHANNELS = ("flair", "t1")
WIDTHS, STRIDES = (8, 16, 32, 64), (2, 2, 2)
CONFIG = config_from_arguments(
    "unet",
    {"in_channels": 2, "out_channels": 2, "channels": WIDTHS, "strides": STRIDES, "norm": "batch"},
)
SHAPE, SPACING = (112, 136, 112), 1.5  # voxels, mm: what the network is for
WINDOW = 48  # voxels: size of a training patch and of the windows that it is applied in
HEADS, LESIONS = 16, 25  # for training; many lesions per head, as they fill little of it
THRESHOLDS = (0.3, 0.35, 0.4, 0.45, 0.5)
# Averages the running statistics over the last 50 batches or so, during which the decaying
# learning rate has all but stopped the weights: they fit the final weights.
MOMENTUM = 0.98

Batch = tuple[np.ndarray, np.ndarray]  # images (B, X, Y, Z, C) float32, lesion (B, X, Y, Z) bool


class Example(NamedTuple):
    """A head: image (X, Y, Z, C), z-scored float32, and lesion (X, Y, Z), bool."""

    image: np.ndarray
    lesion: np.ndarray


def draw_examples(
    seeds: Iterable[int], shape: Triple = SHAPE, spacing: float = SPACING, lesions: int = LESIONS
) -> list[Example]:
    """One head per seed; see `make_phantom`."""
    heads = (make_phantom(seed, shape, spacing, lesions) for seed in seeds)
    return [
        Example(np.stack([z_score(h.flair), z_score(h.t1)], axis=-1), h.lesions > 0) for h in heads
    ]


def draw_batch(
    rng: np.random.Generator, examples: Sequence[Example], size: int, window: int
) -> Batch:
    """Random patches, every other one near a lesion, randomly flipped and changed in intensity."""
    patches = [
        _augment(rng, _draw_patch(rng, examples[int(e)], window, near_lesion=b % 2 == 0))
        for b, e in enumerate(rng.integers(len(examples), size=size))
    ]
    return np.stack([p.image for p in patches]), np.stack([p.lesion for p in patches])


def _draw_patch(
    rng: np.random.Generator, example: Example, window: int, near_lesion: bool
) -> Example:
    last = np.array(example.lesion.shape) - window
    start = rng.integers(0, last + 1)
    if near_lesion and example.lesion.any():
        voxel = rng.choice(np.argwhere(example.lesion))
        start = np.clip(voxel - rng.integers(window // 6, window - window // 6, 3), 0, last)
    box = Box.at(start, 3 * (window,))
    return Example(box.cut(example.image), box.cut(example.lesion))


def _augment(rng: np.random.Generator, patch: Example) -> Example:
    """Flips; an offset and a scale per channel inside the head; noise everywhere."""
    axes = tuple(axis for axis in range(3) if rng.random() < 0.5)
    image, lesion = (np.flip(array, axes) for array in patch)
    scale, offset = rng.uniform(0.75, 1.25, 2), rng.uniform(-1, 1, 2)
    image = np.where(image != 0, image * scale + offset, 0)
    image += rng.uniform(0, 0.2) * rng.standard_normal(image.shape, np.float32)
    return Example(image.astype(np.float32), lesion)


def loss(logits: jax.Array, lesion: jax.Array) -> jax.Array:
    """Soft Dice loss plus focal loss.

    Args:
        logits: (B, X, Y, Z, K) of background and lesion.
        lesion: (B, X, Y, Z) bool.
    """
    truth = lesion.astype(jnp.float32)
    margin = logits[..., 1] - logits[..., 0]  # its sigmoid is the softmax's lesion probability
    probability = jax.nn.sigmoid(margin)
    overlap = 2 * jnp.sum(probability * truth) + 1
    dice = overlap / (jnp.sum(probability) + jnp.sum(truth) + 1)
    focal = optax.sigmoid_focal_loss(margin, truth, gamma=2)
    return 1 - dice + 10 * jnp.mean(focal)  # few voxels are lesion: the mean is small


def train(
    batches: Iterable[Batch],
    steps: int,
    seed: int = 0,
    rate: float = 4e-3,
    config: NetworkConfig = CONFIG,
    log: Callable[[int, float], None] = lambda step, loss: None,
) -> dict[str, jax.Array]:
    """Parameters, running statistics included, after AdamW with a warm-up and cosine decay.

    Args:
        batches: at least ``steps`` of them.
        steps: number of updates.
        seed: of the initial weights.
        rate: the highest learning rate.
        config: the architecture.
        log: called with the number of each step and its loss.
    """
    network = build(config, nnx.Rngs(seed))
    network.set_attributes(nnx.BatchNorm, use_running_average=False, momentum=MOMENTUM)
    graph, statistics = nnx.graphdef(network), nnx.state(network, nnx.BatchStat)
    # Weakly typed weights would be compiled for once more.
    weights = jax.tree.map(jnp.float32, nnx.state(network, nnx.Param))
    schedule = optax.warmup_cosine_decay_schedule(0, rate, steps // 20, steps)
    optimiser = optax.adamw(schedule, weight_decay=1e-3)
    update = _make_update(graph, optimiser)
    moments = optimiser.init(weights)
    for step, batch in zip(range(1, steps + 1), batches, strict=False):
        weights, statistics, moments, value = update(weights, statistics, moments, *batch)
        log(step, float(value))
    return split(nnx.merge(graph, weights, statistics))


def _make_update(graph: Any, optimiser: optax.GradientTransformation) -> Callable[..., Any]:
    """The compiled step: weights, statistics, optimiser state and batch -> the same, and loss."""

    def evaluate(weights: Any, statistics: Any, images: jax.Array, lesion: jax.Array) -> Any:
        network = nnx.merge(graph, weights, statistics, copy=True)
        logits, _ = network(images)
        return loss(logits, lesion), nnx.state(network, nnx.BatchStat)

    @jax.jit
    def update(weights: Any, statistics: Any, moments: Any, images: Any, lesion: Any) -> Any:
        gradient = jax.value_and_grad(evaluate, has_aux=True)
        (value, statistics), slope = gradient(weights, statistics, images, lesion)
        change, moments = optimiser.update(slope, moments, weights)
        return optax.apply_updates(weights, change), statistics, moments, value

    return update


def dice(mask: np.ndarray, lesion: np.ndarray) -> float:
    """Dice coefficient of two masks."""
    return float(2 * np.sum(mask & lesion) / (np.sum(mask) + np.sum(lesion)))


def choose_threshold(model: Model, examples: Sequence[Example]) -> tuple[float, float]:
    """The threshold with the highest mean Dice over the examples, and that Dice."""
    field = sliding_window(model, WINDOW)
    scores = []
    for image, lesion in examples:
        probability = lesion_probability(np.asarray(field(jnp.asarray(image))), 1)
        scores.append([dice(probability >= t, lesion) for t in THRESHOLDS])
    means = np.mean(scores, axis=0)
    return THRESHOLDS[int(means.argmax())], float(means.max())


def run(out: Path, steps: int = 2000, seed: int = 0) -> None:
    """Draws the heads, trains, chooses the threshold and writes the model directory."""
    rng, first = np.random.default_rng(seed), 1000 * (seed + 1)
    examples = draw_examples(range(first, first + HEADS))
    batches = iter(lambda: draw_batch(rng, examples, 4, WINDOW), None)

    def log(step: int, value: float) -> None:
        if step % 100 == 0:
            print(f"step {step} of {steps}: loss {value:.3f}", flush=True)

    parameters = train(batches, steps, seed, log=log)
    source = {"trainer": "bench.demo_network", "steps": steps, "heads": HEADS, "seed": seed}
    model = Model(CONFIG, parameters, CHANNELS, source=source)
    validation = draw_examples(range(first + HEADS, first + HEADS + 3), lesions=12)
    threshold, score = choose_threshold(model, validation)
    print(f"validation Dice {score:.3f} at the threshold {threshold}")
    save_model(replace(model, threshold=threshold), out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train the demo's network.", allow_abbrev=False)
    parser.add_argument("--out", type=Path, required=True, help="new model directory")
    parser.add_argument("--steps", type=int, default=2000, help="number of updates")
    parser.add_argument("--seed", type=int, default=0, help="of weights, patches and heads")
    run(**vars(parser.parse_args()))
