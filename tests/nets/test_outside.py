"""A network from outside jaxsal: this file, and one line that registers it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
import pytest
from flax import nnx

import jaxsal
from jaxsal.nets.blocks import Convolution, Tap
from jaxsal.registry import NETWORKS
from jaxsal.types import Triple


@dataclass(frozen=True)
class TinyConfig:
    kind: ClassVar[str] = "tiny"
    divisor: ClassVar[Triple] = (1, 1, 1)
    fixed_size: ClassVar[tuple[None, None, None]] = (None, None, None)

    in_channels: int
    out_channels: int

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> TinyConfig:
        return cls(**arguments)

    def to_arguments(self) -> dict[str, Any]:
        return asdict(self)


class Tiny(nnx.Module):
    Config = TinyConfig

    def __init__(self, config: TinyConfig, rngs: nnx.Rngs) -> None:
        sizes = config.in_channels, config.out_channels
        self.conv = Convolution(*sizes, kernel_size=(3, 3, 3), rngs=rngs)

    def __call__(
        self, batch: jax.Array, perturbations: Mapping[str, jax.Array] | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        tap = Tap(perturbations)
        x = tap("squared", batch**2)
        return self.conv(x, tap.under("conv")), tap.activations


@pytest.fixture(autouse=True)
def _registered() -> None:
    assert "tiny" not in NETWORKS
    jaxsal.register_network(Tiny)


def test_it_is_saved_and_explained_like_jaxsals_own(tmp_path: Path) -> None:
    config = NETWORKS["tiny"].Config.from_arguments({"in_channels": 1, "out_channels": 2})
    model = jaxsal.Model.initialise(config, ("flair",))
    jaxsal.save_model(model, tmp_path / "model")
    loaded = jaxsal.load_model(tmp_path / "model")
    assert loaded.layers == ("squared", "conv")
    assert loaded.receptive_field == (3, 3, 3)
    image = np.random.default_rng(0).standard_normal((6, 5, 4, 1), np.float32)
    labels = np.zeros(image.shape[:3], np.int32)
    labels[3, 2, 2] = 1
    field = jaxsal.whole_volume(loaded)
    maps = jaxsal.smoothgrad(field, image, labels, samples=1, noise=0)
    expected = jax.grad(lambda x: field(x)[3, 2, 2, 1])(image)
    np.testing.assert_allclose(maps.dense(1), expected, rtol=1e-5, atol=1e-6)
    heat = jaxsal.gradcam_plus_plus(loaded, image, labels, layer="squared")
    assert heat.dense(1).shape == image.shape[:3]


def test_a_name_that_is_taken_is_refused() -> None:
    class Other(Tiny):
        pass

    with pytest.raises(jaxsal.InputError, match="a network 'tiny' already"):
        jaxsal.register_network(Other)
    assert list(NETWORKS)[:4] == ["unet", "dynunet", "nnunet", "swin-unetr"]


def test_what_cannot_compute_again_says_what_can() -> None:
    model = jaxsal.Model.initialise(TinyConfig(1, 2), ("flair",))
    with pytest.raises(jaxsal.InputError, match="is for swin-unetr only; this network is tiny"):
        model.with_rematerialisation()
