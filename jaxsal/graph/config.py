"""The architecture of a network that is a graph of operations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxsal.errors import InputError
from jaxsal.graph.operations import OPERATIONS
from jaxsal.graph.program import Graph
from jaxsal.types import Triple
from jaxsal.wording import counted


@dataclass(frozen=True)
class GraphConfig:
    """A graph as an architecture; see `jaxsal.nets.registry.NetworkConfig`.

    Raises:
        InputError: the graph holds operations that jaxsal does not know.
    """

    kind: ClassVar[str] = "graph"

    graph: Graph

    def __post_init__(self) -> None:
        unknown = sorted({node.operation for node in self.graph.nodes} - set(OPERATIONS))
        if unknown:
            raise InputError(
                f"the graph holds operations that this jaxsal does not know: {', '.join(unknown)}; "
                "use the jaxsal that it was converted with, or a newer one"
            )

    @property
    def in_channels(self) -> int:
        """Number of image channels."""
        return self.graph.channels_in

    @property
    def out_channels(self) -> int:
        """Number of logits per voxel."""
        return self.graph.channels_out

    @property
    def divisor(self) -> Triple:
        """What each spatial size of an input must be a multiple of."""
        x, y, z = self._of_volume(self.graph.divisor)
        return x, y, z

    @property
    def fixed_size(self) -> tuple[int | None, int | None, int | None]:
        """The only size an input can have along each spatial axis; slices are one voxel thick."""
        x, y, z = self._of_volume(self.graph.size)
        return x, y, z

    @property
    def summary(self) -> str:
        """How many operations it has, and of which kinds the most."""
        kinds = Counter(node.operation.split(".")[1] for node in self.graph.nodes)
        most = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common(8))
        return f"{counted(len(self.graph.nodes), 'operation')}: {most}, …"

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> GraphConfig:
        """From what `to_arguments` returns.

        Raises:
            InputError: it is no graph, or holds operations that jaxsal does not know.
        """
        return cls(Graph.from_json(arguments))

    def to_arguments(self) -> dict[str, Any]:
        """The graph, ready for JSON."""
        return self.graph.to_json()

    def _of_volume(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """One number per axis of a volume, from one per axis of the graph's images."""
        if self.graph.rank == 3:
            return values
        place = self.graph.slice_axis
        return *values[:place], 1, *values[place:]
