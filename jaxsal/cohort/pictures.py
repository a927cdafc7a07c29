"""Pictures of lesions, drawn from a cohort's results for its report.

Imports no JAX, so that worker processes start fast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from jaxsal.approximated import caption
from jaxsal.cohort.columns import MethodOutline
from jaxsal.cohort.results import read_map, unchanged_image
from jaxsal.cohort.storage.names import Names
from jaxsal.errors import JaxsalError
from jaxsal.figures.canvas import save_figure
from jaxsal.figures.lesion import lesion_figure
from jaxsal.processes import in_processes
from jaxsal.progress import OnPart
from jaxsal.store.inside import require_inside
from jaxsal.store.records import ScanRecord, Stamp
from jaxsal.volumes import read_labels


@dataclass(frozen=True)
class Picture:
    """A picture to be drawn; names are relative to the cohort's folder.

    Attributes:
        name: of the picture.
        label: of the lesion.
        title: of the picture.
        maps: names of the map's files, one per channel of it.
        method: which made the map.
        note: what the picture says in its heading; may be empty.
    """

    name: str
    label: int
    title: str
    maps: tuple[str, ...]
    method: MethodOutline
    note: str = ""


@dataclass(frozen=True)
class ScanPictures:
    """The pictures to be drawn of a scan, for which its images are read once.

    Attributes:
        id: of the scan.
        images: by channel, as they were; None: one that could not be read.
        labels: name of the label map.
        pictures: what to draw.
        mask: of the brain, if the images were read with one.
    """

    id: str
    images: Mapping[str, Stamp | None]
    labels: str
    pictures: tuple[Picture, ...]
    mask: Stamp | None = None


@dataclass(frozen=True)
class Drawn:
    """The outcome of drawing a scan's pictures.

    Attributes:
        id: of the scan.
        pictures: how many were drawn.
        problem: why others were not; empty if all were.
    """

    id: str
    pictures: int
    problem: str = ""


def missing_pictures(
    folder: Path, record: ScanRecord, methods: Sequence[MethodOutline], channels: Sequence[str]
) -> ScanPictures | None:
    """The pictures of a scan that can be drawn and are missing; None if there are none."""
    names = Names(record.stem)
    pictures = []
    for row in record.rows:
        lesion = f"Lesion {row['label']} ({row['kind']}, {row['volume_mm3']:.0f} mm³)"
        for method in methods:
            name = names.picture(row["label"], method.name)
            maps = tuple(names.map(row["label"], file) for file in method.files)
            if set(maps) <= set(record.files) and not (folder / name).exists():
                title = f"{lesion} of {record.id}{method.subtitle}"
                note = caption(row) if method.scale == "diverging" else ""
                pictures.append(Picture(name, row["label"], title, maps, method, note))
    if not pictures:
        return None
    images = {channel: record.inputs.get(channel) for channel in channels}
    mask = record.inputs.get("mask")
    return ScanPictures(record.id, images, names.labels, tuple(pictures), mask)


def draw_pictures(
    folder: Path,
    scans: Sequence[ScanPictures],
    processes: int | None = None,
    on_scan: OnPart = lambda done, scans: None,
) -> list[Drawn]:
    """Draws pictures; where that is not possible for a scan, the others are drawn all the same.

    Args:
        folder: the cohort's.
        scans: what to draw.
        processes: how many draw at once, each a scan; None: one per CPU core.
        on_scan: called after every scan.

    Returns:
        The outcome for each scan.

    Raises:
        InputError: the number of processes is not positive, one of them was ended, or a picture
            cannot be written.
    """
    results = []
    with in_processes(partial(draw, folder), scans, processes) as drawn:
        for result in drawn:
            results.append(result)
            on_scan(len(results), len(scans))
    return results


def draw(folder: Path, scan: ScanPictures) -> Drawn:
    """Draws a scan's pictures into the cohort's folder."""
    try:
        image, grid = unchanged_image(scan.images, scan.mask)
        require_inside(folder, [scan.labels])
        labels = read_labels(folder / scan.labels, grid)
    except Exception as error:  # of whatever kind, the other scans' are drawn
        return Drawn(scan.id, 0, f"no pictures: {_reason(error)}")
    problems = []
    for picture in scan.pictures:
        try:
            require_inside(folder, [picture.name])
            saliency, origin = read_map([folder / name for name in picture.maps], grid)
            figure = lesion_figure(
                image,
                labels,
                picture.label,
                saliency,
                origin,
                grid,
                list(scan.images),
                picture.title,
                picture.method.units,
                picture.method.scale,
                note=picture.note,
            )
        except Exception as error:
            problems.append(f"no picture of lesion {picture.label}: {_reason(error)}")
            continue
        path = folder / picture.name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_figure(figure, path)
    return Drawn(scan.id, len(scan.pictures) - len(problems), "; ".join(problems))


def _reason(error: Exception) -> str:
    own = isinstance(error, JaxsalError | OSError)
    return str(error) if own else f"{type(error).__name__}: {error}"
