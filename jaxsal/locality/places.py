"""Where a layer's cells lie in the image: at the centres of what they read.

Read off a network's jaxpr, operation by operation. Along each axis cell i of a value lies at voxel
``step * i + offset``:

- a convolution multiplies the step by its stride and moves the offset to the middle of its kernel,
  by ``step * ((kernel - 1) / 2 - padding)``; a transposed convolution is the inverse of that;
- what works at each position leaves cells where they are, and so does what works on all of them
  (a norm, attention): it reads everything, whose centre says nothing;
- anything else that changes the grid is taken to divide it evenly, as pooling over blocks does.

Where values meet whose cells lie apart, joined channels lie where those of the smallest receptive
field do. These are a decoder's skip: a coarse cell from below is the same for all the cells
that it is up-sampled to, and the network learns to fill these in to fit the skip, up to its
logits, which so lie at their voxels. Likewise a sum lies where those of its terms do that were
never on a coarser grid than the others; in the middle of these if there are several, and so do
joined channels whose receptive fields are of one size, the patches that a transformer merges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

from jaxsal.locality.structure import CHANNELS_LAST, traced
from jaxsal.shapes import Shapes
from jaxsal.types import LayeredFunction

_SPATIAL = slice(1, 4)  # axes of an array (B, X, Y, Z, C)
_CHANNELS = 4


class Places(NamedTuple):
    """Where cells lie: cell i at voxel ``step * i + offset`` of the image, along each axis.

    Attributes:
        step: voxels from a cell to the next one.
        offset: position of the first cell, in voxels; it need not lie on one.
    """

    step: tuple[float, float, float]
    offset: tuple[float, float, float]


def places_of(
    function: LayeredFunction, parameters: Any, shape: Sequence[int], layer: str
) -> Places:
    """Where the cells of a layer lie, by the centres of their receptive fields.

    Of images that the network mirrors along an axis, and of activations mirrored back, half lie at
    ``offset`` and half at ``step - 1 - offset`` along that axis: the result is their middle.

    Args:
        function: the network.
        parameters: its first argument, arrays or their shapes.
        shape: of an image (X, Y, Z, C).
        layer: its name, one with positions in space.
    """
    return _places_of(function, Shapes.of(parameters), tuple(shape), layer)


@lru_cache(maxsize=64)
def _places_of(
    function: LayeredFunction, parameters: Shapes, shape: tuple[int, ...], layer: str
) -> Places:
    program = traced(function, parameters, (1, *shape), layer)
    ones, zeros = np.ones(3), np.zeros(3)
    image = _Cells(np.array(shape[:3]), ones, zeros, zeros, ones, zeros > 0)
    unread: list[_Cells | None] = [None] * (len(program.jaxpr.invars) - 1)
    found = _follow(program.jaxpr, [*unread, image])[-1]
    if found is None:  # a layer that does not depend on the image
        found = image
    found = found.divided(_grid(program.jaxpr.outvars[-1]))
    offset = np.where(found.mirrored, (found.step - 1) / 2, found.offset)
    return Places(_rounded(found.step), _rounded(offset))


class _Cells(NamedTuple):
    """Cells of a grid, per axis; of a value without a grid those that it was last seen with.

    Attributes:
        grid: number of cells.
        step: as in `Places`.
        offset: as in `Places`.
        extent: of a cell's receptive field, without what norms and attention add to it.
        coarsest: largest step on the way.
        mirrored: whether images were mirrored along the axis on the way.
    """

    grid: np.ndarray
    step: np.ndarray
    offset: np.ndarray
    extent: np.ndarray
    coarsest: np.ndarray
    mirrored: np.ndarray

    def spaced(self, grid: np.ndarray, step: np.ndarray) -> _Cells:
        """On a grid of this size with this step; the first cell where it was."""
        return self._replace(grid=grid, step=step, coarsest=np.maximum(self.coarsest, step))

    def divided(self, grid: np.ndarray) -> _Cells:
        """The same space, divided evenly into a grid of another size."""
        ratio = self.grid / grid
        return self.spaced(grid, self.step * ratio)._replace(
            offset=self.offset + self.step * (ratio - 1) / 2,
            extent=self.extent + self.step * np.maximum(ratio - 1, 0),
        )

    def moved(self, cells: Any) -> _Cells:
        """With cell 0 where so many cells after it were."""
        return self._replace(offset=self.offset + self.step * np.asarray(cells))

    def covers(self, grid: np.ndarray) -> bool:
        return bool((self.grid == grid).all())


def _follow(jaxpr: Jaxpr, arguments: Sequence[_Cells | None]) -> list[_Cells | None]:
    """The cells of a program's results, from those of its arguments that depend on the image."""
    known: dict[Var, _Cells | None] = dict(zip(jaxpr.invars, arguments, strict=True))

    def cells_of(variable: Any) -> _Cells | None:
        return None if isinstance(variable, Literal) else known.get(variable)

    for equation in jaxpr.eqns:
        read = [cells_of(v) for v in equation.invars]
        if any(cells is not None for cells in read):
            known.update(zip(equation.outvars, _results(equation, read), strict=True))
    return [cells_of(v) for v in jaxpr.outvars]


def _results(equation: JaxprEqn, read: Sequence[_Cells | None]) -> list[_Cells | None]:
    inner = _called(equation)
    if inner is not None:
        return _follow(inner, read)
    rule = _RULES.get(equation.primitive.name, _anything)
    sources = [cells for cells in read if cells is not None]
    found: list[_Cells | None] = []
    for variable in equation.outvars:
        if len(_shape(variable)) == 5:
            found.append(rule(equation, sources, _grid(variable)))
        else:
            found.append(sources[0])
    return found


def _called(equation: JaxprEqn) -> Jaxpr | None:
    """The program that an equation runs on its inputs, once or for each of several examples."""
    for value in equation.params.values():
        inner = value.jaxpr if isinstance(value, ClosedJaxpr) else value
        if isinstance(inner, Jaxpr) and (len(inner.invars), len(inner.outvars)) == (
            len(equation.invars),
            len(equation.outvars),
        ):
            return inner
    return None


Rule = Callable[[JaxprEqn, Sequence[_Cells], np.ndarray], _Cells]


def _anything(equation: JaxprEqn, sources: Sequence[_Cells], grid: np.ndarray) -> _Cells:
    alike = [cells for cells in sources if cells.covers(grid)]
    least = min((cells.coarsest.sum() for cells in alike), default=0)
    fine = [cells for cells in alike if cells.coarsest.sum() == least]
    return _middle(fine) if fine else sources[0].divided(grid)


def _convolution(equation: JaxprEqn, sources: Sequence[_Cells], grid: np.ndarray) -> _Cells:
    """Reads ``stride i - padding + tap``, in cells that dilation sets apart."""
    of, cells = equation.params, sources[0]
    numbers = of["dimension_numbers"]
    if not tuple(numbers.lhs_spec) == tuple(numbers.out_spec) == CHANNELS_LAST:
        return _anything(equation, sources, grid)
    kernel = np.array([_shape(equation.invars[1])[axis] for axis in numbers.rhs_spec[2:]])
    low = np.array([low for low, _ in of["padding"]])
    step = cells.step / np.array(of["lhs_dilation"])
    reach = (kernel - 1) * np.array(of["rhs_dilation"])
    return cells.spaced(grid, step * np.array(of["window_strides"]))._replace(
        offset=cells.offset + step * (reach / 2 - low),
        extent=cells.extent + step * reach,
    )


def _slice(equation: JaxprEqn, sources: Sequence[_Cells], grid: np.ndarray) -> _Cells:
    of, cells = equation.params, sources[0]
    moved = cells.moved(of["start_indices"][_SPATIAL])
    strides = (of["strides"] or (1,) * 5)[_SPATIAL]
    return moved.spaced(grid, cells.step * np.array(strides))


def _pad(equation: JaxprEqn, sources: Sequence[_Cells], grid: np.ndarray) -> _Cells:
    low, _, between = np.array(equation.params["padding_config"])[_SPATIAL].T
    return sources[0].spaced(grid, sources[0].step / (between + 1)).moved(-low)


def _concatenate(equation: JaxprEqn, sources: Sequence[_Cells], grid: np.ndarray) -> _Cells:
    dimension = equation.params["dimension"]
    if dimension == _CHANNELS:
        alike = [cells for cells in sources if cells.covers(grid)]
        least = min((cells.extent.sum() for cells in alike), default=0)
        return _anything(equation, [c for c in alike if c.extent.sum() == least] or sources, grid)
    lengths = [_shape(v)[dimension] for v in equation.invars]
    if len(lengths) != len(sources) or dimension == 0:
        return _anything(equation, sources, grid)
    longest = int(np.argmax(lengths))  # of an array that is rolled around, what is not wrapped
    before = np.zeros(3)
    before[dimension - 1] = sum(lengths[:longest])
    return sources[longest].moved(-before)._replace(grid=grid)


def _mirror(equation: JaxprEqn, sources: Sequence[_Cells], grid: np.ndarray) -> _Cells:
    along = [axis in equation.params["dimensions"] for axis in range(5)][_SPATIAL]
    return sources[0]._replace(mirrored=sources[0].mirrored | along)


_RULES: dict[str, Rule] = {
    "conv_general_dilated": _convolution,
    "slice": _slice,
    "pad": _pad,
    "concatenate": _concatenate,
    "rev": _mirror,
}


def _middle(sources: Sequence[_Cells]) -> _Cells:
    """Of cells of one grid; the receptive field is that of the largest."""
    return sources[0]._replace(
        step=np.mean([cells.step for cells in sources], axis=0),
        offset=np.mean([cells.offset for cells in sources], axis=0),
        extent=np.max([cells.extent for cells in sources], axis=0),
        coarsest=np.max([cells.coarsest for cells in sources], axis=0),
        mirrored=np.any([cells.mirrored for cells in sources], axis=0),
    )


def _shape(variable: Any) -> tuple[int, ...]:
    return tuple(variable.aval.shape)


def _grid(variable: Any) -> np.ndarray:
    return np.array(_shape(variable)[_SPATIAL])


def _rounded(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = values.round(9).tolist()
    return x, y, z
