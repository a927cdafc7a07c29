"""What is computed: a network, a scan with lesions and noise, described so that it can be redone.

A `Job` is the description, plain enough to be sent to another process; a `Case` is the thing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxsal
from jaxsal.field.plan import LogitField
from jaxsal.model import Model
from jaxsal.nets.registry import NetworkConfig, config_from_arguments, parameter_shapes
from jaxsal.saliency import geometry
from jaxsal.scan.calibration import synthetic_scan
from jaxsal.types import Triple

CHANNELS = ("flair", "t1")
TARGET = 1
NOISE = 0.05  # standard deviation of the explicit noise that peers share

_BASE = {"in_channels": 2, "out_channels": 2, "norm": "batch", "num_res_units": 0}
PAPER_UNET = _BASE | {"channels": [32, 64, 128, 256, 512], "strides": [2, 2, 2, 2]}
TINY_UNET = _BASE | {"channels": [4, 6], "strides": [2]}


@dataclass(frozen=True)
class Job:
    """What is to be computed.

    Attributes:
        shape: grid of the synthetic scan.
        lesions: voxels of each lesion.
        samples: noisy images.
        field: "whole" or "sliding".
        roi: window of the sliding field.
        precision: one of `jaxsal.settings.PRECISIONS`.
        model: model directory or checkpoint of MONAI's ``UNet``; None: random weights.
        network: MONAI's arguments of the network with random weights.
        seed: of weights, scan and noise.
    """

    shape: Triple = (192, 224, 192)
    lesions: tuple[int, ...] = (24, 24)
    samples: int = 2
    field: str = "whole"
    roi: Triple = (96, 96, 96)
    precision: str = "float32"
    model: str | None = None
    network: Any = None
    seed: int = 0

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Job:
        """The inverse of ``dataclasses.asdict`` followed by JSON."""
        lists = {k: tuple(v) for k, v in values.items() if isinstance(v, list)}
        return cls(**(values | lists))


STANDARD = Job(network=PAPER_UNET)
TOY = Job(shape=(24, 24, 24), lesions=(3, 2), roi=(16, 16, 16), network=TINY_UNET)


@dataclass(frozen=True, eq=False)
class Case:
    """A network, an image, lesions and noise.

    Attributes:
        model: the network.
        image: (X, Y, Z, C) float32.
        labels: (X, Y, Z) int32.
        noise: (N, X, Y, Z, C) float32, to be added to the image.
    """

    model: Model
    image: np.ndarray
    labels: np.ndarray
    noise: np.ndarray

    @property
    def lesions(self) -> dict[int, np.ndarray]:
        """Voxels (V, 3) of each lesion, by label."""
        values = (int(v) for v in np.unique(self.labels) if v)
        return {label: np.argwhere(self.labels == label) for label in values}

    @property
    def gradients(self) -> int:
        """Lesion voxels × noise samples."""
        return int((self.labels > 0).sum()) * len(self.noise)

    def reduced(self, voxels: int, samples: int) -> Case:
        """The first voxels of each lesion and the first noise samples only."""
        labels = np.zeros_like(self.labels)
        for label, positions in self.lesions.items():
            labels[tuple(positions[:voxels].T)] = label
        return replace(self, labels=labels, noise=self.noise[:samples])


def make_case(job: Job) -> Case:
    """The synthetic case that a job describes."""
    model = make_model(job)
    image, labels = synthetic_scan(job.shape, len(model.channels), job.lesions, job.seed)
    return Case(model, image, labels, make_noise(image, job.samples, job.seed))


def make_noise(image: np.ndarray, samples: int, seed: int = 0) -> np.ndarray:
    """Gaussian noise (N, X, Y, Z, C) float32."""
    random = np.random.default_rng(seed + 1)
    return np.float32(NOISE) * random.standard_normal((samples, *image.shape), np.float32)


def make_model(job: Job) -> Model:
    """The job's network in its precision."""
    if job.model is None:
        config = config_from_arguments("unet", job.network)
        model = Model(config, random_parameters(config, job.seed), CHANNELS)
    elif Path(job.model).is_dir():
        model = jaxsal.load_model(job.model)
    else:
        from jaxsal_converters.unet import convert_unet

        model, _ = convert_unet(job.model, channels=CHANNELS, threshold=0.3)
    return model.with_precision(job.precision)


def make_field(model: Model, field: str, roi: Triple) -> LogitField:
    """The field of that name."""
    return jaxsal.whole_volume(model) if field == "whole" else jaxsal.sliding_window(model, roi)


@contextmanager
def as_part_of_a_scan() -> Iterator[None]:
    """Within the block the programs are those of a whole scan, however small the job."""
    before, geometry.FEWEST_NEAR_EDGES = geometry.FEWEST_NEAR_EDGES, 0
    try:
        yield
    finally:
        geometry.FEWEST_NEAR_EDGES = before


def dense_maps(field: LogitField, case: Case, **options: Any) -> dict[int, np.ndarray]:
    """Signed-maximum maps (X, Y, Z, C) by label, with the case's own noise."""
    maps = jaxsal.smoothgrad(
        field,
        jnp.asarray(case.image),
        case.labels,
        target=TARGET,
        noise_samples=case.noise,
        **options,
    )
    return {label: maps.dense(label) for label in maps.labels}


def random_parameters(config: NetworkConfig, seed: int) -> dict[str, jax.Array]:
    """Random weights under which signals keep their size, so that deep layers matter."""
    random = np.random.default_rng(seed)
    parameters = {}
    for name, shape in parameter_shapes(config).items():
        kind = name.rpartition(".")[2]
        if kind == "kernel":
            values = random.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:-1]))
        elif kind == "slope":
            values = np.full(shape, 0.25)
        else:
            values = 0.1 * random.standard_normal(shape) + (kind in ("scale", "var"))
        parameters[name] = jnp.asarray(np.abs(values) if kind == "var" else values, jnp.float32)
    return parameters
