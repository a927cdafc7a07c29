"""Second and third derivatives along unit vectors of a layer: in which of JAX's ways?

Nested forward derivatives of the logits, the way of `jaxsal.saliency.gradcam.upper_network`, or
forward derivatives of a gradient. `jax.experimental.jet` does not take the networks' norms, which
state a derivative of their own.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.case import TARGET
from bench.gradcam import TOY_NETWORK
from bench.nets import NNUNET
from bench.options import base_job, job_settings, timed
from bench.record import Result, Row
from jaxsal.compilation import compiler_options
from jaxsal.current_device import current_device
from jaxsal.model import Model
from jaxsal.saliency.gradcam.upper_network import UpperNetwork

_TIMES = 10  # directions timed

Line = Callable[[Any, jax.Array, jax.Array, jax.Array], Any]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the benchmark's options."""
    parser.add_argument("--side", type=int, default=16, help="of the window, voxels")
    parser.add_argument("--share", type=float, default=0.25, help="of the paper's features")


def run(options: argparse.Namespace) -> Result:
    """Measures."""
    network, side = (TOY_NETWORK, 8) if options.toy else (NNUNET, options.side)
    model = network.model(1 if options.toy else options.share)
    layer = network.layers[0 if options.toy else 1]
    random = np.random.default_rng(0)
    window = jnp.asarray(random.standard_normal((side, side, side, 2)), jnp.float32)
    domain = jnp.zeros((side,) * 3).at[(slice(side // 2, side // 2 + 2),) * 3].set(1)
    _, activations = model.activations(window[None])
    unit = jnp.zeros(activations[layer].shape[1:]).at[1, 1, 1, 0].set(1)
    rows: list[Row] = []
    found = {}
    for name, line in _lines(model, layer).items():
        row, found[name] = _row(name, line, (model.parameters, window, domain, unit))
        rows.append(row)
    expected = np.array(found[_NESTED])
    for row in rows[1:]:
        difference = np.abs(np.array(found[row["mode"]]) - expected) / np.abs(expected)
        row["difference"] = float(difference.max())
    settings = job_settings(base_job(options)) | {"network": network.name, "layer": layer}
    notes = [
        f"{network.name} with {unit.shape[-1]} features in {layer}, random weights, a window "
        f"of {side} voxels; one direction and one domain.",
        "gflop: operations as XLA counts them; difference: the largest of the second and third "
        "derivative from the nested forward ones, relative.",
        "the gradient's derivatives serve one domain, the others all domains at once.",
    ]
    return Result("derivative_modes", settings, rows, notes)


_NESTED = "nested forward"


def _lines(model: Model, layer: str) -> dict[str, Line]:
    """The logits alone, and each way to the derivatives along a unit vector."""

    def logits(parameters: Any, window: jax.Array, addition: jax.Array) -> jax.Array:
        found, _ = model.function.with_activations(
            parameters, window[None], {layer: addition[None]}
        )
        return found[0, ..., TARGET]

    def forward(parameters: Any, window: jax.Array, domain: jax.Array, unit: jax.Array) -> Any:
        return jnp.vdot(domain, logits(parameters, window, 0 * unit))

    def nested(parameters: Any, window: jax.Array, domain: jax.Array, unit: jax.Array) -> Any:
        upper = UpperNetwork(model.function, layer, TARGET)
        found = upper.along_units(parameters, window, domain[None], jnp.argmax(unit)[None])
        return [derivative[0, 0] for derivative in found]

    def of_gradient(parameters: Any, window: jax.Array, domain: jax.Array, unit: jax.Array) -> Any:
        def gradient(step: jax.Array) -> jax.Array:
            return jax.vjp(partial(logits, parameters, window), step * unit)[1](domain)[0]

        return [jnp.vdot(unit, found) for found in _with_slope(_slope(gradient))]

    return {
        "the logits alone": forward,
        _NESTED: nested,
        "forward over a gradient": of_gradient,
    }


def _with_slope(function: Callable[[jax.Array], Any]) -> tuple[Any, Any]:
    return jax.jvp(function, (jnp.float32(0),), (jnp.float32(1),))


def _slope(function: Callable[[jax.Array], Any]) -> Callable[[jax.Array], Any]:
    return lambda step: jax.jvp(function, (step,), (jnp.float32(1),))[1]


def _row(name: str, line: Line, arguments: tuple[Any, ...]) -> tuple[Row, Any]:
    asked = compiler_options(current_device().platform)
    program = jax.jit(line, compiler_options=asked)
    compiled, compiling = timed(lambda: program.lower(*arguments).compile())
    found = jax.block_until_ready(compiled(*arguments))
    seconds = min(timed(lambda: compiled(*arguments))[1] for _ in range(_TIMES))
    cost = compiled.cost_analysis() or {}
    row = {
        "mode": name,
        "gflop": cost.get("flops", float("nan")) / 1e9,
        "ms": 1000 * seconds,
        "compile_s": compiling,
    }
    return row, found
