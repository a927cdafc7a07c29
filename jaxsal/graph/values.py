"""Tensors of a PyTorch graph, held as arrays whose axes are in an order of their own.

PyTorch's images are (B, C, X, Y, Z), jaxsal's arrays (B, X, Y, Z, C). A `Value` is the first held
as the second: permuting it moves no number, and an elementwise operation, a norm or a convolution
leaves the order as it is. So an image goes through a whole network without one transposition,
unless a view merges axes that do not lie side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array | np.ndarray
Number = bool | int | float
Axes = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor.

    Attributes:
        array: its numbers.
        axes: axis i of the array is PyTorch's axis ``axes[i]``.
    """

    array: Array
    axes: Axes

    @classmethod
    def of(cls, array: Array) -> Value:
        """The value whose axes are those of the array."""
        return cls(array, tuple(range(np.ndim(array))))

    @property
    def shape(self) -> tuple[int, ...]:
        """PyTorch's."""
        return tuple(self.array.shape[self.held(axis)] for axis in range(self.rank))

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.axes)

    @property
    def dtype(self) -> Any:
        """Of its numbers."""
        return self.array.dtype

    @property
    def plain(self) -> jax.Array:
        """The array with its axes in PyTorch's order."""
        return self.as_held(tuple(range(self.rank)))

    def logical(self, axis: int) -> int:
        """PyTorch's axis, counted from 0."""
        return axis % max(self.rank, 1)

    def held(self, axis: int) -> int:
        """Which axis of the array PyTorch's axis is."""
        return self.axes.index(self.logical(axis))

    def all_held(self, axes: Sequence[int] | None) -> Axes:
        """Which axes of the array these are; None for all axes, as an empty list is."""
        return tuple(map(self.held, axes or range(self.rank)))

    def as_held(self, axes: Axes) -> jax.Array:
        """The array with its axes in this order of PyTorch's."""
        array = jnp.asarray(self.array)
        if self.axes == axes:
            return array
        return array.transpose([self.axes.index(axis) for axis in axes])

    def like(self, array: Array) -> Value:
        """Another array whose axes are in the same order."""
        return Value(array, self.axes)

    def permuted(self, axes: Sequence[int]) -> Value:
        """PyTorch's ``permute``: axis j of the result is this one's ``axes[j]``."""
        order = [self.logical(axis) for axis in axes]
        return Value(self.array, tuple(order.index(axis) for axis in self.axes))

    def dropped(self, array: Array, axes: Sequence[int]) -> Value:
        """An array that lacks these axes, the others in the order of this value."""
        gone = {self.logical(axis) for axis in axes}
        kept = [axis for axis in range(self.rank) if axis not in gone]
        return Value(array, tuple(kept.index(axis) for axis in self.axes if axis not in gone))

    def unsqueezed(self, axis: int) -> Value:
        """With a new axis of size one."""
        new = axis % (self.rank + 1)
        place = self.axes.index(new) if new < self.rank else self.rank
        shifted = [a + (a >= new) for a in self.axes]
        return Value(jnp.expand_dims(self.array, place), (*shifted[:place], new, *shifted[place:]))

    def viewed(self, shape: Sequence[int]) -> Value:
        """PyTorch's ``view`` and ``reshape``.

        Raises:
            ValueError: the shape is of another size.
        """
        new = view_of(self.shape, shape)
        if 0 in new:
            return Value.of(self.plain.reshape(new))
        groups = _groups(self.shape, new)
        order = self._order_of_groups(groups)
        if order is None:
            return Value.of(self.plain.reshape(new))
        axes = tuple(axis for group in order for axis in groups[group][1])
        return Value(jnp.reshape(self.array, [new[axis] for axis in axes]), axes)

    def _order_of_groups(self, groups: list[tuple[list[int], list[int]]]) -> list[int] | None:
        """In which order a view's groups are held; None if one is not held in one piece."""
        group_of = {axis: number for number, (old, _) in enumerate(groups) for axis in old}
        if len(group_of) < self.rank:
            return None
        wide = {
            number: [a for a in old if self.shape[a] > 1] for number, (old, _) in enumerate(groups)
        }
        order: list[int] = []
        held: list[int] = []
        for axis in self.axes:
            number = group_of[axis]
            if self.shape[axis] > 1:
                held.append(axis)
            if number not in order and (self.shape[axis] > 1 or not wide[number]):
                order.append(number)
        expected = [axis for number in order for axis in wide[number]]
        return order if held == expected else None


def view_of(old: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    """The shape with the entry -1 worked out.

    Raises:
        ValueError: it is of another size than the old one.
    """
    size, known = math.prod(old), math.prod(n for n in shape if n != -1)
    new = tuple(size // max(known, 1) if n == -1 else n for n in shape)
    if math.prod(new) != size:
        raise ValueError(f"{list(old)} cannot be seen as {list(shape)}")
    return new


def _groups(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """The axes of two shapes of equal size, in the smallest groups of equal size."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) and j < len(new):
        sizes, group = [old[i], new[j]], ([i], [j])
        i, j = i + 1, j + 1
        while sizes[0] != sizes[1]:
            if sizes[0] < sizes[1]:
                sizes[0] *= old[i]
                group[0].append(i)
                i += 1
            else:
                sizes[1] *= new[j]
                group[1].append(j)
                j += 1
        groups.append(group)
    if groups:  # what is left has size one
        groups[-1][0].extend(range(i, len(old)))
        groups[-1][1].extend(range(j, len(new)))
    return groups


def is_floating(value: Any) -> bool:
    """Whether it is a tensor of floating-point numbers."""
    return isinstance(value, Value) and jnp.issubdtype(value.dtype, jnp.floating)


def elementwise(function: Callable[..., Any], *operands: Any) -> Value:
    """A function of numbers, applied to tensors and numbers that broadcast."""
    arrays, axes = aligned(*operands)
    return Value(function(*arrays), axes)


def aligned(*operands: Any) -> tuple[list[Any], Axes]:
    """The operands as arrays that broadcast as PyTorch's do, of one order of axes and one kind.

    Returns:
        The arrays, numbers as they are, and the axes of what results.
    """
    values = [operand for operand in operands if isinstance(operand, Value)]
    rank = max((value.rank for value in values), default=0)
    leader = max(
        (value for value in values if value.rank == rank), key=lambda value: value.array.size
    )
    target = _dtype_of_dimensioned(values)
    arrays = [
        _cast_if_scalar(_spread(operand, leader.axes), target)
        if isinstance(operand, Value)
        else operand
        for operand in operands
    ]
    return arrays, leader.axes


def _spread(value: Value, axes: Axes) -> jax.Array:
    """The array in the order of axes of a value of higher rank, to broadcast against it."""
    missing = len(axes) - value.rank
    if value.rank == 0:
        return jnp.asarray(value.array)
    order = tuple(axis - missing for axis in axes if axis >= missing)
    array = value.as_held(order)
    return jnp.expand_dims(array, [i for i, axis in enumerate(axes) if axis < missing])


def _dtype_of_dimensioned(values: Sequence[Value]) -> Any:
    """What the types of tensors with axes promote to; None without any."""
    types = [value.dtype for value in values if value.rank > 0]
    return jnp.result_type(*types) if types else None


def _cast_if_scalar(array: jax.Array, target: Any) -> jax.Array:
    """In PyTorch tensors without axes count as numbers: they do not widen a type of their kind."""
    if target is None or array.ndim > 0 or _kind(array.dtype) > _kind(target):
        return array
    return array.astype(target)


def _kind(dtype: Any) -> int:
    """Truth values, whole numbers, floating-point numbers: 0, 1, 2."""
    if jnp.issubdtype(dtype, jnp.floating):
        return 2
    return int(jnp.issubdtype(dtype, jnp.integer))
