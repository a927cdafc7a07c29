"""How many lesions the scans of a cohort have: counted in masks, or estimated from a sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypeVar

import numpy as np

from jaxsal.errors import InputError
from jaxsal.inputs.entries import Entry
from jaxsal.lesions import components, instances_of
from jaxsal.scan.methods import cost_of
from jaxsal.settings import ExplainSettings
from jaxsal.volumes import read_grid, read_labels, read_mask
from jaxsal.wording import counted

T = TypeVar("T")
_MOST_BAD = 3  # scans, in place of which others are looked at
Sizes = tuple[int, ...]  # voxels of each lesion of a scan
PerScan = Callable[[Sizes], float]  # what is summed over scans, such as the number of lesions
Source = Literal["instances", "reference", "prediction"]
_MASKS: tuple[Source, ...] = ("instances", "reference")


@dataclass(frozen=True)
class Uncertain:
    """A number and its standard error, by how much scans differ; 0 where it is exact."""

    value: float
    error: float = 0.0

    def __add__(self, other: Uncertain) -> Uncertain:
        return Uncertain(self.value + other.value, math.hypot(self.error, other.error))

    @classmethod
    def sum(cls, numbers: Iterable[Uncertain]) -> Uncertain:
        """The sum of some numbers; 0 without any."""
        return sum(numbers, cls(0.0))

    def times(self, factor: float, spread: float = 0.0) -> Uncertain:
        """Its multiple by a factor of this relative standard error."""
        error = math.hypot(factor * self.error, factor * self.value * spread)
        return Uncertain(factor * self.value, error)


@dataclass
class Group:
    """The scans whose lesions are known from the same source.

    Attributes:
        source: "instances": the label maps that come with them; "reference": masks of the true
            lesions, to which those found and those missed are in a ratio; "prediction": nothing.
        entries: the scans.
        masks: lesions of the scans whose masks were read.
        found: lesions to explain of the scans that were predicted.
        beside: lesions of these scans' masks.
    """

    source: Source
    entries: list[Entry]
    masks: list[Sizes] = field(default_factory=list)
    found: list[Sizes] = field(default_factory=list)
    beside: list[Sizes] = field(default_factory=list)

    def read_masks(self, most: int, minimum_volume: float, notes: list[str]) -> None:
        """Counts the lesions of so many masks, spread over the scans; see `done_with_some`."""
        if self.source != "prediction":
            count = partial(mask_sizes, minimum_volume=minimum_volume)
            self.masks = list(done_with_some(self.entries, most, count, notes))

    def total(self, of: PerScan) -> Uncertain:
        """The sum of an amount over all scans."""
        scans = len(self.entries)
        if self.source == "instances":
            return _extrapolated([of(sizes) for sizes in self.masks], scans)
        found = [of(sizes) for sizes in self.found]
        beside = sum(of(sizes) for sizes in self.beside)
        if self.source == "prediction" or not beside:
            return _extrapolated(found, scans)
        ratio = sum(found) / beside
        total = _extrapolated([of(sizes) for sizes in self.masks], scans)
        return total.times(ratio, self._spread_of_ratio(of, ratio))

    def _spread_of_ratio(self, of: PerScan, ratio: float) -> float:
        """Relative standard error of the ratio of what is found to what masks hold."""
        if ratio == 0:
            return 0.0
        pairs = zip(self.found, self.beside, strict=True)
        rest = [of(found) - ratio * of(beside) for found, beside in pairs]
        mean = sum(of(sizes) for sizes in self.found) / len(self.found)
        return _standard_error(rest, len(self.entries), alone=mean) / mean

    def counted(self) -> str:
        """How its lesions were counted, in words."""
        scans, read, tried = len(self.entries), len(self.masks), len(self.found)
        many = counted(scans, "scan")
        if self.source == "instances":
            part = "all of them" if read == scans else f"{read} of them"
            return f"{many} with label maps: counted in {part}"
        if self.source == "reference":
            return (
                f"{many} with reference masks: estimated from {read} of the masks, and from what "
                f"the network finds and misses in {tried}"
            )
        return f"{many} without masks: estimated from what the network finds in {tried}"


def units_of(method: ExplainSettings, voxels: int) -> int:
    """What the time of a lesion's maps goes by: gradients; 1 where their number is unknown."""
    cost = cost_of(method)
    return 1 if cost is None else cost.images * cost.gradients(voxels)


def groups_of(entries: Sequence[Entry]) -> list[Group]:
    """The scans by the source that their lesions are known from."""
    groups: dict[Source, Group] = {}
    for entry in entries:
        known: list[Source] = [role for role in _MASKS if getattr(entry.scan, role)]
        source = known[0] if known else "prediction"
        groups.setdefault(source, Group(source, [])).entries.append(entry)
    return list(groups.values())


def spread_over(items: Sequence[T], count: int) -> list[T]:
    """So many of these, or all, at even distances."""
    count = min(count, len(items))
    return [items[(2 * i + 1) * len(items) // (2 * count)] for i in range(count)]


def done_with_some(
    entries: Sequence[Entry], count: int, work: Callable[[Entry], T], notes: list[str]
) -> Iterator[T]:
    """Yields the results of work on so many scans, spread over all.

    In place of a bad scan the next one is taken.

    Args:
        entries: the scans.
        count: how many to take.
        work: called with each.
        notes: gets a sentence for each bad scan.

    Raises:
        InputError: too many scans are bad, or all.
    """
    tried: set[int] = set()
    bad = 0
    for first in spread_over(range(len(entries)), count):
        for position in (*range(first, len(entries)), *range(first)):
            if position in tried:
                continue
            tried.add(position)
            try:
                result = work(entries[position])
            except InputError as error:
                bad += 1
                notes.append(f"{entries[position].id} cannot be worked with: {error}")
                if bad > _MOST_BAD or bad == len(entries):
                    raise InputError(notes[-1]) from error
                continue
            yield result
            break


def mask_sizes(entry: Entry, minimum_volume: float) -> Sizes:
    """The lesions of a scan's label map, or of its reference mask as they are counted.

    Raises:
        InputError: it cannot be used.
    """
    if entry.scan.instances is not None:
        grid = read_grid(entry.scan.instances)
        instances = instances_of(read_labels(entry.scan.instances, grid), grid)
        return tuple(instance.voxels for instance in instances)
    assert entry.scan.reference is not None  # only scans with a mask are asked for
    grid = read_grid(entry.scan.reference)
    mask = read_mask(entry.scan.reference, grid)
    return component_sizes(mask, grid.voxel_volume, minimum_volume)


def component_sizes(mask: np.ndarray, voxel_volume: float, minimum_volume: float) -> Sizes:
    """Voxels of each component of a mask (X, Y, Z) bool that counts as a lesion."""
    labels = components(mask, voxel_volume, minimum_volume)
    return tuple(np.bincount(labels[labels > 0])[1:].tolist())


def _extrapolated(values: Sequence[float], scans: int) -> Uncertain:
    """The sum over so many scans, from the values of some or all of them."""
    mean = sum(values) / len(values)
    return Uncertain(scans * mean, scans * _standard_error(values, scans, alone=mean))


def _standard_error(values: Sequence[float], scans: int, alone: float) -> float:
    """Of the mean, of so many drawn without replacement; of a single one, as if this large."""
    count = len(values)
    deviation = float(np.std(values, ddof=1)) if count > 1 else alone
    return deviation / math.sqrt(count) * math.sqrt(1 - count / scans)
