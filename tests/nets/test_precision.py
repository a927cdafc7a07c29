"""The arithmetic that each precision asks for, read off the programs for each platform."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import pytest

from jaxsal.nets.registry import NetworkFunction, config_from_arguments, parameter_shapes
from jaxsal.settings import PRECISIONS_ON

pytestmark = pytest.mark.usefixtures("xla_convolutions")

PRODUCT = re.compile(r"stablehlo\.(?:dot_general|convolution)\b.*")
ASKED = re.compile(
    r"precision(?:_config)? = \[(?:#stablehlo<precision )?(\w+)>?, .*tensor<\S*x(\w+)>$"
)
PLATFORMS = {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"}
MEANS = {
    "float32": ("HIGHEST", "f32"),
    "tf32": ("HIGH", "f32"),  # which is TF32 on an NVIDIA GPU …
    "bfloat16x3": ("HIGH", "f32"),  # … and three passes in bfloat16 on a TPU
    "bfloat16": ("DEFAULT", "bf16"),
}


@pytest.mark.parametrize(
    ("platform", "precision"),
    [(platform, name) for platform, names in PRECISIONS_ON.items() for name in names],
)
def test_every_product_asks_for_the_precision(platform: str, precision: str) -> None:
    arguments = {"in_channels": 2, "out_channels": 2, "channels": (2, 4), "strides": (2,)}
    config = config_from_arguments("unet", arguments)
    shapes = {
        name: jax.ShapeDtypeStruct(shape, jnp.float32)
        for name, shape in parameter_shapes(config).items()
    }
    network = NetworkFunction(config, precision)

    def gradient(parameters: dict[str, jax.Array], batch: jax.Array) -> jax.Array:
        return jax.grad(lambda batch: network(parameters, batch).sum())(batch)

    traced = jax.jit(gradient).trace(shapes, jax.ShapeDtypeStruct((1, 4, 4, 4, 2), jnp.float32))
    text = traced.lower(lowering_platforms=(PLATFORMS[platform],)).as_text()
    found = [ASKED.search(line) for line in PRODUCT.findall(text)]
    assert len(found) >= 4
    assert {match and match.groups() for match in found} == {MEANS[precision]}
