"""Whether the size of the patches of the training moves the context plateau."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from jaxsal.errors import InputError, require
from jaxsal.experiments.catalogue import Experiment
from jaxsal.experiments.choice import none_of_volume
from jaxsal.experiments.context import ContextSettings, context_rows
from jaxsal.experiments.findings import Findings
from jaxsal.experiments.patch_size_figure import draw
from jaxsal.experiments.patch_size_models import reservations, trained_models
from jaxsal.experiments.patch_size_slopes import (
    COLUMNS,
    SUMMARY_COLUMNS,
    model_row,
    plateau_rows,
    slope_over_networks,
    slope_rows,
)
from jaxsal.experiments.statistics import FEWEST_IN_GROUP, few_patients
from jaxsal.options import option
from jaxsal.scan.provenance import model_facts
from jaxsal.wording import counted

if TYPE_CHECKING:
    from jaxsal.experiments.study import Study
    from jaxsal.tables import Row


@dataclass(frozen=True)
class PatchSizeSettings(ContextSettings):
    """Settings of `patch-size`.

    Attributes:
        models: model directories of further networks; MODEL_DIR may be among them.
        patches: edges in voxels of the patches that MODEL_DIR and each of the models was trained
            on, in this order. None: what `jaxsal train` recorded.
    """

    models: tuple[Path, ...] = option((), "DIR", repeated=True)
    patches: tuple[int, ...] | None = option(None, "N", repeated=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.models:
            raise InputError(
                "models must be one or more: a slope needs networks of two patch sizes"
            )
        if self.patches is not None:
            require(min(self.patches) > 0, "patches", "1 or more", min(self.patches))

    @property
    def of_each(self) -> ContextSettings:
        """Of the experiment that each network undergoes."""
        return ContextSettings(**{f.name: getattr(self, f.name) for f in fields(ContextSettings)})


def patch_size(study: Study, settings: PatchSizeSettings) -> Findings:
    """The plateau of `context` for networks that were trained on patches of several sizes.

    All are given windows of one size, that of the study, so that the window does not bound what
    some of them see.

    Raises:
        InputError: as `trained_models`.
    """
    models = trained_models(study, settings.models, settings.patches or ())
    for sentence in reservations(models):
        study.note(sentence)
    subjects = {entry.id: entry.entities["subject"] for entry in study.entries}
    rows: list[Row] = []
    brief: list[Row] = []
    for each in models:
        found, volumes = context_rows(each.study, settings.of_each, each.kept)
        own = list(plateau_rows(each, found, subjects))
        brief.append(model_row(each, found, own))
        rows += own
        if not found:
            study.note_none(f"{each.place}: {none_of_volume(volumes, settings.volume)}")
    facts = {"networks": [{"model": m.place, **model_facts(m.study.model)} for m in models]}
    if not rows:
        return Findings(COLUMNS, [], [], None, tuple(study.notes), facts=facts)
    slopes, over = slope_rows(rows), slope_over_networks(brief)
    _note(study, rows, slopes[0])
    study.note(_of_trainings(over))
    brief.sort(key=lambda row: row["patch"])
    summary = [*brief, *slopes, over]
    figure = draw(rows, slopes[0])
    notes = tuple(study.notes)
    return Findings(COLUMNS, rows, summary, figure, notes, SUMMARY_COLUMNS, facts)


def _of_trainings(over: Row) -> str:
    """Says which interval is about what."""
    if over["slope"] is None:
        return (
            f"{counted(over['models'], 'network')} with a plateau: a slope over networks, whose "
            f"interval is about other trainings, needs {FEWEST_IN_GROUP}, of two patch sizes, and "
            "is left out; that within patients is about these networks alone"
        )
    return (
        "the interval of the slope within patients is about these networks in other patients, that "
        "of the slope over networks about other trainings, in these patients: whether patches move "
        "the plateau is to be judged by the latter"
    )


def _note(study: Study, rows: list[Row], slope: Row) -> None:
    study.note(few_patients(slope["patients"]))
    without = sum(row["plateau_mm"] is None for row in rows)
    if without:
        study.note(
            f"{without} of {len(rows)} plateaus are not reached within --steps and are in no "
            "slope, which may make it too low: take more steps"
        )


EXPERIMENT = Experiment(patch_size, PatchSizeSettings, uses_saliency=False, uses_maps=False)
