"""The network above a layer, and the derivatives of y' (Eqs. 5, 9) with respect to the layer.

Logits on a window are a function of what is added to the layer's activations A.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters.partial_eval import dce_jaxpr

from jaxsal.compilation import compiled
from jaxsal.errors import InputError
from jaxsal.shapes import Shapes
from jaxsal.types import LayeredFunction, Triple

_jit = partial(compiled, static_argnums=0)  # once per equal network and shapes


@dataclass(frozen=True)
class UpperNetwork:
    """Programs for the derivatives of domains' summed logits with respect to a layer.

    Compiled once per layer, target and shapes. Axes: X Y Z of the window, x y z K of the layer,
    B domains, D directions.

    Attributes:
        function: the network.
        layer: its layer.
        target: output channel.
    """

    function: LayeredFunction
    layer: str
    target: int

    def shape(self, parameters: Any, window: tuple[int, ...]) -> tuple[Triple, int]:
        """Grid (x, y, z) and channels K of the layer on a window of this shape (X, Y, Z, C).

        Raises:
            InputError: the layer has no spatial extent.
        """
        x, y, z, channels = _layer_shape(self, Shapes.of(parameters), window)
        return (x, y, z), channels

    def is_piecewise_linear(self, parameters: Any, window: tuple[int, ...]) -> bool:
        """Whether the second and third derivatives vanish identically, wherever they exist."""
        return _is_piecewise_linear(self, Shapes.of(parameters), window)

    @_jit
    def linearise(self, parameters: Any, window: jax.Array) -> tuple[jax.Array, Any]:
        """The activations (x, y, z, K), float32, and what `gradients` takes."""
        activation = self.activation(parameters, window)[0].astype(jnp.float32)
        zeros = jnp.zeros(activation.shape, jnp.float32)
        return activation, jax.vjp(self.logits(parameters, window), zeros)[1]

    @_jit
    def gradients(self, linearised: Any, domains: jax.Array) -> jax.Array:
        """∂y'/∂A (B, x, y, z, K), y' the sums of logits over domains (B, X, Y, Z)."""
        return jax.vmap(lambda domain: linearised(domain)[0])(domains)

    @_jit
    def along_units(
        self, parameters: Any, window: jax.Array, domains: jax.Array, entries: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Second and third derivatives along unit vectors of the layer: (D, B) each.

        By three nested forward derivatives, which serve all domains at once; compared with forward
        derivatives of a gradient (once per domain) and with `jax.experimental.jet` they need the
        fewest operations, for XLA computes equal intermediate results once.

        Args:
            parameters: of the network.
            window: (X, Y, Z, C).
            domains: (B, X, Y, Z) weights of the logits in each sum.
            entries: (D,) the unit vectors as indices into the flattened (x, y, z, K).
        """
        logits = self.logits(parameters, window)
        shape = self.activation(parameters, window).shape[1:]

        def along(entry: jax.Array) -> tuple[jax.Array, jax.Array]:
            at = jnp.unravel_index(entry, shape)

            def moved(step: jax.Array) -> jax.Array:
                return logits(jnp.zeros(shape, jnp.float32).at[at].set(step))

            second, third = _derivative(_slope(_slope(moved)), jnp.float32(0))
            return _summed(domains, second), _summed(domains, third)

        return jax.vmap(along)(entries)

    @_jit
    def along_probes(
        self, parameters: Any, window: jax.Array, domain: jax.Array, probes: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """H z and T(z, z), the derivatives of a domain's gradient along probes z.

        Args:
            parameters: of the network.
            window: (X, Y, Z, C).
            domain: (X, Y, Z) weights of the logits in the sum.
            probes: (D, x, y, z, K).

        Returns:
            Two arrays (D, x, y, z, K).
        """
        logits = self.logits(parameters, window)

        def along(probe: jax.Array) -> tuple[jax.Array, jax.Array]:
            def gradient(step: jax.Array) -> jax.Array:
                return jax.vjp(logits, step * probe)[1](domain)[0]

            return _derivative(_slope(gradient), jnp.float32(0))

        return jax.vmap(along)(probes)

    def activation(self, parameters: Any, window: jax.Array) -> jax.Array:
        """The layer's activations at one window, (1, x, y, z, K)."""
        return self.function.with_activations(parameters, window[None])[1][self.layer]

    def logits(self, parameters: Any, window: jax.Array) -> Callable[[jax.Array], jax.Array]:
        """From an addition (x, y, z, K) to the layer to the target's logits (X, Y, Z)."""

        def logits(addition: jax.Array) -> jax.Array:
            found, _ = self.function.with_activations(
                parameters, window[None], {self.layer: addition[None]}
            )
            return jnp.take(found[0], self.target, axis=-1).astype(jnp.float32)

        return logits


@lru_cache(maxsize=64)
def _layer_shape(
    upper: UpperNetwork, parameters: Shapes, window: tuple[int, ...]
) -> tuple[int, ...]:
    arguments = parameters.structs(), jax.ShapeDtypeStruct(window, jnp.float32)
    shape = jax.eval_shape(upper.activation, *arguments).shape
    if len(shape) != 5 or shape[0] != 1 or max(shape[1:4]) == 1:
        raise InputError(
            f"a heat map needs a layer with positions in space; {upper.layer!r} gives an array of "
            f"shape {tuple(shape)} for a window of {window[:3]}: choose another layer"
        )
    return tuple(shape[1:])


@lru_cache(maxsize=64)
def _is_piecewise_linear(upper: UpperNetwork, parameters: Shapes, window: tuple[int, ...]) -> bool:
    """Reads it off the second derivative's program: it uses no input.

    A second derivative along a vector is of degree two in the vector; if it does not depend on it,
    it is zero.
    """
    shape = _layer_shape(upper, parameters, window)

    def second(parameters: Any, window: jax.Array, addition: jax.Array, vector: jax.Array) -> Any:
        logits = upper.logits(parameters, window)

        def slope(addition: jax.Array) -> jax.Array:
            return jax.jvp(logits, (addition,), (vector,))[1]

        return jax.jvp(slope, (addition,), (vector,))[1]

    layer = jax.ShapeDtypeStruct(shape, jnp.float32)
    image = jax.ShapeDtypeStruct(window, jnp.float32)
    program = jax.make_jaxpr(second)(parameters.structs(), image, layer, layer)
    _, used = dce_jaxpr(program.jaxpr, [True])
    return not any(used)


def _summed(domains: jax.Array, values: jax.Array) -> jax.Array:
    """The sums (B,) of values (X, Y, Z) over domains (B, X, Y, Z), in float32 on every device."""
    return jnp.tensordot(domains, values, 3, precision="highest")


def _derivative(function: Any, at: jax.Array) -> Any:
    """A function of a number and its derivative there."""
    return jax.jvp(function, (at,), (jnp.ones_like(at),))


def _slope(function: Any) -> Any:
    return lambda at: _derivative(function, at)[1]
