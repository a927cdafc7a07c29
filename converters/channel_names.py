"""Names of image channels that can be parts of file names."""

from __future__ import annotations

import re
from collections.abc import Iterable


def fit_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names with '_' for what is unfit, and numbered if two are then the same."""
    fit = [re.sub(r"[^\w.-]+", "_", name).strip("_.-") or "channel" for name in names]
    if len({name.casefold() for name in fit}) < len(fit):
        fit = [f"{name}_{c}" for c, name in enumerate(fit)]
    return tuple(fit)
