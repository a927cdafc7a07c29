"""What a field is: logits over an image's grid, and a plan of the windows they come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from operator import or_
from typing import TYPE_CHECKING, Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxsal.box import Box
from jaxsal.compilation import bound_programs
from jaxsal.errors import InputError
from jaxsal.types import LogitFunction, Triple

if TYPE_CHECKING:
    from jaxsal.arrays import Image, Logits


@dataclass(frozen=True)
class WindowPlan:
    """Which windows reach which voxel, with which weight.

    The logit of voxel v is the sum over windows w of ``weights[v, w]`` times the logit that the
    network gives it on window w of the zero-padded image.

    Attributes:
        shape: the image's grid (X, Y, Z).
        before: zeros added before each axis; window starts count from there.
        padded: size of the padded grid.
        size: size of every window.
        starts: (W, 3) first position of each window.
        weights: (V, W) float32, zero where a window does not reach a voxel.
        reach: the network's receptive field; see `jaxsal.locality.boxes.receptive_field`.
    """

    shape: Triple
    before: Triple
    padded: Triple
    size: Triple
    starts: np.ndarray
    weights: np.ndarray
    reach: Callable[[Box], Box | None]

    def footprint(self, voxels: np.ndarray, rows: np.ndarray) -> Box:
        """Where in the image the gradient of these voxels' logits can be non-zero.

        Args:
            voxels: (V, 3) all voxels of the plan, in image positions.
            rows: which of them.
        """
        windows = np.flatnonzero(self.weights[rows].any(axis=0)).tolist()
        return reduce(or_, (self.sight(voxels, rows, window) for window in windows))

    def sight(self, voxels: np.ndarray, rows: np.ndarray, window: int) -> Box:
        """As `footprint`, of these voxels' logits on one window, which reaches some of them."""
        reached = np.asarray(voxels)[rows][self.weights[rows, window] > 0]
        start = self.starts[window]
        box = self.reach(Box.around(reached + self.before - start)) or Box.whole(self.size)
        seen = box.clip(self.size).shift(start).seen_from(self.before)
        return seen.clip(self.shape)


class LogitField(Protocol):
    """What saliency needs of a field."""

    @property
    def function(self) -> LogitFunction:
        """The network as a pure function."""
        ...

    @property
    def parameters(self) -> Any:
        """The function's first argument."""
        ...

    @property
    def threshold(self) -> float | None:
        """Lesion probability at and above which a voxel is lesion; None if the model has none."""
        ...

    @property
    def probability(self) -> str:
        """How probabilities come of logits: "softmax" or "sigmoid"; one logit: always sigmoid."""
        ...

    @property
    def target(self) -> int | None:
        """Output channel of the lesion class; None if the model does not say which one it is."""
        ...

    def __call__(self, image: Image) -> Logits:
        """Logits (X, Y, Z, K) of an image (X, Y, Z, C)."""
        ...

    def plan(self, shape: Triple, voxels: np.ndarray) -> WindowPlan:
        """Which windows reach these voxels (V, 3) of an image of this shape.

        Logits on these windows are the field's; the layers below need not be. See `layer_plan`.
        """
        ...

    def layer_plan(self, shape: Triple, voxels: np.ndarray) -> WindowPlan:
        """As `plan`, on the windows that the field itself runs the network on."""
        ...

    def share(self, plan: WindowPlan, window: int) -> np.ndarray | None:
        """What share (X, Y, Z) of the blend a window of a `layer_plan` has at its voxels.

        None if there is but one window.
        """
        ...


def image_shape(function: LogitFunction, image: Image) -> Triple:
    """The grid (X, Y, Z) of an image (X, Y, Z, C) that the network is to run on.

    Raises:
        InputError: the array has other axes, no voxels, or not the network's channels.
    """
    if image.ndim != 4 or 0 in image.shape:
        raise InputError(f"an image has axes (X, Y, Z, C), got an array of shape {image.shape}")
    if function.channels not in (None, image.shape[-1]):
        raise InputError(
            f"the network takes {function.channels} channels, the last axis of an image; got an "
            f"array of shape {image.shape}"
        )
    bound_programs(function, image)
    x, y, z, _ = image.shape
    return x, y, z


def pad_image(image: jax.Array, plan: WindowPlan) -> jax.Array:
    """The image (X, Y, Z, C) on the plan's padded grid."""
    return pad(image, plan.before, plan.padded)


def pad(image: jax.Array, before: Triple, padded: Triple) -> jax.Array:
    """An image (X, Y, Z, C) with zeros added before and after each spatial axis."""
    edges = [(b, p - b - n) for b, p, n in zip(before, padded, image.shape, strict=False)]
    return jnp.pad(image, [*edges, (0, 0)])


def unpad(logits: jax.Array, before: Triple, shape: Triple) -> jax.Array:
    """The part of padded logits that belongs to the image of this shape."""
    return logits[Box.at(before, shape).slices]


def zeros_before(shape: Triple, padded: Triple) -> Triple:
    """Zeros before each axis when a grid is padded on both sides alike."""
    x, y, z = ((p - n) // 2 for n, p in zip(shape, padded, strict=True))
    return x, y, z


@partial(jax.jit, static_argnames="size")
def cut_window(image: jax.Array, start: Triple | jax.Array, size: Triple) -> jax.Array:
    """The window (x, y, z, C) of an image (X, Y, Z, C); one compilation serves all starts."""
    corner = (start[0], start[1], start[2], 0)
    return jax.lax.dynamic_slice(image, corner, (*size, image.shape[-1]))
