"""How much memory an array takes, as platforms lay it out."""

from __future__ import annotations

import math

_LANES, _ROWS = 128, 8
_SPLIT_BYTES = 2**26  # between those of images that were compiled in parts and as they are


def plain_size(shape: tuple[int, ...], width: int) -> int:
    """Bytes of an array of numbers of so many bytes, on a CPU or GPU."""
    return math.prod(shape) * width


def tiled_size(shape: tuple[int, ...], width: int) -> int:
    """As plain_size on a TPU, which holds arrays in tiles of 128 lanes and 8 rows, or fewer rows.

    Lanes and rows are the two axes that waste least: a TPU's compiler takes them so for what a
    program is given and returns, and mostly in between.
    """
    if len(shape) < 2:
        return _multiple(math.prod(shape), _LANES * _ROWS) * width
    axes = range(len(shape))
    return width * min(
        _multiple(shape[lane], _LANES)
        * _rows(shape[row], width)
        * math.prod(n for axis, n in enumerate(shape) if axis not in (lane, row))
        for lane in axes
        for row in axes
        if row != lane
    )


def convolved_size(shape: tuple[int, ...], width: int, batch: int, channels: int) -> int:
    """As tiled_size, of the images that a convolution reads or returns.

    Lanes are channels and rows examples, or the other way round, whichever takes less. Fewer than
    eight examples leave rows empty; of a large image with eight channels or more, parts are made
    examples instead.

    Args:
        shape: of the images.
        width: bytes of a number.
        batch: axis of the examples.
        channels: axis of the channels.

    Returns:
        Bytes.
    """
    examples, features = shape[batch], shape[channels]
    positions = math.prod(n for axis, n in enumerate(shape) if axis not in (batch, channels))
    if examples >= _ROWS:
        layouts = (examples, features), (features, examples)
        tiles = min(_multiple(lanes, _LANES) * _rows(rows, width) for lanes, rows in layouts)
        return positions * tiles * width
    in_parts = positions * examples * _multiple(features, _LANES) * width
    is_split = features >= _ROWS and in_parts > _SPLIT_BYTES
    return in_parts if is_split else tiled_size(shape, width)


def _rows(number: int, width: int) -> int:
    """Few rows fill a power of two; narrow numbers of neighbouring rows share four bytes."""
    if number > _ROWS // 2:
        return _multiple(number, _ROWS)
    return max(1 << max(number - 1, 0).bit_length(), 4 // width)


def _multiple(number: int, of: int) -> int:
    return -(-number // of) * of
