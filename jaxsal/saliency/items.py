"""The v' of Eqs. 1-3: items, each a weighted sum of logits of some voxels of one lesion.

For the exact signed maximum (Eq. 3) an item is a single voxel; for sums (Eqs. 1, 2), a whole
lesion. Items of all lesions stand in one queue, those reached by the same windows next to each
other. So batches have one size, however many lesions there are and however large they are.

Of large lesions fewer gradients can be taken: of some voxels, or of several together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.errors import InputError

if TYPE_CHECKING:
    from jaxsal.field.plan import WindowPlan
    from jaxsal.saliency.domains import Domain
    from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings

_SEED = 0  # of the choice of voxels


def voxel_groups(domain: Domain, settings: SmoothGradSettings) -> list[np.ndarray]:
    """The items of a lesion, each as indices into its voxels."""
    every = np.arange(len(domain.voxels))
    if settings.aggregate != "max":
        return [every]
    if settings.group_size > 1:
        return consecutive(domain.voxels, settings.group_size)
    if settings.voxels_per_lesion is not None:
        every = stratified(domain.voxels, settings.voxels_per_lesion)
    return list(every[:, None])


@dataclass(frozen=True)
class Items:
    """Items of several lesions.

    Attributes:
        owners: (I,) the lesion of each, by its number.
        rows: (I, P) their voxels, as rows of the plan's weights; -1 fills up those that have fewer.
    """

    owners: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.owners)

    def __getitem__(self, chosen: np.ndarray) -> Items:
        return Items(self.owners[chosen], self.rows[chosen])


def items_of(domains: Sequence[Domain], groups: Sequence[Sequence[np.ndarray]]) -> Items:
    """All items of some lesions; rows count through the lesions' voxels in their order.

    Args:
        domains: the lesions.
        groups: of each, from `voxel_groups`.
    """
    counts = [len(domain.voxels) for domain in domains]
    first = np.concatenate([[0], np.cumsum(counts)])
    members = [group + first[i] for i, own in enumerate(groups) for group in own]
    owners = np.repeat(np.arange(len(domains)), [len(own) for own in groups])
    # Lengths are powers of two, so that lesions of other sizes find their programs compiled.
    length = 1 << (max(map(len, members)) - 1).bit_length()
    rows = np.full((len(members), length), -1)
    for row, member in zip(rows, members, strict=True):
        row[: len(member)] = member
    return Items(owners, rows)


class ItemWindows:
    """Which items come from which windows.

    Args:
        plan: the windows, and their weights for each voxel.
        voxels: (V, 3) positions of all lesions' voxels in the image.
        items: of all lesions.

    Attributes:
        plan: the same.
        voxels: the same.
        items: those given, but similar sets of windows next to each other.
        counts: (I,) how many windows reach each.
        windows: (R,) these windows, item after item.

    Raises:
        InputError: no window reaches an item.
    """

    def __init__(self, plan: WindowPlan, voxels: np.ndarray, items: Items) -> None:
        reaches = np.vstack([plan.weights > 0, np.zeros(len(plan.starts), bool)])  # last: row -1
        reached = reaches[items.rows[:, 0]]
        for column in items.rows.T[1:]:
            reached |= reaches[column]
        _, sets = np.unique(np.packbits(reached, axis=1), axis=0, return_inverse=True)
        order = np.argsort(-sets.reshape(-1), kind="stable")
        self.plan, self.voxels, self.items = plan, voxels, items[order]
        self.counts = np.count_nonzero(reached, axis=1)[order]
        if not self.counts.all():
            raise InputError("the plan of the logits has no window for some voxels of a lesion")
        self.windows = np.nonzero(reached[order])[1]

    @cached_property
    def of_pairs(self) -> np.ndarray:
        """(R,) the item of each of `windows`."""
        return np.repeat(np.arange(len(self.items)), self.counts)

    @property
    def most(self) -> int:
        """The largest number of windows that reach an item."""
        return int(self.counts.max())

    @cached_property
    def pull_backs(self) -> np.ndarray:
        """(L,) how many each lesion takes at one noisy image: one per item and window."""
        return np.bincount(self.items.owners, self.counts, self.lesions).astype(int)

    @property
    def lesions(self) -> int:
        """Number of lesions."""
        return int(self.items.owners.max()) + 1

    def points(self, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Voxels of pairs (n,) of an item and a window, as positions within the window.

        Returns:
            (n, P, 3) positions, and (n, P) weights; zero for voxels that the window does not reach.
        """
        rows, windows = self.items.rows[self.of_pairs[pairs]], self.windows[pairs, None]
        weights = np.where(rows >= 0, self.plan.weights[rows, windows], 0)
        points = self.voxels[rows] + self.plan.before - self.plan.starts[windows]
        return np.clip(points, 0, np.array(self.plan.size) - 1), weights.astype(np.float32)


def stratified(voxels: np.ndarray, count: int) -> np.ndarray:
    """A sample of a lesion's voxels that is spread over the lesion.

    The lesion is bisected, and its parts again, each across its longest axis, into as many strata
    of equal numbers of voxels (but for one) as voxels are wanted; one is drawn from each. The same
    voxels are drawn in whatever order they are given, and every time: the draw has a seed of its
    own, so that maps of other noise are of the same voxels.

    Args:
        voxels: (V, 3) positions, all different.
        count: voxels wanted, at least 1.

    Returns:
        (min(count, V),) increasing indices into ``voxels``.
    """
    if count >= len(voxels):
        return np.arange(len(voxels))
    parts = list(strata(voxels, count))
    sizes = np.array([len(part) for part in parts])
    drawn = np.random.default_rng(_SEED).integers(sizes)
    return np.sort([part[i] for part, i in zip(parts, drawn, strict=True)])


def strata(voxels: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """Indices into ``voxels`` (V, 3) of each of ``count`` <= V strata; see `stratified`."""
    yield from _bisected(voxels, np.lexsort(voxels.T[::-1]), count)


def _bisected(voxels: np.ndarray, part: np.ndarray, count: int) -> Iterator[np.ndarray]:
    if count == 1:
        yield part
        return
    axis = np.ptp(voxels[part], axis=0).argmax()
    part = part[np.argsort(voxels[part, axis], kind="stable")]
    first = count // 2
    least, one_more = divmod(len(part), count)  # strata of one more voxel than the least
    cut = first * least + one_more * first // count
    yield from _bisected(voxels, part[:cut], first)
    yield from _bisected(voxels, part[cut:], count - first)


def consecutive(voxels: np.ndarray, size: int) -> list[np.ndarray]:
    """Groups of voxels that are next to each other in the order given, as the published scripts do.

    Args:
        voxels: (V, 3) positions.
        size: of a group; the last one may be smaller.

    Returns:
        Indices into ``voxels`` of each group, in their order.
    """
    return np.split(np.arange(len(voxels)), range(size, len(voxels), size))
