"""How the memory is shared out: what is computed at once, and what is kept; nothing is compiled.

All of it follows from a budget and from the bytes that each step takes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import jax

T = TypeVar("T")
MAPS_SHARE = 0.3  # of the budget, at most, for the maps of lesions computed together
_SLOTS_SHARE = 0.4  # of the rest, for the windows kept linearised
_FRAMES_SHARE = 0.25  # likewise, for the frames of a chunk's items
_MOST_FRAMES, _MOST_SLOTS, _MOST_WINDOWS = 2**12, 2**7, 2**7  # more of them gain nothing
_FEWEST = 16  # frames and slots, where memory suffices
_NEGLIGIBLE = 1.1  # as many gradients as necessary: not worth larger batches


@dataclass(frozen=True)
class Enough:
    """Bytes above which more of something gains nothing, but takes time to be filled with zeros.

    Attributes:
        frames: of items.
        slots: for windows that are kept linearised.
        windows: that are cut at once.
    """

    frames: int
    slots: int
    windows: int


ON_CPU, ON_ACCELERATOR = Enough(2**27, 2**28, 2**25), Enough(2**33, 2**32, 2**28)


@dataclass(frozen=True)
class Demand:
    """Bytes that the steps of a computation take on one device.

    Attributes:
        fixed: throughout: noisy images, and the network's parameters.
        linearise: while a window is linearised, besides what is kept of it; or while maxima are
            added up, if that takes more.
        linearised: what is kept of a linearised window.
        window: one that is cut from the images.
        item: while one item is pulled back.
        frame: of an item.
        maps: the map of each lesion, while it is computed.
        windows: largest number of windows that reach an item.
        mixes: whether several windows can be kept.
        distinct: number of windows in all, at most; None if it is not known.
    """

    fixed: int
    linearise: int
    linearised: int
    window: int
    item: int
    frame: int
    maps: Sequence[int]
    windows: int
    mixes: bool
    distinct: int | None = None

    @property
    def least(self) -> int:
        """With a single lesion, window and item at a time."""
        return self.steps + max(self.maps)

    @property
    def steps(self) -> int:
        """The same without the lesion's map."""
        working = max(self.linearise + self.window, self.item)
        return self.fixed + self.linearised + 2 * self.frame + working


@dataclass(frozen=True)
class MemoryPlan:
    """What is computed at once on each device, and what is kept.

    Attributes:
        items: items per pull-back.
        frames: items whose gradients are kept before they enter the maxima.
        slots: windows that are kept linearised.
        windows: windows that are cut at once.
        waves: the lesions, by number, whose maps are computed together.
        keeps_enough: whether all windows that reach an item are kept at once, if they can be.
    """

    items: int
    frames: int
    slots: int
    windows: int
    waves: tuple[tuple[int, ...], ...]
    keeps_enough: bool

    def halved(self) -> MemoryPlan | None:
        """A smaller one that does the same, for when memory ran out; None: there is none."""
        for name in ("items", "slots", "frames"):
            number = getattr(self, name)
            if number > 1:
                smaller = replace(self, **{name: number // 2})
                return replace(smaller, windows=min(self.windows, smaller.slots))
        return None

    def within(self, other: MemoryPlan) -> MemoryPlan:
        """The same with no more at once than another."""
        names = ("items", "frames", "slots", "windows")
        return replace(self, **{n: min(getattr(self, n), getattr(other, n)) for n in names})


def fit(
    demand: Demand, budget: int, width: int, items: int | None = None, enough: Enough = ON_CPU
) -> MemoryPlan | None:
    """Shares out a budget; None if it does not suffice for a single item.

    Numbers are powers of two and bounded by what gains anything, so that they hardly depend on the
    work, and programs are found compiled.

    Args:
        demand: bytes of each step.
        budget: bytes.
        width: items at once above which more gain nothing.
        items: items at once, if that is given; fewer are taken where what a chunk and the kept
            windows allow to be pulled back together would not fill a batch.
        enough: bytes above which more gain nothing.
    """
    if budget < demand.least:
        return None
    share = min(MAPS_SHARE * budget, budget - demand.steps)
    waves = tuple(_waves(demand.maps, max(share, max(demand.maps))))
    available = budget - max(_bytes(demand.maps, wave) for wave in waves) - demand.fixed
    working = max(demand.linearise + demand.window, demand.item)
    most = min(_MOST_FRAMES, max(enough.frames // max(demand.frame, 1), _FEWEST))
    frames = _within(
        min(_FRAMES_SHARE * available, available - working - demand.linearised) - demand.frame,
        demand.frame,
        max(most, places(items or 1)),
    )
    available -= (frames + 1) * demand.frame
    room = min(_SLOTS_SHARE * available, available - working)
    # A derivative that is zero everywhere takes no memory.
    most = min(_MOST_SLOTS, max(enough.slots // max(demand.linearised, 1), _FEWEST))
    most = min(most, demand.distinct or most)
    slots = _within(room, demand.linearised, most if demand.mixes else 1)
    available -= slots * demand.linearised
    window = min(available - demand.linearise, enough.windows)
    fills = power_of_two_within(frames * (min(slots, demand.windows) if demand.mixes else 1))
    return MemoryPlan(
        min(items or _within(available, demand.item, width), fills),
        frames,
        slots,
        _within(window, demand.window, min(slots, _MOST_WINDOWS)),
        waves,
        not demand.mixes or slots >= demand.windows,
    )


def _within(available: float, each: int, most: int) -> int:
    """How many fit: a power of two, at least 1."""
    return power_of_two_within(min(int(available // max(each, 1)), most))


def _waves(maps: Sequence[int], most: float) -> Iterator[tuple[int, ...]]:
    """Lesions whose maps take ``most`` bytes together, or a single one that takes more."""
    wave: list[int] = []
    for lesion in range(len(maps)):
        if wave and _bytes(maps, [*wave, lesion]) > most:
            yield tuple(wave)
            wave = []
        wave.append(lesion)
    yield tuple(wave)


def _bytes(maps: Sequence[int], lesions: Sequence[int]) -> int:
    """What the maps of lesions take that are kept in arrays of equal maps."""
    counts = Counter(maps[lesion] for lesion in lesions)
    return sum(size * places(count) for size, count in counts.items())


def places(lesions: int) -> int:
    """Room for so many maps of a size: a power of two, so that programs are found compiled."""
    return 1 << (lesions - 1).bit_length()


def on_devices(
    devices: tuple[jax.Device, ...],
    budget: int,
    attempt: Callable[[tuple[jax.Device, ...], int], T | None],
    suffices: Callable[[T], bool] = lambda found: True,
) -> T | None:
    """What fits the memory on as many of the devices as can be; None if it fits on none.

    Args:
        devices: to share the work between; half of them are left out until it fits.
        budget: bytes on each of them, on a CPU on all together.
        attempt: from devices and the budget of each to what fits; None if nothing does.
        suffices: whether that is good enough; on a single device it is in any case.
    """
    for count in halvings(len(devices)):
        each = budget // count if devices[0].platform == "cpu" else budget
        found = attempt(devices[:count], each)
        if found is not None and (count == 1 or suffices(found)):
            return found
    return None


def halvings(count: int) -> Iterator[int]:
    """A number, half of it, and so on down to 1."""
    while count > 0:
        yield count
        count //= 2


def samples_at_once(
    shares: Sequence[int], samples: int, width: int, mesh: tuple[int, int] = (1, 1)
) -> int:
    """How many noisy images a device pulls back at once, so that few batches need filling up.

    A pull-back takes ``width`` gradients, of so many items at one noisy image or of fewer items at
    several images. Every item needs all images: where lesions have few voxels the latter fills
    what would be repetitions. Of the powers of two, so that scans share compiled programs, it is
    the smallest with which, repetitions included, about as few gradients are computed as can be.

    Args:
        shares: how many pull-backs an image takes that may share a batch, of each kind.
        samples: number of noisy images.
        width: gradients at once per device.
        mesh: number of devices over the images, and over the items.
    """
    rows, columns = mesh

    def gradients(count: int) -> int:
        rounds, batch = -(-samples // (count * rows)), columns * (width // count)
        filled = sum(-(-share // batch) * batch for share in shares)
        return rounds * count * filled

    most = min(width, -(-samples // rows))
    computed = {1 << i: gradients(1 << i) for i in range(most.bit_length())}
    enough = _NEGLIGIBLE * min(computed.values())
    return min(count for count, number in computed.items() if number <= enough)


def power_of_two_within(number: int) -> int:
    """The largest power of two that is not larger, 1 at least."""
    return 1 << max(number.bit_length() - 1, 0)


def together(sizes: Mapping[int, int], most: float | None) -> Iterator[tuple[int, ...]]:
    """The labels of lesions to compute together, in their order.

    Args:
        sizes: of each label.
        most: sum of the sizes of those together, unless a single lesion is larger; None: any.
    """
    labels: list[int] = []
    total = 0
    for label, size in sizes.items():
        if labels and most is not None and total + size > most:
            yield tuple(labels)
            labels, total = [], 0
        labels.append(label)
        total += size
    if labels:
        yield tuple(labels)
