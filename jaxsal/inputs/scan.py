"""The files of one scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxsal.errors import InputError

OTHER_ROLES = ("reference", "instances", "mask")
"""The roles of a scan's files beside its images: attributes of `Scan`."""


@dataclass(frozen=True)
class Scan:
    """The files of one scan.

    Attributes:
        images: one per channel of the model, in the model's order.
        reference: a mask of the true lesions, if there is one.
        instances: a label map; its lesions are explained instead of predicted ones.
        mask: a mask of the brain; all outside of it is background.

    Raises:
        InputError: there are both a reference and instances.
    """

    images: tuple[Path, ...]
    reference: Path | None = None
    instances: Path | None = None
    mask: Path | None = None

    def __post_init__(self) -> None:
        if self.reference and self.instances:
            raise InputError("give a reference mask or a label map of instances, not both")

    def roles(self, channels: Sequence[str]) -> dict[str, Path]:
        """The files by role: a channel, or one of `OTHER_ROLES`."""
        return dict(zip(channels, self.images, strict=False)) | self.others

    @property
    def others(self) -> dict[str, Path]:
        """The files that are no images, by role."""
        found = {role: getattr(self, role) for role in OTHER_ROLES}
        return {role: path for role, path in found.items() if path is not None}
