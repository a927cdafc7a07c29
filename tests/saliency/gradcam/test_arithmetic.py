"""Under float32 every product of a heat map is asked for in full precision, on GPU and TPU too.

There "default" means TF32, or one pass in bfloat16.
"""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from helpers.network_cases import CASES
from helpers.network_cases.case import arrays_of
from helpers.thorough import thorough_except

from jaxsal.nets.registry import NetworkFunction, layer_shapes
from jaxsal.saliency.gradcam.upper_network import UpperNetwork

PRODUCT = re.compile(r"stablehlo\.(?:dot_general|convolution)\b.*")
FULL = re.compile(r"precision(?:_config)? = \[(?:#stablehlo<precision )?HIGHEST>?, ")


def array(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def products(program: Any, *arguments: Any) -> list[str]:
    """All products of a program as it is given to the compilers of GPU and TPU."""
    traced = jax.jit(program, static_argnums=0).trace(*arguments)
    lowered = traced.lower(lowering_platforms=("cuda", "tpu"))
    return PRODUCT.findall(lowered.as_text())


@pytest.mark.parametrize(
    "name",
    thorough_except(CASES, "unet, 1 residual unit, group"),
)
def test_every_product_of_a_heat_map_is_in_full_precision(name: str) -> None:
    case = CASES[name]
    config, parameters = case.convert(arrays_of(case.source()))
    shapes = {name: array(*value.shape) for name, value in parameters.items()}
    layers = layer_shapes(config)
    spatial = [name for name, shape in layers.items() if max(shape[:3]) > 1] or [*layers]
    layer = spatial[len(spatial) // 2]
    upper = UpperNetwork(NetworkFunction(config), layer, 0)
    window, domains = array(*case.size, case.in_channels), array(2, *case.size)
    grid, channels = upper.shape(shapes, window.shape)
    _, linearised = jax.eval_shape(upper.linearise, shapes, window)
    networks = products(UpperNetwork.linearise, upper, shapes, window)
    networks += products(UpperNetwork.gradients, upper, linearised, domains)
    networks += products(
        UpperNetwork.along_probes,
        upper,
        shapes,
        window,
        array(*case.size),
        array(3, *grid, channels),
    )
    along_units = products(
        UpperNetwork.along_units, upper, shapes, window, domains, array(3, dtype=jnp.int32)
    )
    assert len(networks) > 3
    assert len(along_units) > 2  # which holds products of its own
    assert [line for line in networks + along_units if not FULL.search(line)] == []
