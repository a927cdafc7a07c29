"""Views of tensors: other shapes, other orders of axes, parts, and tensors side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax

from jaxsal.graph.operations.table import operation
from jaxsal.graph.values import Value, aligned


@operation("view", "_unsafe_view", "view_copy")
def view(self: Value, size: Sequence[int]) -> Value:
    """In another shape."""
    return self.viewed(size)


@operation("reshape")
def reshape(self: Value, shape: Sequence[int]) -> Value:
    """In another shape."""
    return self.viewed(shape)


@operation("view_as", "reshape_as")
def view_as(self: Value, other: Value) -> Value:
    """In the shape of another tensor."""
    return self.viewed(other.shape)


@operation("flatten.using_ints")
def flatten(self: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
    """The axes from one to another as one."""
    if self.rank == 0:
        return self.viewed([1])
    first, last = self.logical(start_dim), self.logical(end_dim)
    middle = math.prod(self.shape[first : last + 1])
    return self.viewed([*self.shape[:first], middle, *self.shape[last + 1 :]])


@operation("unflatten.int")
def unflatten(self: Value, dim: int, sizes: Sequence[int]) -> Value:
    """One axis as several."""
    axis = self.logical(dim)
    known = math.prod(n for n in sizes if n != -1)
    full = [self.shape[axis] // known if n == -1 else n for n in sizes]
    return self.viewed([*self.shape[:axis], *full, *self.shape[axis + 1 :]])


@operation("permute", "permute_copy")
def permute(self: Value, dims: Sequence[int]) -> Value:
    """The axes in another order."""
    return self.permuted(dims)


@operation("transpose.int")
def transpose(self: Value, dim0: int, dim1: int) -> Value:
    """Two axes exchanged."""
    if self.rank == 0:
        return self
    order = list(range(self.rank))
    first, second = self.logical(dim0), self.logical(dim1)
    order[first], order[second] = second, first
    return self.permuted(order)


@operation("swapaxes")
def swapaxes(self: Value, axis0: int, axis1: int) -> Value:
    """Two axes exchanged."""
    return transpose(self, axis0, axis1)


@operation("t", "numpy_T")
def t(self: Value) -> Value:
    """The axes in reverse."""
    return self.permuted(range(self.rank)[::-1])


@operation("movedim.int", "moveaxis.int", "movedim.intlist", "moveaxis.intlist")
def movedim(self: Value, source: int | Sequence[int], destination: int | Sequence[int]) -> Value:
    """Axes at other places, the others in their order."""
    sources, places = (
        [self.logical(a) for a in ([each] if isinstance(each, int) else each)]
        for each in (source, destination)
    )
    order = [axis for axis in range(self.rank) if axis not in sources]
    for place, axis in sorted(zip(places, sources, strict=True)):
        order.insert(place, axis)
    return self.permuted(order)


@operation("unsqueeze", "unsqueeze_copy")
def unsqueeze(self: Value, dim: int) -> Value:
    """With a new axis of size one."""
    return self.unsqueezed(dim)


@operation("squeeze", "squeeze.dim", "squeeze.dims", "squeeze_copy.dim", "squeeze_copy.dims")
def squeeze(self: Value, dim: int | Sequence[int] | None = None) -> Value:
    """Without the axes of size one, or those of these."""
    asked = range(self.rank) if dim is None else [dim] if isinstance(dim, int) else dim
    gone = [self.logical(a) for a in asked if self.rank and self.shape[a] == 1]
    return self.dropped(jnp.squeeze(self.array, [self.held(axis) for axis in gone]), gone)


@operation("expand", "expand_copy")
def expand(self: Value, size: Sequence[int]) -> Value:
    """Repeated along axes of size one, and along new ones at the front."""
    value, new = self, len(size) - self.rank
    for _ in range(new):
        value = value.unsqueezed(0)
    full = [value.shape[a] if n == -1 else n for a, n in enumerate(size)]
    return value.like(jnp.broadcast_to(value.array, [full[axis] for axis in value.axes]))


@operation("broadcast_to")
def broadcast_to(self: Value, size: Sequence[int]) -> Value:
    """As `expand`."""
    return expand(self, size)


@operation("expand_as")
def expand_as(self: Value, other: Value) -> Value:
    """As `expand`, to the shape of another tensor."""
    return expand(self, other.shape)


@operation("repeat")
def repeat(self: Value, repeats: Sequence[int]) -> Value:
    """Side by side with itself along each axis, and along new ones at the front."""
    value = self
    for _ in range(len(repeats) - self.rank):
        value = value.unsqueezed(0)
    return value.like(jnp.tile(value.array, [repeats[axis] for axis in value.axes]))


@operation("tile")
def tile(self: Value, dims: Sequence[int]) -> Value:
    """As `repeat`, once along axes at the front that are not named."""
    return repeat(self, [*[1] * (self.rank - len(dims)), *dims])


@operation("repeat_interleave.self_int")
def repeat_interleave(
    self: Value, repeats: int, dim: int | None = None, output_size: int | None = None
) -> Value:
    """Each entry along an axis repeated."""
    value = self.viewed([-1]) if dim is None else self
    return value.like(jnp.repeat(jnp.asarray(value.array), repeats, value.held(dim or 0)))


@operation("cat", "concat", "concatenate")
def cat(tensors: Sequence[Value], dim: int = 0) -> Value:
    """Side by side along an axis. Empty tensors of one axis do not count, as in PyTorch."""
    values = [v for v in tensors if v.shape != (0,)] or list(tensors)[:1]
    leader = max(values, key=lambda value: value.array.size)
    dtype = jnp.result_type(*(value.dtype for value in values))
    arrays = [value.as_held(leader.axes).astype(dtype) for value in values]
    return leader.like(jnp.concatenate(arrays, leader.held(dim)))


@operation("stack")
def stack(tensors: Sequence[Value], dim: int = 0) -> Value:
    """Side by side along a new axis."""
    return cat([value.unsqueezed(dim) for value in tensors], dim)


@operation("select.int", "select_copy.int")
def select(self: Value, dim: int, index: int) -> Value:
    """What is at one position along an axis, without that axis."""
    array = lax.index_in_dim(jnp.asarray(self.array), index, self.held(dim), keepdims=False)
    return self.dropped(array, [dim])


@operation("slice.Tensor", "slice_copy.Tensor")
def slice_along(
    self: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Value:
    """What is at every so manieth position along an axis, from one position to another."""
    axis = self.held(dim)
    first, last, _ = slice(start, end, step).indices(self.array.shape[axis])
    if (first, last, step) == (0, self.array.shape[axis], 1):
        return self
    array = jnp.asarray(self.array)
    return self.like(lax.slice_in_dim(array, first, max(first, last), step, axis))


@operation("narrow", "narrow_copy")
def narrow(self: Value, dim: int, start: int, length: int) -> Value:
    """So many positions along an axis from one on."""
    first = start % (self.shape[dim] + 1) if start >= 0 else start + self.shape[dim]
    return slice_along(self, dim, first, first + length)


@operation("split.Tensor", "unsafe_split.Tensor", "split_copy.Tensor")
def split(self: Value, split_size: int, dim: int = 0) -> list[Value]:
    """Parts of so many positions along an axis; the last may have fewer."""
    return [
        slice_along(self, dim, first, first + split_size)
        for first in range(0, self.shape[dim], split_size)
    ]


@operation("split_with_sizes", "split_with_sizes_copy", "split")
def split_with_sizes(self: Value, split_sizes: Sequence[int], dim: int = 0) -> list[Value]:
    """Parts of these sizes along an axis."""
    ends = [sum(split_sizes[: i + 1]) for i in range(len(split_sizes))]
    return [
        slice_along(self, dim, end - size, end) for end, size in zip(ends, split_sizes, strict=True)
    ]


@operation("split.sizes")
def split_sizes(self: Value, split_size: Sequence[int], dim: int = 0) -> list[Value]:
    """As `split_with_sizes`."""
    return split_with_sizes(self, split_size, dim)


@operation("chunk")
def chunk(self: Value, chunks: int, dim: int = 0) -> list[Value]:
    """At most so many parts along an axis, all of one size but the last."""
    return split(self, -(-self.shape[dim] // chunks), dim)


@operation("tensor_split.sections")
def tensor_split(self: Value, sections: int, dim: int = 0) -> list[Value]:
    """So many parts along an axis, the first of which have one more position where needed."""
    least, more = divmod(self.shape[dim], sections)
    return split_with_sizes(self, [least + (i < more) for i in range(sections)], dim)


@operation("unbind.int", "unbind_copy.int")
def unbind(self: Value, dim: int = 0) -> list[Value]:
    """What is at each position along an axis."""
    return [select(self, dim, index) for index in range(self.shape[dim])]


@operation("flip")
def flip(self: Value, dims: Sequence[int]) -> Value:
    """In reverse along axes."""
    return self.like(jnp.flip(self.array, [self.held(axis) for axis in dims]))


@operation("roll")
def roll(self: Value, shifts: Sequence[int], dims: Sequence[int] = ()) -> Value:
    """Moved along axes; what leaves at one end enters at the other."""
    if not dims:
        return roll(self.viewed([-1]), shifts, [0]).viewed(self.shape)
    return self.like(jnp.roll(self.array, tuple(shifts), [self.held(axis) for axis in dims]))


@operation("rot90")
def rot90(self: Value, k: int = 1, dims: Sequence[int] = (0, 1)) -> Value:
    """Turned by quarters within the plane of two axes."""
    first, second = (self.logical(axis) for axis in dims)
    order = list(range(self.rank))
    order[first], order[second] = second, first
    match k % 4:
        case 1:
            return flip(self, [second]).permuted(order)
        case 2:
            return flip(self, [first, second])
        case 3:
            return flip(self, [first]).permuted(order)
    return self


@operation("unfold")
def unfold(self: Value, dimension: int, size: int, step: int) -> Value:
    """Windows along an axis, whose positions become a new last axis."""
    count = (self.shape[dimension] - size) // step + 1
    taps = [slice_along(self, dimension, t, t + (count - 1) * step + 1, step) for t in range(size)]
    return stack(taps, self.rank)


@operation("meshgrid", "meshgrid.indexing")
def meshgrid(tensors: Sequence[Value], indexing: str = "ij") -> list[Value]:
    """Vectors, each repeated along the axes of the others."""
    arrays = jnp.meshgrid(*(v.plain.reshape(-1) for v in tensors), indexing=indexing)
    return [Value.of(array) for array in arrays]


@operation("pixel_shuffle")
def pixel_shuffle(self: Value, upscale_factor: int) -> Value:
    """Channels (C r²) as r² pixels of C channels."""
    *outer, channels, height, width = self.shape
    r, lead = upscale_factor, len(outer)
    parts = self.viewed([*outer, channels // r**2, r, r, height, width])
    order = [*range(lead), *(lead + i for i in (0, 3, 1, 4, 2))]
    return parts.permuted(order).viewed([*outer, channels // r**2, height * r, width * r])


@operation("pixel_unshuffle")
def pixel_unshuffle(self: Value, downscale_factor: int) -> Value:
    """The inverse of `pixel_shuffle`."""
    *outer, channels, height, width = self.shape
    r, lead = downscale_factor, len(outer)
    parts = self.viewed([*outer, channels, height // r, r, width // r, r])
    order = [*range(lead), *(lead + i for i in (0, 2, 4, 1, 3))]
    return parts.permuted(order).viewed([*outer, channels * r**2, height // r, width // r])


@operation("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(self: Value, groups: int) -> Value:
    """The channels of all groups in turn."""
    examples, channels, *spatial = self.shape
    parts = self.viewed([examples, groups, channels // groups, *spatial])
    return transpose(parts, 1, 2).viewed(self.shape)


@operation("slice_scatter")
def slice_scatter(
    self: Value,
    src: Value,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Value:
    """With other numbers at the positions that `slice_along` takes."""
    axis = self.held(dim)
    part = [slice(None)] * self.rank
    part[axis] = slice(*slice(start, end, step).indices(self.array.shape[axis]))
    array = jnp.asarray(self.array)
    return self.like(array.at[tuple(part)].set(src.as_held(self.axes).astype(array.dtype)))


@operation("select_scatter")
def select_scatter(self: Value, src: Value, dim: int, index: int) -> Value:
    """With other numbers at the position that `select` takes."""
    at = index % self.shape[dim]
    return slice_scatter(self, src.unsqueezed(self.logical(dim)), dim, at, at + 1)


@operation("copy")
def copy(self: Value, src: Value) -> Value:
    """The numbers of another tensor, in this one's shape and type."""
    (_, array), axes = aligned(self, src)
    shape = [self.shape[axis] for axis in axes]
    return Value(jnp.broadcast_to(array, shape).astype(self.dtype), axes)
