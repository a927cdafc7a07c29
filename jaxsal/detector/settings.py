"""Settings of fitting a detector. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from jaxsal.errors import require
from jaxsal.options import option


@dataclass(frozen=True)
class FitSettings:
    """How a detector is fitted.

    Attributes:
        method: whose maps are judged, such as smoothgrad-max. None: the only ones there are.
        lost: share of the true lesions (TP) that the threshold may lose, of those that it is
            chosen on; of others it may lose more.
    """

    method: str | None = option(None, "NAME")
    lost: float = option(0.01, "SHARE")

    def __post_init__(self) -> None:
        require(0 <= self.lost < 1, "lost", "from 0 to less than 1", self.lost)
