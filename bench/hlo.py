"""What a compiled program costs, read off its optimised HLO text.

Of GPU programs the compiler tells neither operations nor bytes. Here they are counted:

- operations: of products and convolutions, also of those that a library computes. Zeros that a
  dilated input is filled up with are no operations; those at its edges are.
- bytes: what every instruction that is launched reads and writes. Of an operand that a fusion only
  slices or gathers from, the slices count.
- a loop's body counts as often as the compiler knows that it runs, else once.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

_BYTES = {
    **dict.fromkeys(("pred", "s8", "u8", "f8e4m3fn", "f8e5m2"), 1),
    **dict.fromkeys(("bf16", "f16", "s16", "u16"), 2),
    **dict.fromkeys(("f32", "s32", "u32"), 4),
    **dict.fromkeys(("f64", "s64", "u64", "c64"), 8),
}
_ARRAY = re.compile(rf"\b({'|'.join(_BYTES)})\[([0-9,]*)\]")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (.*?)\s([a-z][\w-]*)\((.*)$")
_CALLED = re.compile(r"\b(?:calls|body|to_apply|called_computations)=\{?%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([\w.-]+)")
_FREE = {"parameter", "constant", "bitcast", "tuple", "get-tuple-element", "after-all"}
_SLICING = {"slice", "dynamic-slice", "gather"}
_LOOKED_THROUGH = {"bitcast", "reshape", "convert", "copy", "transpose"}
_REGIONS = {"while", "call", "conditional"}  # launch others, and move nothing themselves

Shape = tuple[int, ...]


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

    @property
    def arrays(self) -> list[Shape]:
        """The shape of each array of the result."""
        return [_dimensions(text) for _, text in _ARRAY.findall(self.shape)]

    @property
    def bytes(self) -> int:
        """Of the result."""
        return sum(
            _BYTES[kind] * math.prod(_dimensions(text)) for kind, text in _ARRAY.findall(self.shape)
        )

    @property
    def is_convolution(self) -> bool:
        """Whether it is one, also one that a library computes."""
        return self.operation == "convolution" or "__cudnn$conv" in self.rest

    def numbers(self, name: str) -> Shape:
        """An attribute such as ``lhs_contracting_dims={1,2}``; empty if it lacks it."""
        found = re.search(rf"\b{name}=\{{([0-9,]*)\}}", self.rest)
        return _dimensions(found[1]) if found else ()

    def window(self, name: str) -> Shape:
        """A window's entry per axis, such as ``stride`` of ``window={size=3x3 stride=2x2}``."""
        found = re.search(rf"window=\{{[^}}]*\b{name}=([0-9x]+)", self.rest)
        return tuple(map(int, found[1].split("x"))) if found else ()


@dataclass(frozen=True)
class Cost:
    """What a program takes.

    Attributes:
        flop: operations of products and convolutions.
        moved: bytes read and written.
        cycles: as the compiler estimates them; 0 where it does not.
    """

    flop: float
    moved: float
    cycles: float


class Program:
    """A compiled program.

    Args:
        text: its optimised HLO.

    Raises:
        ValueError: the text has no entry.
    """

    def __init__(self, text: str) -> None:
        self._computations: dict[str, dict[str, Instruction]] = {}
        self._entry = ""
        current: dict[str, Instruction] = {}
        for line in text.splitlines():
            if head := _HEAD.match(line):
                current = self._computations.setdefault(head[2], {})
                self._entry = head[2] if head[1] else self._entry
            elif found := _instruction(line):
                current[found.name] = found
        if not self._entry:
            raise ValueError("the text of the program has no entry")

    @cached_property
    def cost(self) -> Cost:
        """Of one run."""
        return Cost(
            flop=self._total(self._entry, self._flop, into_fusions=True),
            moved=self._total(self._entry, self._moved, into_fusions=False),
            cycles=self._total(self._entry, _cycles, into_fusions=False),
        )

    @cached_property
    def counts(self) -> Counter[str]:
        """How often each operation stands in the program, within fusions too."""
        return Counter(instruction.operation for instruction in self._instructions())

    def escaped_convolutions(self) -> list[str]:
        """Names of the convolutions that cuDNN does not compute, or by a dilated kernel."""
        return [
            found.name
            for found in self._instructions()
            if found.is_convolution
            and (
                found.operation == "convolution"
                or math.prod(found.window("lhs_dilate") + found.window("rhs_dilate")) > 1
            )
        ]

    def _instructions(self) -> Iterator[Instruction]:
        for computation in self._computations.values():
            yield from computation.values()

    def _total(
        self, name: str, of: Callable[[str, Instruction], float], *, into_fusions: bool
    ) -> float:
        """The sum over all that a computation launches."""
        total = 0.0
        for instruction in self._computations.get(name, {}).values():
            total += of(name, instruction)
            if instruction.operation in _REGIONS or into_fusions:
                for called in _called(instruction):
                    total += _trips(instruction) * self._total(
                        called, of, into_fusions=into_fusions
                    )
        return total

    def _flop(self, name: str, instruction: Instruction) -> float:
        inputs = [self._shape(name, operand) for operand in instruction.operands[:2]]
        if len(inputs) < 2:
            return 0
        if instruction.is_convolution:
            return _convolution_flop(instruction, *inputs)
        if instruction.operation == "dot" or "$gemm" in instruction.rest:
            contracted = instruction.numbers("lhs_contracting_dims") or _gemm_axes(instruction)
            return (
                2 * math.prod(instruction.arrays[0]) * math.prod(inputs[0][i] for i in contracted)
            )
        return 0

    def _shape(self, computation: str, name: str) -> Shape:
        found = self._computations[computation].get(name)
        return found.arrays[0] if found and found.arrays else ()

    def _moved(self, name: str, instruction: Instruction) -> float:
        operation = instruction.operation
        if operation in _FREE | _REGIONS or operation.endswith("-done"):
            return 0
        if operation in _SLICING:
            return 2 * instruction.bytes
        inner = self._computations.get(next(_called(instruction), ""), {})
        is_fusion = operation == "fusion" and bool(inner)
        parameters = _parameters(inner) if is_fusion else {}
        given = [self._computations[name].get(operand) for operand in instruction.operands]
        updated = _updated(list(inner.values()) if is_fusion else [instruction])
        read = sum(
            _read(inner, parameters.get(index), operand.bytes)
            for index, operand in enumerate(given)
            if operand is not None
        )
        if updated is None:
            return read + instruction.bytes
        source = inner if is_fusion else self._computations[name]
        update = source.get(updated.operands[1])
        # In place: the array that is updated is neither read nor written as a whole.
        change = update.bytes if update else 0
        return max(read - instruction.bytes, 0) + 2 * change


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


def _dimensions(text: str) -> Shape:
    return tuple(int(number) for number in text.split(",") if number)


def _called(instruction: Instruction) -> Iterator[str]:
    """The computations that an instruction runs; conditions of loops cost nothing."""
    yield from _CALLED.findall(instruction.rest)
    for several, one in _BRANCHES.findall(instruction.rest):
        yield from re.findall(r"%?([\w.-]+)", several or one)


def _trips(instruction: Instruction) -> int:
    found = re.search(r'"known_trip_count":\{"n":"(\d+)"', instruction.rest)
    return int(found[1]) if found else 1


def _cycles(name: str, instruction: Instruction) -> float:
    found = re.search(r'"estimated_cycles":"(\d+)"', instruction.rest)
    return float(found[1]) if found else 0


def _convolution_flop(instruction: Instruction, source: Shape, kernel: Shape) -> float:
    labels = re.search(r"dim_labels=(\w+)_\w+->(\w+)", instruction.rest)
    if labels is None:
        return 0
    backward = "convBackwardInput" in instruction.rest  # there the source has the products' places
    shape, letters = (source, labels[1]) if backward else (instruction.arrays[0], labels[2])
    places = math.prod(n for n, letter in zip(shape, letters, strict=True) if letter != "f")
    return 2 * places * math.prod(kernel) / math.prod(instruction.window("lhs_dilate"))


def _gemm_axes(instruction: Instruction) -> Shape:
    found = re.search(r'"lhs_contracting_dimensions":\[([^\]]*)\]', instruction.rest)
    return _dimensions(found[1].replace('"', "")) if found else ()


def _parameters(computation: dict[str, Instruction]) -> dict[int, str]:
    return {
        int(found.arguments): found.name
        for found in computation.values()
        if found.operation == "parameter"
    }


def _read(computation: dict[str, Instruction], parameter: str | None, whole: int) -> int:
    """Bytes that a fusion reads of one of its inputs."""
    if parameter is None:
        return whole
    sliced = 0
    for user in (u for u in computation.values() if parameter in u.operands):
        if user.operation in _LOOKED_THROUGH:
            sliced += _read(computation, user.name, whole)
        elif user.operation in _SLICING and user.operands[0] == parameter:
            sliced += user.bytes
        else:
            return whole
    return min(sliced, whole)


def _updated(computation: list[Instruction]) -> Instruction | None:
    """The update in place that a computation ends with, if it does."""
    last = computation[-1]
    return last if last.operation == "dynamic-update-slice" else None
