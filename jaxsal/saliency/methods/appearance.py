"""How a method's maps appear: in the names of files, in tables, and in pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jaxsal.tables import Column

if TYPE_CHECKING:
    from jaxsal.types import Scale

# Statistics of a map, by name: of maps with negative values, and of those without.
SIGNED = {
    "max": "largest value of the map",
    "min": "smallest value of the map",
    "mean_inside": "mean of the map over the lesion",
    "positive_share": "positive part of the map's total magnitude, from 0 to 1",
}
POSITIVE = {
    "max": SIGNED["max"],
    "mean_inside": SIGNED["mean_inside"],
    "inside_share": "part of the map's total that lies inside the lesion, from 0 to 1",
}


@dataclass(frozen=True)
class Appearance:
    """How a method's maps appear.

    Attributes:
        maps: what a map has one of each for, at the head of the table's columns: the image's
            channels, or the method itself.
        files: the same in the names of files.
        statistics: names and meanings of the table's columns for each of these, of `SIGNED` and
            `POSITIVE`.
        units: of the map.
        scale: of the pictures' colours.
        subtitle: what a picture's title says after the lesion.
        averaged: whether maps are means over noisy images, which the table counts.
        approximation: from a lesion's number of voxels to what of it is approximated, for the
            table; None: methods without approximations.
        standard_error: whether a map's standard error is written beside it.
        figures: names and meanings of the table's columns for what maps come with, see `Crop`.
    """

    maps: tuple[str, ...]
    files: tuple[str, ...]
    statistics: Mapping[str, str]
    units: str
    scale: Scale = "diverging"
    subtitle: str = ""
    averaged: bool = False
    approximation: Callable[[int], str] | None = None
    standard_error: bool = False
    figures: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_channels(
        cls,
        name: str,
        channels: Sequence[str],
        units: str = "logit per standard deviation",
        **more: Any,
    ) -> Appearance:
        """Of maps with one channel per channel of the image, of negative and positive values.

        Columns begin as the files do, such as "t1_name_max".
        """
        files = tuple(f"{channel}_{name}" for channel in channels)
        usual = {"maps": files, "files": files, "statistics": SIGNED, "subtitle": f", {name}"}
        return cls(**{**usual, "units": units, **more})

    @classmethod
    def of_heat(cls, name: str, units: str, subtitle: str = "") -> Appearance:
        """Of maps with a single channel, zero or positive."""
        return cls((name,), (name,), POSITIVE, units, "sequential", subtitle)

    @property
    def signed(self) -> bool:
        """Whether maps have negative values, too."""
        return self.scale == "diverging"

    def table_columns(self) -> list[str]:
        """The table's columns for what maps amount to."""
        noted = {"samples": self.averaged, "approximated": self.approximation is not None}
        return [name for name, there in noted.items() if there] + [
            column.key for column in self.page_columns()
        ]

    def page_columns(self) -> list[Column]:
        """The page's columns for the same, without the number of samples."""
        return [
            Column(f"{name}_{key}", key.replace("_", " "), meaning, None, group=name)
            for name in self.maps
            for key, meaning in self.statistics.items()
        ] + [Column(name, name.replace("_", " "), text) for name, text in self.figures.items()]
