"""What a finished lesion leaves: its files by their names, and its row of the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jaxsal.settings import ExplainSettings
from jaxsal.tables import Row

if TYPE_CHECKING:
    from jaxsal.saliency.methods.appearance import Appearance
    from jaxsal.scan.explanations import Explanation


@dataclass(frozen=True)
class LesionResults:
    """What one map is written to.

    Attributes:
        explained: what the map is about.
        shown: how it appears.
        settings: which map it is.
    """

    explained: Explanation
    shown: Appearance
    settings: ExplainSettings

    def maps(self, ending: str = "") -> list[str]:
        """Names of the map's files, one per channel of it; see `parts_of` for endings."""
        stem = self.explained.stem
        return [f"maps/{stem}_{name}{ending}.nii.gz" for name in self.shown.files]

    @property
    def picture(self) -> str | None:
        """Name of the picture, if there is one."""
        return f"pictures/{self.explained.stem}.png" if self.settings.pictures else None

    @property
    def files(self) -> list[str]:
        """Names of all files."""
        errors = self.maps("_se") if self.shown.standard_error else []
        return [*self.maps(), *errors, *([self.picture] if self.picture else [])]

    def row(self, statistics: Row) -> Row:
        """The row of the table with these statistics of the map."""
        row = {**statistics, **self.explained.row}
        return {**row, "picture": self.picture} if self.picture else row

    def kept_row(self, kept: Any) -> Row | None:
        """The row that was kept, which may be anything; None if it is no row of this lesion."""
        label = self.explained.row["label"]
        if not isinstance(kept, dict) or kept.get("label") != label:
            return None
        if kept.keys() != {*self.shown.table_columns(), *self.row({})}:
            return None
        statistics = [kept[column.key] for column in self.shown.page_columns()]
        numbers = all(value is None or isinstance(value, int | float) for value in statistics)
        return self.row(kept) if numbers else None


class PortionResults(dict[int, LesionResults]):
    """What the lesions of one portion leave, by label."""

    @property
    def files(self) -> list[str]:
        """Names of all their files."""
        return [name for lesion in self.values() for name in lesion.files]

    def kept_rows(self, kept: Sequence[Any]) -> list[Row] | None:
        """The rows that were kept, which may be anything; None unless each lesion has just one."""
        tried = (lesion.kept_row(each) for each in kept for lesion in self.values())
        rows = [row for row in tried if row is not None]
        labels = {row["label"] for row in rows}
        return rows if len(labels) == len(rows) == len(kept) == len(self) else None
