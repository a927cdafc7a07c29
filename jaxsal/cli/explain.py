"""``jaxsal explain``: why each of a scan's lesions was found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxsal.cli import methods
from jaxsal.cli import options as shared
from jaxsal.cli.browser import address, open_page, require_browser
from jaxsal.cli.command import Command, Given, Group, group
from jaxsal.cli.interruption import keeping
from jaxsal.cli.lesions import show_explained
from jaxsal.errors import InputError
from jaxsal.options import option
from jaxsal.settings import ExplainSettings, PredictSettings
from jaxsal.wording import counted

if TYPE_CHECKING:
    from jaxsal.cli.progress import ProgressBar
    from jaxsal.inputs.entries import Scan
    from jaxsal.model import Model

    _Job = tuple[Model, Scan, Path, PredictSettings, ExplainSettings]

_PAGE = "index.html"


@dataclass(frozen=True)
class _Lesions:
    """Which lesions."""

    reference: Path | None = option(
        None,
        "MASK",
        help=f"{shared.REFERENCE}, and has missed lesions explained, too",
        exclusive="lesions",
    )
    instances: Path | None = option(
        None,
        "LABELS",
        help="explain the lesions of this label map instead of the predicted ones",
        exclusive="lesions",
    )


@dataclass(frozen=True)
class _Regions:
    """In which regions maps and lesions lie.

    Attributes:
        parcellation: label map of regions in the scan's world: writes how much of each map lies in
            each of them, and the region of each lesion.
        region_names: their names: a table with the columns index or label, and name.
    """

    parcellation: Path | None = option(None, "LABELS")
    region_names: Path | None = option(None, "TSV")


@dataclass(frozen=True)
class _Open:
    """The page, shown."""

    open: bool = option(False, help="open the page in the browser when it is written")


@dataclass(frozen=True)
class _DryRun:
    """Nothing but a forecast."""

    dry_run: bool = option(
        False, help="find the lesions, print what explaining them takes, and stop; writes nothing"
    )


def run(given: Given) -> None:
    """Runs the command."""
    settings, shows = _settings(given), given.of(_Open).open
    if shows:
        _require_page(settings, dry_run=given.of(_DryRun).dry_run)
    from jaxsal.cli.progress import ProgressBar

    results, scan = given.of(shared.Results), shared.scan_files(given)
    with shared.computing(given), ProgressBar() as bar:
        model = shared.load_model(given)
        prediction = shared.prediction_settings(given, model)
        job = (model, scan, results.out, prediction, settings)
        work = _forecast if given.get("dry_run") else _explain
        show = work(results.overwrite, bar, *job)
    print(shared.channel_files(scan, model.channels))
    show()
    if shows:
        open_page(address(results.out / _PAGE))


def _require_page(settings: ExplainSettings, *, dry_run: bool) -> None:
    if dry_run or not settings.pictures:
        without = "--dry-run" if dry_run else "--no-pictures"
        raise InputError(f"--open shows a page, and {without} writes none; give only one of them")
    require_browser()


def _forecast(overwrite: bool, bar: ProgressBar, *job: *_Job) -> Callable[[], None]:
    from jaxsal.scan.explain import forecast

    shown: Any = {"on_stage": bar.stage, "on_progress": bar.update}
    amount, duration = forecast(*job, overwrite=overwrite, **shown)
    lines = [str(amount), f"forecast: {duration}"] if duration else [str(amount)]
    return lambda: print("\n".join(lines))


def _explain(overwrite: bool, bar: ProgressBar, *job: *_Job) -> Callable[[], None]:
    from jaxsal.report.niivue import MISSING_FROM_RESULTS, niivue
    from jaxsal.scan.explain import explain
    from jaxsal.scan.methods import appearance, in_effect

    model, _, out, prediction, settings = job
    shown: Any = {"on_stage": bar.stage, "on_progress": bar.update, "on_note": bar.say}
    with keeping(lesions_of(out)):
        rows = explain(*job, overwrite=overwrite, **shown)

    def show() -> None:
        maps = appearance(in_effect(settings, prediction, model), model.channels)
        show_explained(rows, maps, out)
        explained = f"{counted(len(rows), 'lesion')} explained"
        if settings.level == "class":
            explained = "all segmented voxels explained" if rows else "no voxel to explain"
        place = f"open {address(out / _PAGE)}" if settings.pictures else f"results in {out}"
        print(f"{explained}; {place}")
        if settings.pictures and settings.view and rows and niivue() is None:
            print(MISSING_FROM_RESULTS)

    return show


def lesions_of(out: Path) -> Callable[[], str]:
    """How many finished lesions an interrupted explanation keeps in the results' folder."""
    from jaxsal.scan.unfinished import Unfinished

    def kept() -> str:
        count = Unfinished(out).lesions
        are = f"{counted(count, 'lesion')} {'is' if count == 1 else 'are'}"
        return f"{are} finished and kept, the same command goes on after them" if count else ""

    return kept


def _settings(given: Given) -> ExplainSettings:
    name, level = given.of(methods.OneMethod).method, given.get("level", "instance")
    (saliency,) = methods.settings(given, [name], level)
    kinds = given.get("kinds") and tuple(dict.fromkeys(given["kinds"]))
    uncertainty = shared.uncertainty_settings(given)
    return given.of(ExplainSettings, saliency=saliency, kinds=kinds, uncertainty=uncertainty)


def _groups() -> tuple[Group, ...]:
    choice = ("level", "labels", "kinds", "max_voxels")
    return (
        *(shared.MODEL, shared.SCAN, shared.RESULTS, group(_Lesions)),
        *(
            group(ExplainSettings, only=("full_grid", "pictures", "view")),
            group(_Open),
            group(_DryRun),
        ),
        group(ExplainSettings, "which lesions", only=choice),
        group(_Regions, "regions"),
        *methods.of_methods(methods.OneMethod),
        *(shared.FINDING, shared.UNCERTAINTY, shared.RESAMPLE),
        *(shared.COMPUTING, shared.REMATERIALISE),
    )


COMMAND = Command(
    "Writes what predict writes, and for every lesion its saliency maps under maps/, a picture "
    "under pictures/, and index.html over all of them. Prints first what that takes. Finished "
    "lesions are kept when it ends early; the same command goes on after them.",
    _groups,
    run,
)
