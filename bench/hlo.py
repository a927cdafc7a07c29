"""What a compiled program costs, read off its optimised HLO text.

Of GPU programs the compiler states neither operations nor bytes, of TPU programs it counts a loop's
body once and the memory on the chip like any other. Here they are counted:

- operations: of products and convolutions, also of those that a library computes. Zeros that a
  dilated input is filled up with are no operations; those at its edges are.
- bytes: what every instruction that is launched reads and writes of the device's memory, in whole
  tiles on a TPU and without what lies on its chip. Of an operand that a fusion only slices or
  gathers from, the slices count.
- a loop's body counts as often as its condition or the compiler says that it runs, else once.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from bench.hlo_text import Computation, Instruction, Shape, computations_of, dimensions

_CALLED = re.compile(r"\b(?:calls|body|to_apply|called_computations)=\{?%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([\w.-]+)")
_FREE = {"parameter", "constant", "bitcast", "tuple", "get-tuple-element", "after-all"}
_SLICING = {"slice", "dynamic-slice", "gather"}
_LOOKED_THROUGH = {"bitcast", "reshape", "convert", "copy", "transpose"}
_NAMES_ONLY = ("AllocateBuffer", "ConcatBitcast", "AssumeGatherIndicesInBound")  # of a TPU
_PREFETCHES = {"copy-start", "slice-start"}
_REGIONS = {"while", "call", "conditional"}  # launch others, and move nothing themselves


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
        self._computations, self._entry = computations_of(text)

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
                    total += self._trips(name, instruction) * self._total(
                        called, of, into_fusions=into_fusions
                    )
        return total

    def _trips(self, name: str, instruction: Instruction) -> int:
        """How often a loop's body runs: while a number that it counts up is below a constant."""
        if instruction.operation != "while":
            return 1
        if found := re.search(r'"known_trip_count":\{"n":"(\d+)"', instruction.rest):
            return int(found[1])
        found = re.search(r"condition=%?([\w.-]+)", instruction.rest)
        condition = self._computations.get(found[1], {}) if found else {}
        for test in condition.values():
            if test.operation == "compare" and "direction=LT" in test.rest:
                limit = condition.get(test.operands[1])
                if limit and limit.operation == "constant" and limit.arguments.isdecimal():
                    return int(limit.arguments)
        return 1

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
        if operation in _FREE | _REGIONS or operation.endswith("-done") or _is_name(instruction):
            return 0
        if operation in _PREFETCHES:
            return _prefetched(instruction)
        given = [self._computations[name].get(operand) for operand in instruction.operands]
        if operation in _SLICING:
            far = given[0] is None or given[0].bytes > 0
            return instruction.bytes + far * instruction.taken
        inner = self._computations.get(next(_called(instruction), ""), {})
        is_fusion = operation == "fusion" and bool(inner)
        parameters = _parameters(inner) if is_fusion else {}
        updated = _updated(inner if is_fusion else {instruction.name: instruction})
        read = sum(
            self._read(inner, parameters.get(index), operand.bytes)
            for index, operand in enumerate(given)
            if operand is not None
        )
        if updated is None or not instruction.bytes:
            return read + instruction.bytes
        source = inner if is_fusion else self._computations[name]
        update = source.get(updated.operands[1])
        # In place: the array that is updated is neither read nor written as a whole.
        change = update.taken if update else 0
        return max(read - instruction.bytes, 0) + change

    def _read(self, computation: Computation, parameter: str | None, whole: int) -> int:
        """Bytes that a fusion reads of one of its inputs."""
        if parameter is None or not whole:
            return whole
        sliced = 0
        for user in (u for u in computation.values() if parameter in u.operands):
            if user.operation in _LOOKED_THROUGH:
                sliced += self._read(computation, user.name, whole)
            elif user.operation in _SLICING and user.operands[0] == parameter:
                sliced += user.taken
            elif user.operation == "fusion":
                inner = self._computations.get(next(_called(user), ""), {})
                place = user.operands.index(parameter)
                sliced += self._read(inner, _parameters(inner).get(place), whole)
            else:
                return whole
        return min(sliced, whole)


def _called(instruction: Instruction) -> Iterator[str]:
    """The computations that an instruction runs; conditions of loops cost nothing."""
    yield from _CALLED.findall(instruction.rest)
    for several, one in _BRANCHES.findall(instruction.rest):
        yield from re.findall(r"%?([\w.-]+)", several or one)


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
    found = re.search(r'"lhs_contractingdimensions":\[([^\]]*)\]', instruction.rest)
    return dimensions(found[1].replace('"', "")) if found else ()


def _parameters(computation: Computation) -> dict[int, str]:
    return {
        int(found.arguments): found.name
        for found in computation.values()
        if found.operation == "parameter"
    }


def _is_name(instruction: Instruction) -> bool:
    """Whether it only gives memory a name."""
    return any(f'custom_call_target="{target}"' in instruction.rest for target in _NAMES_ONLY)


def _prefetched(instruction: Instruction) -> int:
    """Bytes of a copy to the chip or from it, of which the result names both ends."""
    ends = sorted(instruction.stored, key=lambda array: array.bytes)[-2:]
    return ends[0].bytes * sum(not end.on_chip for end in ends)


def _updated(computation: Computation) -> Instruction | None:
    """The update in place that a computation ends with, if it does."""
    last = list(computation.values())[-1]
    while last.operation == "bitcast" and last.operands[0] in computation:
        last = computation[last.operands[0]]
    return last if last.operation == "dynamic-update-slice" else None
