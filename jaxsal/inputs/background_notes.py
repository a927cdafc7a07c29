"""Warnings of an image's background."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jaxsal.inputs.background import Background, commonest, fills_its_box

if TYPE_CHECKING:
    from jaxsal.preprocessing import Normalisation
    from jaxsal.volumes import Volume

_LARGEST_HEAD = 8e6  # mm³, with the neck; the box around a head has more
_EVEN = 0.1  # part of the head's voxels; no tissue has one value in so many


def note(
    volume: Volume, where: np.ndarray, background: Background, normalisation: Normalisation | None
) -> str:
    """A warning of an image's background; "" if there is nothing to say.

    Args:
        volume: the image.
        where: (X, Y, Z) bool, its background.
        background: its value and size.
        normalisation: of the image; None: it is z-scored over the rest.
    """
    zeros = volume.data == 0
    is_zero = bool((where == zeros).all())
    also = ", or 0 beside it," if background.value and (where & zeros).any() else ""
    holding = (
        f"{background.voxels:,} of {where.size:,} voxels hold {background.value:g} or nearly so"
        f"{also}"
    )
    said = []
    if normalisation is None:
        if not is_zero:
            said.append(f"{holding} and are taken for background, which becomes 0")
        said += _doubt(volume, ~where)
    elif normalisation.masked and not is_zero:
        said.append(
            f"{holding}, a background that is not 0: it is normalised with the rest, as nnU-Net "
            "does; if the network was trained on a background of 0, give a mask of the brain "
            "(--mask)"
        )
    return f"{volume.path.name}: {'; '.join(said)}" if said else ""


def note_of_mask(volume: Volume, normalisation: Normalisation | None) -> str:
    """A warning of an image whose background a mask gives; "" if there is nothing to say."""
    if normalisation is None or normalisation.scheme != "ct":
        return ""
    return (
        f"{volume.path.name}: outside of the mask it is set to 0, which a network for CT takes "
        "for 0 HU, as of water, and not for air; give a mask only if it was trained on such images"
    )


def _doubt(volume: Volume, head: np.ndarray) -> list[str]:
    """A sentence if what counts as head may hold unrecognised background."""
    reasons = []
    if fills_its_box(head):
        reasons.append("leave no room around a head")
    litres = np.count_nonzero(head) * volume.grid.voxel_volume
    if litres > _LARGEST_HEAD:
        reasons.append(f"are {litres / 1e6:.1f} litres")
    value, share = commonest(volume.data[head])
    if share >= _EVEN:
        reasons.append(f"hold {value:g} or nearly so in {share:.0%}")
    if not reasons:
        return []
    return [
        f"{np.count_nonzero(head):,} of {head.size:,} voxels count as head, though they "
        f"{' and '.join(reasons)}: what surrounds the head was not recognised as background; for "
        "a network of brains without skull, or where it is to be 0, give a mask of the brain "
        "(--mask)"
    ]
