"""A saliency method as a package outside jaxsal would bring it: input times gradient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

import jaxsal

NAME = "input-gradient"
_METADATA = "Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n"


@dataclass(frozen=True)
class InputGradientSettings:
    """How the image times its gradient is computed.

    Attributes:
        target: output channel.
        power: of the image that the gradient is multiplied by.
        memory: bytes to stay within; it does not matter here.
    """

    method: ClassVar[str] = NAME

    target: int | None = None
    power: int = jaxsal.option(1, "P")
    memory: int | None = None


def maps(
    model: jaxsal.Model,
    field: Any,
    image: np.ndarray,
    labels: np.ndarray,
    settings: InputGradientSettings,
    *,
    level: str,
    on_progress: Any,
) -> Iterator[tuple[int, jaxsal.Crop]]:
    """The image's power times the gradient of the domain's summed logits."""
    x = jnp.asarray(image)
    for label in np.unique(labels[labels > 0]).tolist():
        domain = jnp.asarray(labels == label, jnp.float32)

        def score(x: jax.Array, domain: jax.Array = domain) -> jax.Array:
            return (field(x)[..., settings.target] * domain).sum()

        values = x**settings.power * jax.grad(score)(x)
        yield label, jaxsal.Crop(np.asarray(values), (0, 0, 0), 1)


METHOD = jaxsal.Method(
    name=NAME,
    summary="the image times its gradient",
    settings=InputGradientSettings,
    maps=maps,
)


def install(site: Path, broken: str = "") -> None:
    """Makes it a package with an entry point, and another one, in a folder for packages."""
    (site / "toy.py").write_text("from helpers.toy_method import METHOD\n", encoding="utf-8")
    information = site / "toy-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(_METADATA, encoding="utf-8")
    points = f"[jaxsal.methods]\n{NAME} = toy:METHOD\n{broken}"
    (information / "entry_points.txt").write_text(points, encoding="utf-8")
