"""The columns and methods of a run, kept in ``run.json``: reports are made without the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxsal.errors import InputError
from jaxsal.tables import Column
from jaxsal.types import Scale


@dataclass(frozen=True)
class MethodOutline:
    """A method, and how its maps appear; see `jaxsal.Appearance`.

    Attributes:
        name: the method's.
        maps: what a map has one of each for, at the head of the table's columns.
        files: the same in the names of files.
        units: of the map.
        scale: of the pictures' colours.
        subtitle: what a picture's title says after the lesion.
    """

    name: str
    maps: tuple[str, ...]
    files: tuple[str, ...]
    units: str
    scale: Scale
    subtitle: str

    @property
    def peaks(self) -> list[str]:
        """The table's columns of the largest values, and of the smallest where there are any."""
        extremes = ("max", "min") if self.scale == "diverging" else ("max",)
        return [f"{name}_{extreme}" for name in self.maps for extreme in extremes]


@dataclass(frozen=True)
class Outline:
    """The columns and methods of a run.

    Attributes:
        columns: of the table over all lesions.
        methods: whose maps there are.
    """

    columns: tuple[Column, ...]
    methods: tuple[MethodOutline, ...]

    @classmethod
    def read(cls, run: Mapping[str, Any]) -> Outline:
        """The outline in the content of ``run.json``.

        Raises:
            InputError: there is none.
        """
        try:
            outline = run["outline"]
            methods = [
                MethodOutline(**{**m, "maps": tuple(m["maps"]), "files": tuple(m["files"])})
                for m in outline["methods"]
            ]
            return cls(tuple(Column(**column) for column in outline["columns"]), tuple(methods))
        except (KeyError, TypeError) as error:
            raise InputError(
                "run.json does not say what the table's columns are: it was written by another "
                "version of jaxsal, or changed; run the cohort into a new folder"
            ) from error
