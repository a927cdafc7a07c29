"""How many gradients the maps of some lesions take, known before any is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jaxsal.saliency.domains import labelled_domains
from jaxsal.saliency.items import items_of, pull_backs, voxel_groups, window_groups

if TYPE_CHECKING:
    from jaxsal.field.plan import LogitField
    from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings


def gradients_of(
    field: LogitField, labels: np.ndarray, settings: SmoothGradSettings
) -> dict[int, int]:
    """How many gradients each lesion's map takes, as the progress of `jaxsal.smoothgrad` counts.

    Args:
        field: the logits that are differentiated.
        labels: (X, Y, Z) integers, one lesion domain per positive label.
        settings: which maps.

    Returns:
        For each label one per voxel (or summed group of voxels), window that reaches it and noise
        sample; with a tolerance that is the largest number.
    """
    domains = labelled_domains(labels, labels)
    if not domains:
        return {}
    items = items_of(domains, [voxel_groups(domain, settings) for domain in domains])
    x, y, z = labels.shape
    plan = field.plan((x, y, z), np.concatenate([domain.voxels for domain in domains]))
    counts = settings.samples * pull_backs(window_groups(plan, items), len(domains))
    return {domain.label: int(count) for domain, count in zip(domains, counts, strict=True)}
