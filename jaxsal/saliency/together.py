"""Which lesions are computed together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


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
