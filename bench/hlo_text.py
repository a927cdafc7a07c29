"""An HLO text, read: computations, their instructions, and the arrays that these return."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property

_BYTES = {
    **dict.fromkeys(("pred", "s8", "u8", "f8e4m3fn", "f8e5m2"), 1),
    **dict.fromkeys(("bf16", "f16", "s16", "u16"), 2),
    **dict.fromkeys(("f32", "s32", "u32"), 4),
    **dict.fromkeys(("f64", "s64", "u64", "c64"), 8),
}
_ARRAY = re.compile(rf"\b({'|'.join(_BYTES)})\[([0-9,]*)\](?:\{{([^}}]*)\}})?")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (.*?)\s([a-z][\w-]*)\((.*)$")

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Array:
    """An array such as ``bf16[32,79,2]{1,2,0:T(2,128)(2,1)S(1)}``.

    Attributes:
        shape: without what fills up tiles.
        bytes: that it takes in memory, in whole tiles on a TPU.
        on_chip: whether it lies in a TPU's memory on the chip (``S(1)`` and others).
    """

    shape: Shape
    bytes: int
    on_chip: bool

    @property
    def far_bytes(self) -> int:
        """Of the device's large memory."""
        return 0 if self.on_chip else self.bytes


@dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
        name: without the percent sign.
        shape: its result's, as text.
        operation: such as "fusion".
        operands: names of its inputs.
        rest: all that follows the operands.
        arguments: the operands as text.
    """

    name: str
    shape: str
    operation: str
    operands: tuple[str, ...]
    rest: str
    arguments: str = ""

    @cached_property
    def stored(self) -> list[Array]:
        """The arrays of the result."""
        return arrays_in(self.shape)

    @property
    def arrays(self) -> list[Shape]:
        """The shape of each array of the result."""
        return [array.shape for array in self.stored]

    @property
    def bytes(self) -> int:
        """Of the result, where it does not lie on the chip."""
        return sum(array.far_bytes for array in self.stored)

    @property
    def taken(self) -> int:
        """Bytes of the result, wherever it lies."""
        return sum(array.bytes for array in self.stored)

    @property
    def is_convolution(self) -> bool:
        """Whether it is one, also one that a library computes."""
        return self.operation == "convolution" or "__cudnn$conv" in self.rest

    def numbers(self, name: str) -> Shape:
        """An attribute such as ``lhs_contracting_dims={1,2}``; empty if it lacks it."""
        found = re.search(rf"\b{name}=\{{([0-9,]*)\}}", self.rest)
        return dimensions(found[1]) if found else ()

    def window(self, name: str) -> Shape:
        """A window's entry per axis, such as ``stride`` of ``window={size=3x3 stride=2x2}``."""
        found = re.search(rf"window=\{{[^}}]*\b{name}=([0-9x]+)", self.rest)
        return tuple(map(int, found[1].split("x"))) if found else ()


Computation = dict[str, Instruction]  # by name, in the order in which they run


def computations_of(text: str) -> tuple[dict[str, Computation], str]:
    """The computations of a program by name, and the name of the one that it starts with.

    Raises:
        ValueError: the text has no entry.
    """
    computations: dict[str, Computation] = {}
    entry = ""
    current: Computation = {}
    for line in text.splitlines():
        if head := _HEAD.match(line):
            current = computations.setdefault(head[2], {})
            entry = head[2] if head[1] else entry
        elif found := _instruction(line):
            current[found.name] = found
    if not entry:
        raise ValueError("the text of the program has no entry")
    return computations, entry


def arrays_in(text: str) -> list[Array]:
    """All arrays of a shape, which may be a tuple's."""
    return [_array(*found) for found in _ARRAY.findall(text)]


def dimensions(text: str) -> Shape:
    """The numbers of a text such as ``2,3``."""
    return tuple(int(number) for number in text.split(",") if number)


def _array(kind: str, sizes: str, layout: str) -> Array:
    shape = dimensions(sizes)
    order, _, placing = layout.partition(":")
    tile = re.search(r"T\(([0-9,]+)\)", placing)
    taken = _tiled(shape, dimensions(order), dimensions(tile[1])) if tile else math.prod(shape)
    return Array(shape, _BYTES[kind] * taken, "S(" in placing)


def _tiled(shape: Shape, minor_to_major: Shape, tile: Shape) -> int:
    """Numbers that whole tiles hold; a tile's last side lies along the minor axis."""
    sizes = [shape[axis] for axis in minor_to_major]
    sizes += [1] * (len(tile) - len(sizes))
    sides = tile[::-1] + (1,) * (len(sizes) - len(tile))
    return math.prod(-(-size // side) * side for size, side in zip(sizes, sides, strict=True))


def _instruction(line: str) -> Instruction | None:
    found = _INSTRUCTION.match(line)
    if found is None:
        return None
    name, shape, operation, rest = found.groups()
    end = _closing(rest)
    arguments = rest[:end]
    operands = tuple(re.findall(r"%([\w.-]+)", arguments))
    return Instruction(name, shape, operation, operands, rest[end:], arguments)


def _closing(text: str) -> int:
    """Where the bracket closes that was opened before the text."""
    depth = 1
    for index, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return index
    return len(text)
