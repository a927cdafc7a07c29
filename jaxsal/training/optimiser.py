"""AdamW with a learning rate that warms up and decays."""

from __future__ import annotations

import math
from dataclasses import dataclass

import optax

from jaxsal.errors import require


@dataclass(frozen=True)
class OptimiserSettings:
    """How weights follow their gradients.

    Attributes:
        rate: the highest learning rate, reached after the warm-up and decaying to 0 by a cosine.
        warm_up: number of updates over which the rate rises.
        weight_decay: of all weights, as in ``torch.optim.AdamW``.
        clip: gradients of a larger norm, that of all weights together, are scaled down to it; 0
            for none.
        accumulate: an update is made of the mean gradient of so many batches.
        momentum: what batch norm's running statistics keep at each update. 0.98 averages them over
            the last 50 updates or so, in which the decaying rate has all but stopped the weights:
            they fit the final weights. PyTorch's default, 0.1 there, is 0.9 here.
    """

    rate: float = 1e-3
    warm_up: int = 100
    weight_decay: float = 1e-2
    clip: float = 1.0
    accumulate: int = 1
    momentum: float = 0.98

    def __post_init__(self) -> None:
        require(0 < self.rate < math.inf, "rate", "more than 0", self.rate)
        require(self.warm_up >= 0, "warm_up", "0 or more", self.warm_up)
        require(0 <= self.weight_decay < 1, "weight_decay", "in [0, 1)", self.weight_decay)
        require(0 <= self.clip < math.inf, "clip", "0 (none) or more", self.clip)
        require(self.accumulate >= 1, "accumulate", "1 or more", self.accumulate)
        require(0 <= self.momentum < 1, "momentum", "in [0, 1)", self.momentum)

    @property
    def momentum_per_batch(self) -> float:
        """The momentum at each batch: several of an update must not count as several updates."""
        return float(self.momentum ** (1 / self.accumulate))


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
