"""A scan as it is in its files, with its lesions, its head and its healthy white matter."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxsal.errors import InputError
from jaxsal.experiments.head_outline import head
from jaxsal.experiments.regions import LESION_MARGIN, distance_mm, white_matter
from jaxsal.grid import Grid
from jaxsal.inputs.entries import Entry
from jaxsal.inputs.images import read_brain
from jaxsal.volumes import read_mask, read_volume

if TYPE_CHECKING:
    from jaxsal.scan.prediction import Prediction


def mask_path(folder: str, entry: Entry) -> Path:
    """Where the user's mask of a scan's white matter belongs."""
    return Path(folder).expanduser() / f"{entry.stem}.nii.gz"


@dataclass(frozen=True, eq=False)
class Original:
    """A scan as it is in its files.

    Attributes:
        entry: the scan.
        prediction: its lesions.
        channels: names of its images.
        masks: folder of the user's masks of white matter; None: a rule finds it.
    """

    entry: Entry
    prediction: Prediction
    channels: tuple[str, ...]
    masks: str | None = None

    @property
    def grid(self) -> Grid:
        """Of the images."""
        return self.prediction.scan.grid

    @cached_property
    def images(self) -> np.ndarray:
        """(X, Y, Z, C) float32, in the units of the files and the axes of the grid."""
        volumes = [read_volume(path).data for path in self.entry.scan.images]
        return self.grid.from_file(np.stack(volumes, axis=-1))

    @cached_property
    def head(self) -> np.ndarray:
        """(X, Y, Z) bool; the brain where there is a mask of it."""
        return head(self.images) if self.brain is None else self.brain

    @cached_property
    def brain(self) -> np.ndarray | None:
        """(X, Y, Z) bool, the scan's own mask, if it has one."""
        path = self.entry.scan.mask
        return None if path is None else read_brain(path, self.grid)

    @cached_property
    def lesions(self) -> np.ndarray:
        """(X, Y, Z) bool: predicted, given, and those of the reference."""
        lesions: np.ndarray = self.prediction.labels > 0
        reference = self.prediction.scan.reference
        return lesions if reference is None else lesions | reference

    @cached_property
    def suspicious(self) -> np.ndarray:
        """(X, Y, Z) bool: lesions, and what is as probable but too small for one."""
        suspicious: np.ndarray = self.lesions | self.prediction.segmented
        return suspicious

    @property
    def white_matter(self) -> np.ndarray:
        """(X, Y, Z) bool, of healthy white matter; empty where it is not known."""
        return self._white_matter[0]

    @property
    def without_white_matter(self) -> str:
        """Why healthy white matter is not known; "" if it is."""
        return self._white_matter[1]

    @cached_property
    def _white_matter(self) -> tuple[np.ndarray, str]:
        try:
            return self._find_white_matter(), ""
        except InputError as error:
            return np.zeros(self.grid.shape, bool), str(error)

    def _find_white_matter(self) -> np.ndarray:
        if self.masks is None:
            return white_matter(self.images, self.channels, self.head, self.lesions, self.grid)
        path = mask_path(self.masks, self.entry)
        if not path.exists():
            raise InputError(
                f"there is no mask of white matter {path}: masks are named after scans as results "
                "are, or leave out --white-matter to have it found on FLAIR and T1"
            )
        return read_mask(path, self.grid) & (distance_mm(self.lesions, self.grid) > LESION_MARGIN)
