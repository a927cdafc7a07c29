"""How the memory is shared out: what is computed at once, and what is kept; nothing is compiled.

All of it follows from a budget and from the bytes that each step takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import jax

    from jaxsal.saliency.items import WindowGroup


T = TypeVar("T")
MAPS_SHARE = 0.3  # of the budget, at most, for the maps of lesions computed together
_LINEARISATIONS_SHARE = 0.4  # of the rest, for the windows kept linearised
_NEGLIGIBLE = 1.1  # as many gradients as necessary: not worth larger batches


@dataclass(frozen=True)
class Demand:
    """Bytes that the steps of a computation take on one device.

    Attributes:
        fixed: throughout: noisy images, and the network's parameters.
        linearise: while a window is linearised, besides what is kept of it.
        linearised: what is kept of a linearised window.
        item: while one item is pulled back.
        maps: the map of each lesion, while it is computed.
        windows: largest number of windows that reach an item.
    """

    fixed: int
    linearise: int
    linearised: int
    item: int
    maps: Sequence[int]
    windows: int

    @property
    def least(self) -> int:
        """With a single lesion, window and item at a time."""
        return self.steps + max(self.maps)

    @property
    def steps(self) -> int:
        """The same without the lesion's map."""
        return self.fixed + self.linearised + max(self.linearise, self.item)


@dataclass(frozen=True)
class MemoryPlan:
    """What is computed at once on each device, and what is kept.

    Attributes:
        items: items per pull-back.
        windows: windows that are kept linearised.
        waves: the lesions, by number, whose maps are computed together.
        keeps_enough: whether all windows that reach an item are kept at once.
    """

    items: int
    windows: int
    waves: tuple[tuple[int, ...], ...]
    keeps_enough: bool


def fit(demand: Demand, budget: int, width: int, items: int | None = None) -> MemoryPlan | None:
    """Shares out a budget; None if it does not suffice for a single item.

    Args:
        demand: bytes of each step.
        budget: bytes.
        width: items at once above which more gain nothing.
        items: items at once, if that is given.
    """
    if budget < demand.least:
        return None
    share = min(MAPS_SHARE * budget, budget - demand.steps)
    for_maps = int(min(sum(demand.maps), max(share, max(demand.maps))))
    available = budget - for_maps - demand.fixed
    room = min(_LINEARISATIONS_SHARE * available, available - max(demand.linearise, demand.item))
    # A derivative that is zero everywhere takes no memory.
    keep = min(max(int(room // max(demand.linearised, 1)), 1), 2 * demand.windows)
    fitting = int((available - keep * demand.linearised) // max(demand.item, 1))
    return MemoryPlan(
        items or power_of_two_within(min(fitting, width)),
        keep,
        tuple(together(dict(enumerate(demand.maps)), for_maps)),
        keep >= demand.windows,
    )


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
    groups: Sequence[WindowGroup], samples: int, width: int, mesh: tuple[int, int] = (1, 1)
) -> int:
    """How many noisy images a device pulls back at once, so that few batches need filling up.

    A pull-back takes ``width`` gradients, of so many items at one noisy image or of fewer items at
    several images. Every item needs all images: where lesions have few voxels the latter fills
    what would be repetitions. Of the powers of two, so that scans share compiled programs, it is
    the smallest with which, repetitions included, about as few gradients are computed as can be.

    Args:
        groups: the items.
        samples: number of noisy images.
        width: gradients at once per device.
        mesh: number of devices over the images, and over the items.
    """
    rows, columns = mesh

    def gradients(count: int) -> int:
        rounds, batch = -(-samples // (count * rows)), columns * (width // count)
        filled = sum(len(g.windows) * -(-len(g.items) // batch) * batch for g in groups)
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
