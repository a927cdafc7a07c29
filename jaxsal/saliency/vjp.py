"""The batched derivative engine: linearise a window once, pull many cotangents back through it.

A pull-back takes any cotangent over a window's logits to the gradient over the window's image:
one-hot for a single voxel (signed maximum), a lesion's indicator for sums. Parameters are not
batched, so that under ``vmap`` every layer sees one large batch; examples of a batch are
independent of each other, so that the windows of several noise samples share one pull-back.

Everything here is compiled once per network, window size and batch size.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsal.types import LogitFunction, Triple

PullBack = Callable[[jax.Array], tuple[jax.Array]]


@partial(jax.jit, static_argnames=("function", "target"))
def linearise(
    function: LogitFunction, parameters: Any, windows: jax.Array, target: int
) -> PullBack:
    """The pull-back of one logit channel at these windows (N, X, Y, Z, C).

    Returns:
        A function, itself a pytree of arrays, from cotangents (N, X, Y, Z) over the logits to
        gradients (N, X, Y, Z, C) over the windows.
    """
    _, pull = jax.vjp(lambda x: jnp.take(function(parameters, x), target, axis=-1), windows)
    return pull


@partial(jax.jit, static_argnames=("samples",))
def pull_back(pull: PullBack, cotangents: jax.Array, samples: int) -> jax.Array:
    """Gradients (B, N, X, Y, Z, C) for cotangents (B, X, Y, Z), the same for all N samples."""
    batch, *size = cotangents.shape
    shared = jnp.broadcast_to(cotangents[:, None], (batch, samples, *size))
    return jax.vmap(lambda cotangent: pull(cotangent)[0])(shared)


@partial(jax.jit, static_argnames=("samples", "size"))
def pull_back_voxels(
    pull: PullBack, positions: jax.Array, weights: jax.Array, samples: int, size: Triple
) -> jax.Array:
    """Gradients (B, N, X, Y, Z, C) of weighted single-voxel logits.

    Args:
        pull: a linearised window.
        positions: (B, 3) voxels within the window.
        weights: (B,) factor of each voxel's logit; zero for places that only fill up the batch.
        samples: N, the number of windows that were linearised together.
        size: of the window.
    """
    batch = positions.shape[0]
    x, y, z = positions.T
    cotangents = (
        jnp.zeros((batch, *size), weights.dtype).at[jnp.arange(batch), x, y, z].set(weights)
    )
    return pull_back(pull, cotangents, samples)


class Linearisations:
    """Pull-backs at the windows of some noisy images, the most recently used ones kept.

    Args:
        function: the network.
        parameters: its first argument.
        target: output channel.
        images: (N, X, Y, Z, C) noisy images on the padded grid.
        size: of a window.
        keep: how many windows to keep linearised.
    """

    def __init__(
        self,
        function: LogitFunction,
        parameters: Any,
        target: int,
        images: jax.Array,
        size: Triple,
        keep: int,
    ) -> None:
        self._function, self._parameters, self._target = function, parameters, target
        self._images, self.size, self._keep = images, size, keep
        self._kept: OrderedDict[Triple, PullBack] = OrderedDict()

    def at(self, start: np.ndarray) -> PullBack:
        """The pull-back at the window that begins at this position (3,) of the padded grid."""
        x, y, z = map(int, start)
        pull = self._kept.pop((x, y, z), None)
        if pull is None:
            while len(self._kept) >= self._keep:
                self._kept.popitem(last=False)
            windows = _windows(self._images, jnp.array([x, y, z]), self.size)
            pull = linearise(self._function, self._parameters, windows, self._target)
        self._kept[(x, y, z)] = pull
        return pull


@partial(jax.jit, static_argnames=("size",))
def _windows(images: jax.Array, start: jax.Array, size: Triple) -> jax.Array:
    corner = (0, start[0], start[1], start[2], 0)
    return jax.lax.dynamic_slice(images, corner, (images.shape[0], *size, images.shape[-1]))
