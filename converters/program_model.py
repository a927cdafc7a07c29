"""An exported program -> `jaxsal.Model`.

A ``.pt2`` is read without torch; `jaxsal_converters.torch_module` exports what is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from jaxsal.errors import InputError, require_one_of
from jaxsal.graph.config import GraphConfig
from jaxsal.graph.operations import OPERATIONS
from jaxsal.model import Model
from jaxsal.store.files import file_checksum
from jaxsal.types import Triple
from jaxsal_converters.outputs import name_outputs
from jaxsal_converters.program_file import Program, read_program, well_formed
from jaxsal_converters.program_graph import Translation, translated
from jaxsal_converters.program_sizes import with_batch, with_divisor

AXES = ("x", "y", "z")


@dataclass(frozen=True)
class Wanted:
    """What a program does not say of the model.

    Attributes:
        threshold: lesion probability at and above which a voxel is lesion; None: 0.5.
        channels: a name per input channel; None: channel0, channel1, ….
        outputs: a name per output channel.
        target: number or name of the lesion's output channel.
        output: name of the output that is the logits, where there are several.
        roi: window in voxels; None: the size that the program is for, if it is for one only.
        axis: of networks of two dimensions, the axis of a volume, one of `AXES`, along which its
            slices follow each other.
    """

    threshold: float | None = None
    channels: Sequence[str] | None = None
    outputs: Sequence[str] | None = None
    target: int | str | None = None
    output: str | None = None
    roi: Triple | None = None
    axis: str | None = None


def convert_program(path: str | Path, wanted: Wanted = Wanted()) -> tuple[Model, list[str]]:
    """Converts a network that ``torch.export.save`` wrote; needs no torch.

    Args:
        path: of the ``.pt2``.
        wanted: what it does not say.

    Returns:
        The model, and a sentence for everything that was assumed or one has to know.

    Raises:
        InputError: the file cannot be read, or holds no network that can be explained.
    """
    program = read_program(path)
    source = {"file": Path(path).name, "sha256": file_checksum(path)}
    with well_formed(program.name):
        return model_of(program, wanted, source)


def model_of(program: Program, wanted: Wanted, source: dict[str, Any]) -> tuple[Model, list[str]]:
    """As `convert_program`, of a program that has been read.

    Args:
        program: as read.
        wanted: what it does not say.
        source: where it comes from, ready for JSON.
    """
    axis = "z" if wanted.axis is None else wanted.axis
    require_one_of("axis", axis, AXES)
    found = translated(program, OPERATIONS, wanted.output, AXES.index(axis))
    assumptions = list(_assumptions(program, found, wanted))
    parameters = {name: jnp.asarray(array) for name, array in found.arrays.items()}
    with _naming(program):
        graph = with_divisor(found.graph, parameters)
        graph = with_batch(graph, parameters, found.batch)
    config = GraphConfig(graph)
    channels = wanted.channels
    if channels is None:
        channels = [f"channel{c}" for c in range(graph.channels_in)]
        assumptions.append(f"channel names: {' '.join(channels)}; name them with --channels")
    outputs = name_outputs(
        graph.channels_out, wanted.outputs, wanted.target, assumptions, found.probability
    )
    threshold = wanted.threshold
    if threshold is None:
        threshold = 0.5
        assumptions.append("threshold: 0.5; set it with --threshold")
    model = Model(
        config=config,
        parameters=parameters,
        channels=tuple(channels),
        threshold=threshold,
        source={
            **source,
            "converter": "torch",
            "torch": program.torch_version,
            "output": found.output,
            **({"last_step": found.last_step} if found.last_step else {}),
            "assumptions": assumptions,
        },
        outputs=outputs,
        roi=_window(config, wanted.roi),
    )
    return model, assumptions


@contextmanager
def _naming(program: Program) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"{program.name}: {error}") from error


def _assumptions(program: Program, found: Translation, wanted: Wanted) -> Iterator[str]:
    if found.others and wanted.output is None:
        yield (
            f"output: {found.output}, the only one of the image's size; --output takes one of "
            f"{', '.join(found.others)}"
        )
    if found.last_step is not None:
        yield (
            f"logits: what the network's last step, {found.last_step}, is given; it makes "
            "probabilities of them, as jaxsal does itself"
        )
    if found.graph.rank == 2 and wanted.axis is None:
        yield "axis: slices along z, the third axis of the array; set it with --axis"
    others = sorted(found.types - {"float32"})
    if others:
        yield f"arithmetic: float32, though the program's weights are {', '.join(others)}"


def _window(config: GraphConfig, roi: Triple | None) -> Triple | None:
    """The window that is asked for, or the only one that the network takes.

    Raises:
        InputError: the network does not take it.
    """
    fixed = config.fixed_size
    if roi is None:
        x, y, z = fixed
        return None if x is None or y is None or z is None else (x, y, z)
    fits = all(
        n % d == 0 if f is None else n == f
        for n, f, d in zip(roi, fixed, config.divisor, strict=True)
    )
    if not fits:
        sizes = (str(f or f"a multiple of {d}") for f, d in zip(fixed, config.divisor, strict=True))
        raise InputError(
            f"the program takes windows of {' × '.join(sizes)} voxels; got roi "
            f"{' × '.join(map(str, roi))}: leave it out, or "
            "export with other sizes (dynamic_shapes)"
        )
    return roi
