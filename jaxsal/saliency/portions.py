"""How many noise samples and items a device pulls back at once."""

from __future__ import annotations

from collections.abc import Sequence

from jaxsal.saliency.items import WindowGroup

_NEGLIGIBLE = 1.1  # as many gradients as necessary: not worth larger portions


def samples_at_once(
    groups: Sequence[WindowGroup], samples: int, width: int, mesh: tuple[int, int] = (1, 1)
) -> int:
    """How many noise samples a device pulls back at once, so that few batches need filling up.

    A pull-back takes ``width`` gradients, of so many items at one noise sample or of fewer items
    at several samples. Every item needs all samples: where lesions have few voxels the latter fills
    what would be repetitions. Of the powers of two, so that scans share compiled programs, it is
    the smallest with which, repetitions included, about as few gradients are computed as can be.

    Args:
        groups: the items.
        samples: number of noise samples.
        width: gradients at once per device.
        mesh: number of devices over the samples, and over the items.
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
