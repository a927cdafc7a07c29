"""The network that a field runs: a model, or any callable, on one window at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxsal.compilation import compiled
from jaxsal.errors import InputError
from jaxsal.field.plan import cut_window
from jaxsal.types import LogitFunction, Triple


@dataclass(frozen=True, eq=False)
class CallableFunction:
    """Any callable from a batch of images to logits, about whose structure nothing is known.

    Two of them are the same if they call the same object, whether or not that can be hashed.
    """

    call: Callable[[jax.Array], jax.Array]
    divisor: Triple = (1, 1, 1)
    channels: int | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CallableFunction) and self.call is other.call

    def __hash__(self) -> int:
        return id(self.call)

    def __str__(self) -> str:
        return getattr(self.call, "__name__", type(self.call).__name__)

    def __call__(self, parameters: Any, batch: jax.Array) -> jax.Array:
        logits = self.call(batch)
        mistake = _mistake(logits, batch.shape)
        if mistake:
            raise InputError(
                f"a network must return logits (B, X, Y, Z, K) for images (B, X, Y, Z, C), here "
                f"{batch.shape}; this one returns {mistake}"
            )
        return logits

    @property
    def smallest_size(self) -> Triple:
        return self.divisor


def _mistake(logits: Any, batch: tuple[int, ...]) -> str | None:
    """What is wrong with what a callable returned for a batch of this shape, and what to do."""
    if isinstance(logits, list | tuple | dict):
        which = "['logits']" if isinstance(logits, dict) else "[0]"
        return (
            f"a {type(logits).__name__} of {len(logits)}, as with deep supervision: give a "
            f"function that picks the logits, such as lambda batch: network(batch){which}"
        )
    if not hasattr(logits, "shape") or not hasattr(logits, "dtype"):
        return f"a {type(logits).__name__}"
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        return f"{logits.dtype}, which has no derivative: return logits, not labels or masks"
    shape, grid = tuple(logits.shape), batch[:4]
    if len(shape) == 5 and shape[:4] == grid:
        return None
    advice = "return one logit per voxel and class"
    if shape == grid:
        advice = "it has no axis for the classes: append it with [..., None]"
    elif len(shape) == 5 and (shape[0], *shape[2:]) == grid:
        advice = "the classes come first: move them with jnp.moveaxis(logits, 1, -1)"
    elif len(shape) == 5 and shape[0] == batch[0]:
        advice = (
            "these lie on another grid: interpolate them to the image's, or, if its sizes must be "
            "multiples of a stride, pad it before and crop them after"
        )
    return f"an array of shape {shape}: {advice}"


@dataclass(frozen=True, eq=False, repr=False)
class ModelParts:
    """What a field needs of a model; see `jaxsal.field.plan.LogitField`."""

    function: LogitFunction
    parameters: Any
    threshold: float | None = None
    probability: str = "softmax"
    target: int | None = 1


def model_parts(model: Any) -> ModelParts:
    """A model's pure function and parameters, and how its logits are read.

    Raises:
        InputError: it is neither a `jaxsal.Model` nor callable, or of PyTorch.
    """
    if hasattr(model, "function") and hasattr(model, "parameters"):
        outputs = getattr(model, "outputs", None)
        return ModelParts(
            model.function,
            model.parameters,
            getattr(model, "threshold", None),
            outputs.probability if outputs else "softmax",
            outputs.lesion if outputs else 1,
        )
    if not callable(model):
        raise InputError(f"a model must be callable on a batch of images, got {type(model)}")
    if any(ancestor.__module__.startswith("torch.nn.") for ancestor in type(model).__mro__):
        raise InputError(
            f"a {type(model).__name__} of PyTorch's cannot be differentiated by JAX: those of "
            "MONAI's that `jaxsal convert` lists convert with "
            "jaxsal_converters.modules.model_from_module"
        )
    return ModelParts(CallableFunction(model), ())


def window_logits(
    function: LogitFunction, parameters: Any, image: jax.Array, start: Triple, size: Triple
) -> jax.Array:
    """Logits (x, y, z, K) on the window of this start and size.

    The network is compiled for the window's size, once for images of all shapes.
    """
    return logits_on(function, parameters, cut_window(image, start, size))


@partial(compiled, static_argnames="function")
def logits_on(function: LogitFunction, parameters: Any, window: jax.Array) -> jax.Array:
    """Logits (x, y, z, K) on a window (x, y, z, C)."""
    return function(parameters, window[None])[0]
