"""The interactive view of a cohort: images beside the pictures, and a page of each scan."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jaxsal.cohort.columns import MethodOutline, Outline
from jaxsal.cohort.storage.folder import CohortFolder
from jaxsal.cohort.storage.names import Names
from jaxsal.errors import InputError, JaxsalError
from jaxsal.processes import in_processes
from jaxsal.report.packing import pack_scan
from jaxsal.report.view import WHOLE_SCAN, Layer, ScanView, view_page
from jaxsal.store.files import whole_file
from jaxsal.store.inside import require_inside
from jaxsal.store.records import ScanRecord, Stamp


@dataclass(frozen=True)
class ScanImages:
    """The images of a scan that the view lacks.

    Attributes:
        id: of the scan.
        images: by the names that they get in the cohort's folder, as they were.
    """

    id: str
    images: Mapping[str, Stamp | None]


def missing_images(folder: Path, record: ScanRecord, channels: Sequence[str]) -> ScanImages | None:
    """The images that the view of a scan lacks; None if it lacks none, or has no map to show."""
    names = Names(record.stem)
    images = {names.view(channel): record.inputs.get(channel) for channel in channels}
    if not record.rows or all((folder / name).exists() for name in images):
        return None
    return ScanImages(record.id, images)


def write_images(
    folder: Path, scans: Sequence[ScanImages], processes: int | None = None
) -> dict[str, str]:
    """Writes images for the view, cut and rounded as pages hold them; see `jaxsal.report.packing`.

    Args:
        folder: the cohort's.
        scans: what to write.
        processes: how many work at once, each on a scan; None: one per CPU core.

    Returns:
        Why others were not written, by scan.
    """
    with in_processes(partial(_write, folder), scans, processes) as results:
        found = dict(zip([scan.id for scan in scans], results, strict=True))
    return {scan: problem for scan, problem in found.items() if problem}


def _write(folder: Path, scan: ScanImages) -> str:
    try:
        require_inside(folder, scan.images)
        paths = [_unchanged(stamp) for stamp in scan.images.values()]
        for name, packed in zip(scan.images, pack_scan(paths), strict=True):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with whole_file(folder / name) as file:
                file.write(packed.content or b"")
    except (JaxsalError, OSError) as error:
        return f"no interactive view: {error}"
    return ""


def _unchanged(stamp: Stamp | None) -> Path:
    if stamp is None or not stamp.is_same(Path(stamp.file)):
        what = "an image" if stamp is None else stamp.file
        raise InputError(f"{what} is not what it was when it was explained")
    return Path(stamp.file)


def addresses(folder: CohortFolder, channels: Sequence[str]) -> dict[str, str]:
    """Where `page_of` finds the page of each scan that has one, by the scan's id."""
    return {
        record.id: f"view/{record.stem}.html"
        for record in folder.records()
        if record.rows and missing_images(folder.root, record, channels) is None
    }


def page_of(folder: CohortFolder, name: str) -> str | None:
    """The page of a scan's view, which loads volumes from the cohort's folder.

    Args:
        folder: the cohort's, with the images of `write_images`.
        name: one of `addresses`.

    Returns:
        HTML; None for any other name.

    Raises:
        InputError: the label map cannot be read.
    """
    stem = name.removeprefix("view/").removesuffix(".html")
    record = folder.record(stem) if name == f"view/{stem}.html" and "/" not in stem else None
    if record is None or not record.rows:
        return None
    run = folder.run()
    names, root = Names(stem), folder.root
    channels = run["identity"]["model"]["channels"]
    layers = [_layer(root, record, method) for method in Outline.read(run).methods]
    others = {"prediction": names.probability}
    others |= {kind: names.uncertainty(kind) for kind in ("entropy", "variance")}
    for kind, file in others.items():
        if file in record.files:
            title, units, limit = WHOLE_SCAN[kind]
            layers.append(Layer(title, units, "sequential", {None: [root / file]}, {None: [limit]}))
    images = {channel: root / names.view(channel) for channel in channels}
    require_inside(root, [names.labels])
    view = ScanView(images, root / names.labels, [each for each in layers if each.files])
    return view_page(
        view,
        record.id,
        record.rows,
        identity=f"{root.resolve()} {run['identity']}",  # which does not say whose scans these are
        place=str(root.resolve()),
        address=lambda path: "../" + quote(path.relative_to(root).as_posix()),
    )


def _layer(root: Path, record: ScanRecord, method: MethodOutline) -> Layer:
    """A method's maps, with what the table says of their peaks."""
    names = Names(record.stem)
    files: dict[int | None, list[Path]] = {}
    peaks: dict[int | None, list[float]] = {}
    for row in record.rows:
        own = [names.map(row["label"], file) for file in method.files]
        if set(own) <= set(record.files):
            files[row["label"]] = [root / name for name in own]
            peaks[row["label"]] = [_peak(row, name) for name in method.maps]
    return Layer(method.name, method.units, method.scale, files, peaks)


def _peak(row: Mapping[str, Any], name: str) -> float:
    """The largest magnitude of a map; 0 where it is not known, or no number."""
    extremes = [row.get(f"{name}_{extreme}") for extreme in ("max", "min")]
    return max((abs(e) for e in extremes if e is not None and math.isfinite(e)), default=0.0)
