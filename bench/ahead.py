"""The derivatives' programs of the paper's networks, ready to be compiled for a device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.nets import PaperNetwork
from bench.targets import Target
from jaxsal.nets.registry import NetworkFunction, parameter_shapes
from jaxsal.saliency.derivative import DenseDerivative, Derivative, derivative_of
from jaxsal.saliency.memory import DEVICE_SHARE, Needs, array_bytes, default_budget, needs_of
from jaxsal.saliency.memory_plan import ON_ACCELERATOR, ON_CPU, Demand, fit
from jaxsal.shapes import Shapes

PROGRAMS = ("forward", "prepare", "linearise", "pull_back", "near_edges")
_CHANNEL = 1  # whose logits are differentiated
_LARGEST_BATCH = 32  # as the engine's on a GPU or TPU


@dataclass(frozen=True)
class Planned:
    """A program, what it takes, and the memory that is planned for it.

    Attributes:
        name: of the program.
        batch: gradients at once; 1 of a program without any.
        function: traceable by JAX.
        arguments: their shapes.
        planned: bytes for it besides its arguments; None if the plan does not ask.
        counts_results: whether its results are among the planned bytes.
    """

    name: str
    batch: int
    function: Any
    arguments: tuple[Any, ...]
    planned: int | None = None
    counts_results: bool = False


@dataclass(frozen=True)
class Case:
    """A derivative of a network, on a window.

    Attributes:
        network: its name.
        kind: "local" or "dense".
        function: the network.
        derivative: of its logits.
        parameters: of the network.
        windows: (N, X, Y, Z, C).
    """

    network: str
    kind: str
    function: NetworkFunction
    derivative: Derivative
    parameters: Shapes
    windows: tuple[int, ...]

    @property
    def needs(self) -> Needs:
        """What the memory plan reckons with."""
        return needs_of(self.derivative, self.parameters, self.windows)

    def planned_batch(self, target: Target) -> int:
        """Gradients at once by the memory plan; 1 where it refuses the device."""
        if target.platform == "cpu":
            width, budget = self.derivative.largest_cpu_batch, default_budget([target.abstract()])
            enough = ON_CPU
        else:
            width, budget = _LARGEST_BATCH, int(target.budget * DEVICE_SHARE)
            enough = ON_ACCELERATOR
        needs, image = self.needs, array_bytes(self._images)
        parameters = array_bytes(self.parameters.structs()) + needs.prepared
        demand = Demand(
            fixed=4 * image + parameters + needs.shared,
            linearise=needs.linearise,
            linearised=needs.linearised,
            window=image,
            item=needs.pull_back,
            frame=image,
            maps=[image],
            windows=1,
            mixes=self.derivative.mixes_windows,
        )
        found = fit(demand, budget, width, enough=enough)
        return 1 if found is None else found.items

    def programs(self, batch: int, wanted: Sequence[str]) -> Iterator[Planned]:
        """The programs of these names; of the local derivative also those of boxes near edges."""
        derivative, parameters = self.derivative, self.parameters.structs()
        if "forward" in wanted:
            yield Planned("forward", 1, self.function.__call__, (parameters, self._images))
        if "prepare" in wanted and self.needs.prepared:
            yield Planned("prepare", 1, derivative.prepare, (parameters,))
        if "linearise" in wanted:
            yield Planned(
                "linearise",
                1,
                derivative.linearise,
                (parameters, self._images),
                self.needs.linearise + self.needs.linearised,
                counts_results=True,
            )
        if "pull_back" in wanted:
            yield self._pull_back("pull_back", batch)
        if "near_edges" in wanted:
            for name, near in self._near_edges():
                yield near._pull_back(name, batch)

    def _pull_back(self, name: str, batch: int) -> Planned:
        derivative, parameters = self.derivative, self.parameters.structs()
        arguments = (
            jax.eval_shape(derivative.prepare, parameters),
            jax.eval_shape(derivative.linearise, parameters, self._images),
            derivative.cotangent_shapes(batch),
        )
        planned = self.needs.shared + batch * self.needs.pull_back
        return Planned(name, batch, derivative.pull_back, arguments, planned, counts_results=True)

    def _near_edges(self) -> Iterator[tuple[str, Case]]:
        """Boxes of voxels near an edge along one axis, two, all three, where these are smaller."""
        middle = np.array(self.windows[1:4]) // 2
        for count in (1, 2, 3):
            point = np.where(np.arange(3) < count, 0, middle)[None]
            near = self.derivative.near(tuple(self.derivative.edges(point)[0].tolist()))
            if near.box != self.derivative.box:
                yield f"pull_back, {count} edges", replace(self, derivative=near)

    @property
    def _images(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(self.windows, jnp.float32)


def cases(network: PaperNetwork, precision: str, side: int) -> Iterator[Case]:
    """The network's derivatives on one cubic window: the local one, if it has it, and the dense."""
    config = network.config()
    function, windows = NetworkFunction(config, precision), (1, side, side, side, 2)
    parameters = Shapes.of(
        {
            name: jax.ShapeDtypeStruct(shape, jnp.float32)
            for name, shape in parameter_shapes(config).items()
        }
    )
    dense = DenseDerivative(function, _CHANNEL, 1, (side, side, side))
    found = derivative_of(function, parameters.structs(), _CHANNEL, windows, single=True)
    if found != dense:
        yield Case(network.name, "local", function, found, parameters, windows)
    yield Case(network.name, "dense", function, dense, parameters, windows)
