"""What a network is trained to make small: normalised Dice, focal and blob loss, and their sums.

All are pure functions of logits (B, X, Y, Z, K) and lesion labels (B, X, Y, Z): 0 in the background
and, from 1 on, the lesion instance that a voxel belongs to. They compute in float32 whatever the
logits' type, and their gradients are finite for empty masks and for saturated logits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf, isfinite
from typing import Any

import jax
import jax.numpy as jnp

from jaxsal.errors import InputError
from jaxsal.lesions import output_channel
from jaxsal.metrics import LESION_LOAD
from jaxsal.preprocessing import PROBABILITIES

MAXIMUM_INSTANCES = 512
"""Largest label of a lesion, by default. The cost of the blob loss hardly depends on it."""


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "lesion_load": (lambda r: 0 < r < 1, "more than 0 and less than 1"),
    "smooth": (lambda s: 0 <= s < inf, "0 or more"),
    "gamma": (lambda g: 0 <= g < inf, "0 or more"),
    "alpha": (lambda a: a is None or 0 <= a <= 1, "from 0 to 1, or None"),
    "maximum_instances": (lambda n: n > 0, "1 or more"),
    "probability": (lambda p: p in PROBABILITIES, f"one of {', '.join(PROBABILITIES)}"),
}


def _require(**options: Any) -> None:
    for name, value in options.items():
        valid, rule = _RULES[name]
        if not valid(value):
            raise InputError(f"{name} of a loss must be {rule}; got {value!r}")


def normalised_dice_loss(
    logits: jax.Array,
    labels: jax.Array,
    *,
    target: int = 1,
    probability: str = "softmax",
    lesion_load: float = LESION_LOAD,
    smooth: float = 0.0,
) -> jax.Array:
    """Soft normalised Dice loss: 1 - (2·TP + s) / (2·TP + κ·FP + FN + s), mean over images.

    TP, FP and FN are sums of lesion probability p: of p and 1 - p over the P lesion voxels, of p
    over the others. κ = (1 - r)·P / (r·(V - P)) of V voxels, and 1 where P is 0 or V. As in the
    published implementation, s is 0: an image without lesions then has the loss 1 whatever is
    predicted, so that nothing is learnt from it (0 if p is 0 everywhere, where both are empty).

    Source: Raina et al., "Tackling bias in the Dice similarity coefficient: introducing nDSC for
    white matter lesion segmentation", ISBI 2023, with probabilities in place of masks.

    Args:
        logits: (B, X, Y, Z, K), of any floating type.
        labels: (B, X, Y, Z) integers, lesion where more than 0.
        target: the lesion's channel among K; a single channel is that of the lesion.
        probability: "softmax" over the channels, or "sigmoid" of each; of one channel, a sigmoid.
        lesion_load: r, more than 0 and less than 1; static.
        smooth: s, in voxels; more than 0, it lets images without lesions count against FP.

    Returns:
        (), from 0 to 1.

    Raises:
        InputError: the shapes do not fit, the labels are not integers or an option is not valid.
    """
    _require(lesion_load=lesion_load, smooth=smooth)
    chance = jax.nn.sigmoid(_log_odds(logits, labels, target, probability))
    lesion = labels > 0
    true = jnp.where(lesion, chance, 0).sum((1, 2, 3))
    false = jnp.where(lesion, 0, chance).sum((1, 2, 3))
    positive = lesion.sum((1, 2, 3))
    return _overlap_loss(true, false, positive, labels[0].size, lesion_load, smooth).mean()


def focal_loss(
    logits: jax.Array,
    labels: jax.Array,
    *,
    target: int = 1,
    probability: str = "softmax",
    gamma: float = 2.0,
    alpha: float | None = None,
) -> jax.Array:
    """Focal loss of lesion against the rest, -α_t·(1 - p_t)^γ·log(p_t), mean over all voxels.

    p_t is the probability p of lesion in lesions, and 1 - p elsewhere; α_t is α and 1 - α there.
    With a sigmoid it is MONAI's `FocalLoss` of the lesion's channel; of two channels and softmax it
    is twice MONAI's (`use_softmax`), which averages over the channels too.

    Source: Lin et al., "Focal loss for dense object detection", ICCV 2017, equations 4 and 5.

    Args:
        logits: (B, X, Y, Z, K), of any floating type.
        labels: (B, X, Y, Z) integers, lesion where more than 0.
        target: the lesion's channel among K; a single channel is that of the lesion.
        probability: "softmax" over the channels, or "sigmoid" of each; of one channel, a sigmoid.
        gamma: γ, 0 or more; 0 is the cross-entropy.
        alpha: α, from 0 to 1; None for no such factor.

    Returns:
        (), 0 or more.

    Raises:
        InputError: the shapes do not fit, the labels are not integers or an option is not valid.
    """
    _require(gamma=gamma, alpha=alpha)
    odds = _log_odds(logits, labels, target, probability)
    lesion = labels > 0
    # Log-odds of what is true: both factors come of it without the logarithm of a rounded p.
    odds = jnp.where(lesion, odds, -odds)
    loss = jnp.exp(gamma * jax.nn.log_sigmoid(-odds)) * jax.nn.softplus(-odds)
    if alpha is not None:
        loss = jnp.where(lesion, alpha, 1 - alpha) * loss
    return loss.mean()


def blob_loss(
    logits: jax.Array,
    labels: jax.Array,
    *,
    target: int = 1,
    probability: str = "softmax",
    lesion_load: float = LESION_LOAD,
    maximum_instances: int = MAXIMUM_INSTANCES,
) -> jax.Array:
    """Blob loss: normalised Dice loss of each lesion by itself, mean over lesions, then images.

    For each lesion the probability inside all the others is set to 0, and only its own voxels are
    to be found; the number of voxels V stays that of the image. Images without lesions are left out
    of the mean, which is 0 if none has any. False positives are the same for all lesions of an
    image, so that the loss takes two sums over the image rather than one per lesion.

    Source: Kofler et al., "blob loss: instance imbalance aware loss functions for semantic
    segmentation", IPMI 2023, with the normalised Dice loss of Raina et al. 2023 for each blob.

    Args:
        logits: (B, X, Y, Z, K), of any floating type.
        labels: (B, X, Y, Z) integers, 0 in the background; lesions need not be numbered in a row.
        target: the lesion's channel among K; a single channel is that of the lesion.
        probability: "softmax" over the channels, or "sigmoid" of each; of one channel, a sigmoid.
        lesion_load: r of the normalised Dice, more than 0 and less than 1; static.
        maximum_instances: the largest label there may be; static, so that nothing recompiles with
            the number of lesions. Larger labels have no term of their own.

    Returns:
        (), from 0 to 1.

    Raises:
        InputError: the shapes do not fit, the labels are not integers or an option is not valid.
    """
    _require(lesion_load=lesion_load, maximum_instances=maximum_instances)
    chance = jax.nn.sigmoid(_log_odds(logits, labels, target, probability))
    false = jnp.where(labels > 0, 0, chance).sum((1, 2, 3))[:, None]
    true, positive = jax.vmap(partial(_sums_per_instance, maximum_instances))(chance, labels)
    losses = _overlap_loss(true, false, positive, labels[0].size, lesion_load)
    present = positive > 0  # the rest of the rows only fills up to the maximum
    return _mean_of(_mean_of(losses, present), present.any(1))


@dataclass(frozen=True)
class WeightedLoss:
    """A weighted sum of the losses; hashable, so that it may be static to a compiled function.

    Source: Spagnolo et al. 2026 train with `DICE_AND_BLOB` or with `DICE_AND_FOCAL`.

    Attributes:
        normalised_dice: weight of the normalised Dice loss; of weight 0, a loss is not computed.
        blob: weight of the blob loss.
        focal: weight of the focal loss.
        target: the lesion's channel.
        probability: "softmax" or "sigmoid", of all losses.
        lesion_load: r of the normalised Dice and blob losses.
        smooth: s of the normalised Dice loss.
        gamma: γ of the focal loss.
        alpha: α of the focal loss.
        maximum_instances: largest label in the blob loss.

    Raises:
        InputError: a weight is negative or not finite, all are 0, or an option is not valid.
    """

    normalised_dice: float = 2.0
    blob: float = 1.0
    focal: float = 0.0
    target: int = 1
    probability: str = "softmax"
    lesion_load: float = LESION_LOAD
    smooth: float = 0.0
    gamma: float = 2.0
    alpha: float | None = None
    maximum_instances: int = MAXIMUM_INSTANCES

    def __post_init__(self) -> None:
        weights = self.weights
        if not all(isfinite(w) and w >= 0 for w in weights.values()) or not any(weights.values()):
            raise InputError(
                f"weights of losses must be 0 or more and finite, at least one above 0: {weights}"
            )
        _require(**{name: getattr(self, name) for name in _RULES})

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each loss by its name."""
        return {
            "normalised_dice": self.normalised_dice,
            "blob": self.blob,
            "focal": self.focal,
        }

    def __call__(
        self, logits: jax.Array, labels: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The weighted sum (), and by name the losses () that it is of, without their weights.

        Args:
            logits: (B, X, Y, Z, K).
            labels: (B, X, Y, Z) integers, 0 in the background, one number per lesion.

        Raises:
            InputError: the shapes do not fit, the labels are not integers or an option is not
                valid.
        """
        weights = {name: weight for name, weight in self.weights.items() if weight}
        losses = {name: self._loss(name)(logits, labels) for name in weights}
        return jnp.stack([weights[name] * losses[name] for name in weights]).sum(), losses

    def _loss(self, name: str) -> Callable[[jax.Array, jax.Array], jax.Array]:
        """The loss of that name with its options."""
        output: dict[str, Any] = {"target": self.target, "probability": self.probability}
        if name == "focal":
            return partial(focal_loss, gamma=self.gamma, alpha=self.alpha, **output)
        output["lesion_load"] = self.lesion_load
        if name == "blob":
            return partial(blob_loss, maximum_instances=self.maximum_instances, **output)
        return partial(normalised_dice_loss, smooth=self.smooth, **output)


DICE_AND_BLOB = WeightedLoss(normalised_dice=2.0, blob=1.0)
"""Normalised Dice and blob loss, 2 : 1."""

DICE_AND_FOCAL = WeightedLoss(normalised_dice=0.5, blob=0.0, focal=1.0)
"""Normalised Dice and focal loss, 0.5 : 1."""


def _log_odds(logits: jax.Array, labels: jax.Array, target: int, probability: str) -> jax.Array:
    """Log-odds of lesion (B, X, Y, Z), at least float32: its probability is their sigmoid."""
    if logits.ndim != 5 or labels.shape != logits.shape[:-1]:
        raise InputError(
            "logits must have the shape (B, X, Y, Z, K) and labels (B, X, Y, Z), got "
            f"{logits.shape} and {labels.shape}"
        )
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise InputError(f"labels must be integers, one per lesion, got {labels.dtype}")
    _require(probability=probability)
    channel = output_channel(target, logits.shape[-1])
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    odds = logits[..., channel]
    if probability == "sigmoid" or logits.shape[-1] == 1:
        return odds
    # p / (1 - p) of a softmax is its own exponential over the sum of the others'.
    return odds - jax.nn.logsumexp(jnp.delete(logits, channel, axis=-1), axis=-1)


def _sums_per_instance(
    count: int, chance: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Sum of a probability (X, Y, Z) over each of `count` lesions, and their voxels: both (N,)."""
    # What has a number past the last is dropped: no time is lost on summing up the background.
    numbers = labels.astype(jnp.int32).ravel()
    numbers = jnp.where(numbers > 0, numbers - 1, count)
    true = jax.ops.segment_sum(chance.ravel(), numbers, count)
    return true, jax.ops.segment_sum(jnp.ones_like(numbers), numbers, count)


def _overlap_loss(
    true: jax.Array,
    false: jax.Array,
    positive: jax.Array,
    voxels: int,
    lesion_load: float,
    smooth: float = 0.0,
) -> jax.Array:
    """1 minus the normalised Dice score of sums that broadcast, P = `positive` of V = `voxels`."""
    # Where all voxels are lesion there are no false positives, and κ may be any finite number.
    scale = (1 - lesion_load) * positive / (lesion_load * jnp.maximum(voxels - positive, 1))
    # 2·TP + FN = TP + P
    denominator = true + positive + jnp.where(positive > 0, scale, 1) * false + smooth
    # Where there is nothing to find, the score is a constant: as a fraction with a denominator
    # that may be anything down to 0, its gradient would be 0/0.
    fraction = positive + smooth > 0
    score = (2 * true + smooth) / jnp.where(fraction, denominator, 1)
    return 1 - jnp.where(fraction, score, jnp.where(false > 0, 0.0, 1.0))


def _mean_of(values: jax.Array, chosen: jax.Array) -> jax.Array:
    """Mean along the last axis of those that are chosen; 0 if none is."""
    total = jnp.where(chosen, values, 0).sum(-1)
    return total / jnp.maximum(chosen.sum(-1), 1)
