"""One step of training, compiled: augmentation, forward, loss, gradients, update.

Several devices share the patches of a batch; weights, statistics and the optimiser's state are the
same on all of them. Everything is computed as if by one device: losses are means over the whole
batch, and so are batch norm's statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxsal.compilation import compiled
from jaxsal.errors import InputError
from jaxsal.nets.registry import NetworkConfig, statistics_names
from jaxsal.nets.training import TrainingFunction

if TYPE_CHECKING:
    from jaxsal.training.settings import OptimiserSettings

Parameters = dict[str, jax.Array]
Loss = Callable[[jax.Array, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]
# A state, which is used up, and a batch -> the state after it, and figures; see `make_update`.
Update = Callable[..., tuple["TrainingState", dict[str, jax.Array]]]
Augment = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


class TrainingState(NamedTuple):
    """All that a step changes.

    Attributes:
        weights: float32 by name.
        statistics: batch norm's, by name.
        optimiser: moments and counters, as optax keeps them.
        step: number of batches so far, int32.
    """

    weights: Parameters
    statistics: Parameters
    optimiser: Any
    step: jax.Array

    @property
    def parameters(self) -> dict[str, Any]:
        """Weights and statistics on the host, as a `jaxsal.Model` holds them together."""
        together = jax.device_get({**self.weights, **self.statistics})
        return {name: np.array(value) for name, value in together.items()}


def learning_rate(settings: OptimiserSettings, steps: int) -> optax.Schedule:
    """The rate at each update, of the number of updates before it.

    Args:
        settings: of the optimiser.
        steps: number of batches in the whole training, for more updates than those of the warm-up.
    """
    updates = steps // settings.accumulate
    first = settings.rate / (settings.warm_up + 1)  # 0 would waste the first update
    return optax.warmup_cosine_decay_schedule(first, settings.rate, settings.warm_up, updates)


def make_optimiser(
    settings: OptimiserSettings, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """Clipping, AdamW, accumulation."""
    adamw = optax.adamw(schedule, weight_decay=settings.weight_decay)
    clip = optax.clip_by_global_norm(settings.clip) if settings.clip else optax.identity()
    whole = optax.chain(clip, adamw)
    if settings.accumulate == 1:
        return whole
    several = optax.MultiSteps(whole, settings.accumulate)
    return optax.GradientTransformation(several.init, several.update)


def initial_state(
    config: NetworkConfig,
    parameters: Mapping[str, Any],
    optimiser: optax.GradientTransformation,
) -> TrainingState:
    """The state before the first step.

    Args:
        config: the architecture.
        parameters: its weights and statistics, as a `jaxsal.Model` holds them.
        optimiser: what the updates are made by.
    """
    measured = statistics_names(config)
    # Copies, because a step uses its state up; strongly typed, lest they be compiled for again.
    values = {name: jnp.array(v, jnp.float32, copy=True) for name, v in parameters.items()}
    weights = {name: v for name, v in values.items() if name not in measured}
    statistics = {name: v for name, v in values.items() if name in measured}
    return TrainingState(weights, statistics, optimiser.init(weights), jnp.zeros((), jnp.int32))


def make_update(
    network: TrainingFunction,
    loss: Loss,
    optimiser: optax.GradientTransformation,
    placement: Placement,
    *,
    seed: int = 0,
    augment: Augment | None = None,
) -> Update:
    """The compiled step; the numbers that it draws depend on the seed and on the step alone.

    It takes a state, whose buffers are used again for the new one, images (B, X, Y, Z, C) float32
    and labels (B, X, Y, Z) int32, 0 in the background. It returns the new state, and "loss",
    "loss_NAME" of its parts and "gradient_norm", float32 ().

    Args:
        network: what is trained.
        loss: of logits (B, X, Y, Z, K) and labels (B, X, Y, Z) -> the loss (), and its parts.
        optimiser: as for `initial_state`.
        placement: where the states and batches are that it will be given.
        seed: of augmentation and dropout.
        augment: of a key, images and labels -> images and labels, on the device.
    """

    def evaluate(
        weights: Parameters, statistics: Parameters, images: Any, labels: Any, key: jax.Array
    ) -> Any:
        logits, statistics = network(weights, statistics, images, key)
        value, parts = loss(logits, labels)
        return value, (statistics, parts)

    def update(state: TrainingState, images: jax.Array, labels: jax.Array) -> Any:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        of_augmentation, of_dropout = jax.random.split(key)
        if augment is not None:
            images, labels = augment(of_augmentation, images, labels)
        gradient = jax.value_and_grad(evaluate, has_aux=True)
        (value, (statistics, parts)), slope = gradient(
            state.weights, state.statistics, images, labels, of_dropout
        )
        change, moments = optimiser.update(slope, state.optimiser, state.weights)
        weights = optax.apply_updates(state.weights, change)
        figures = {"loss": value, **{f"loss_{name}": part for name, part in parts.items()}}
        figures["gradient_norm"] = optax.tree.norm(slope)
        return TrainingState(weights, statistics, moments, state.step + 1), figures

    return compiled(
        update,
        platform=placement.devices[0].platform,
        donate_argnums=0,
        out_shardings=placement.replicated,
    )


class Placement:
    """Which devices share a batch.

    Args:
        devices: to choose from; as many are used as divide the batch.
        batch: number of patches in a batch.
    """

    def __init__(self, devices: Sequence[jax.Device], batch: int) -> None:
        if not devices:
            raise InputError("training needs one device or more, got none")
        number = max(n for n in range(1, len(devices) + 1) if batch % n == 0)
        self.devices = tuple(devices[:number])
        mesh = jax.make_mesh(
            (number,), ("batch",), devices=self.devices, axis_types=(AxisType.Auto,)
        )
        self.replicated = NamedSharding(mesh, PartitionSpec())
        self.shared = NamedSharding(mesh, PartitionSpec("batch"))

    def put_state(self, state: TrainingState) -> TrainingState:
        """The state on all devices."""
        placed: TrainingState = jax.device_put(state, self.replicated)
        return placed

    def put_batch(self, batch: Mapping[str, np.ndarray]) -> tuple[jax.Array, jax.Array]:
        """Images and labels, each device having its share of the patches."""
        images, labels = jax.device_put((batch["image"], batch["labels"]), self.shared)
        return images, labels
