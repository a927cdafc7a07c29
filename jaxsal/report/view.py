"""The interactive view of a page: a scan, its lesions and their maps, ready for NiiVue."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from matplotlib.colors import to_rgb

from jaxsal.approximated import caption
from jaxsal.figures.palette import CHOSEN, COLD, FRAME, HOT, OTHERS, PAPER
from jaxsal.report.niivue import MISSING, niivue
from jaxsal.report.packing import Packed, pack_labels, pack_map, pack_scan
from jaxsal.report.template import fill

if TYPE_CHECKING:
    from jaxsal.tables import Value
    from jaxsal.types import Scale

WHOLE_SCAN = {
    "prediction": ("lesion probability", "0 to 1", 1.0),
    "entropy": ("entropy", "nats", math.log(2)),
    "variance": ("variance over the members", "squared probability", 0.25),
}
"""Volumes of the whole scan that a view can show: what they are, their units, their limit."""

Address = Callable[[Path], str]
"""From a file to where the page finds it."""

FADED = 0.15
"""Part of the colour range up to which colours are transparent to some degree, as in pictures."""


@dataclass(frozen=True)
class Layer:
    """What can be drawn over the scan.

    Attributes:
        name: of it.
        units: of its values.
        scale: of its colours.
        files: NIfTI, by the lesion's label: one per channel, or one for all of them. None instead
            of a label: that of every lesion.
        peaks: likewise, their largest magnitudes, for files that are not read.
    """

    name: str
    units: str
    scale: Scale
    files: Mapping[int | None, Sequence[Path]]
    peaks: Mapping[int | None, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class ScanView:
    """The files of an interactive view.

    Attributes:
        images: NIfTI of the scan, by channel.
        labels: NIfTI, the label map of its lesions.
        layers: what can be drawn over them, the first at first.
        whole: whether the lesions are shown as one, as at class level.
    """

    images: Mapping[str, Path]
    labels: Path
    layers: Sequence[Layer]
    whole: bool = False


@dataclass(frozen=True)
class Embedded:
    """A view as the template embeds it.

    Attributes:
        data: JSON, in which volumes have names.
        volumes: their content in base64, by name.
        library: the module of NiiVue, as JSON.
        channels: of the scan.
        notes: what cannot be shown, in sentences.
    """

    data: Markup
    volumes: Mapping[str, str]
    library: Markup
    channels: Sequence[str]
    notes: Sequence[str] = ()


@dataclass
class _Volumes:
    """Volumes by the names that they are given here.

    Attributes:
        address: where the page finds files; None: in itself.
        packed: those that it holds, in base64.
        notes: what cannot be shown of them, in sentences.
    """

    address: Address | None = None
    packed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, volume: Packed) -> str | None:
        """The name of a volume; None for one with nothing to draw."""
        if volume.content is None:
            return None
        name = f"volume-{len(self.packed)}"
        self.packed[name] = base64.b64encode(volume.content).decode()
        return name

    def images(self, paths: Sequence[Path]) -> list[str | None]:
        """The names of a scan's images."""
        if self.address is not None:
            return [self.address(path) for path in paths]
        return [self.add(packed) for packed in pack_scan(paths)]

    def map(self, path: Path, peak: float) -> dict[str, Any]:
        """The name of a map, and its largest magnitude; notes voxels that are no numbers."""
        if self.address is not None:
            return {"volume": self.address(path), "peak": peak}
        packed = pack_map(path)
        if packed.missing:
            self.notes.append(
                f"{path.name} holds {packed.missing:,} voxels that are no numbers (NaN or "
                "infinite); they are left transparent."
            )
        return {"volume": self.add(packed), "peak": packed.peak}


def embed(
    view: ScanView,
    rows: Sequence[Mapping[str, Value]],
    identity: str = "",
    *,
    scan: str = "",
    place: str = "",
    address: Address | None = None,
) -> Embedded | None:
    """A view as a page holds it; None if NiiVue is not installed.

    Args:
        view: its files.
        rows: of the lesions, in the order in which they are gone through.
        identity: of the results: ratings are kept by it.
        scan: what the scan is called among others.
        place: the folder of the files, for the reader.
        address: where the page finds images and maps; None: it holds them.

    Raises:
        InputError: a file cannot be read.
    """
    module = niivue()
    if module is None:
        return None
    volumes = _Volumes(address)
    names = volumes.images(list(view.images.values()))
    labels, around = pack_labels(view.labels)
    data = {
        "channels": [
            {"name": channel, "volume": name}
            for channel, name in zip(view.images, names, strict=True)
        ],
        "labels": volumes.add(labels),
        "outlines": volumes.add(around),
        "whole": view.whole,
        "layers": [_layer(layer, volumes) for layer in view.layers],
        "lesions": [lesion(row) for row in rows],
        "colours": colours(),
        "scan": scan,
        "place": place,
        "id": hashlib.sha256(identity.encode()).hexdigest()[:16],
    }
    return Embedded(
        embedded(json.dumps(data, allow_nan=False)),
        volumes.packed,
        embedded(json.dumps(module)),
        list(view.images),
        volumes.notes,
    )


def view_page(view: ScanView, scan: str, rows: Sequence[Mapping[str, Value]], **how: Any) -> str:
    """HTML of a page with nothing but a scan's view.

    Args:
        view: its files.
        scan: what the scan is called.
        rows: of its lesions.
        how: as for `embed`.

    Raises:
        InputError: a file cannot be read.
    """
    shown = embed(view, rows, scan=scan, **how)
    return fill(
        "scan_view.html.jinja", title=scan, view=shown, without=MISSING, banner="", facts={}
    )


def lesion(row: Mapping[str, Value]) -> dict[str, Any]:
    """What the view knows of a lesion: its label, kind and centroid in world coordinates, mm."""
    place = [row.get(f"{axis}_mm") for axis in "xyz"]
    known = all(isinstance(each, int | float) and math.isfinite(each) for each in place)
    return {
        "label": row["label"],
        "kind": row.get("kind"),
        "place": [float(each) for each in place if each is not None] if known else None,
        "note": caption(row),
    }


def _layer(layer: Layer, volumes: _Volumes) -> dict[str, Any]:
    maps = {}
    for label, paths in layer.files.items():
        peaks = layer.peaks.get(label, [0.0] * len(paths))
        found = [volumes.map(path, peak) for path, peak in zip(paths, peaks, strict=True)]
        maps["" if label is None else str(label)] = found
    return {
        "name": layer.name,
        "units": layer.units,
        "scale": layer.scale,
        "limit": max((each["peak"] for found in maps.values() for each in found), default=0.0),
        "maps": maps,
    }


def embedded(text: str) -> Markup:
    """JSON inside a script element, which no text in it can end, nor open a comment."""
    return Markup(text.replace("<", "\\u003c"))


def colours() -> dict[str, Any]:
    """The colours of the pictures, as NiiVue takes them."""
    return {
        "positive": colour_map(HOT),
        "negative": colour_map(COLD),
        "paper": [*to_rgb(PAPER), 1],
        "crosshair": [*to_rgb(FRAME), 1],
        "outlines": _outlines(),
    }


def _outlines() -> dict[str, list[int]]:
    """From 0.5 to 2: nothing, then other lesions' colour, then the chosen one's."""
    red, green, blue = zip(_bytes(OTHERS), _bytes(CHOSEN), strict=True)
    table = {
        letter: [low, low, low, high, high]
        for letter, (low, high) in zip("RGB", (red, green, blue), strict=True)
    }
    return {**table, "A": [0, 255, 255, 255, 255], "I": [0, 40, 130, 200, 255]}


def colour_map(ramp: Sequence[str]) -> dict[str, list[int]]:
    """Colours from weak to strong, which fade out towards zero; see `colour_map` of pictures.

    Args:
        ramp: colours at equal steps, from weak to strong.

    Returns:
        R, G, B, A from 0 to 255 at the places I, from 0 to 255.
    """
    places = [round(255 * i / (len(ramp) - 1)) for i in range(len(ramp))]
    nodes = sorted(dict.fromkeys([*places, round(255 * FADED)]))
    table = {letter: [0 for _ in nodes] for letter in "RGBA"}
    for i, place in enumerate(nodes):
        below = max(n for n, at in enumerate(places) if at <= place)
        above = min(below + 1, len(ramp) - 1)
        share = (place - places[below]) / max(1, places[above] - places[below])
        for letter, low, high in zip("RGB", _bytes(ramp[below]), _bytes(ramp[above]), strict=True):
            table[letter][i] = round(low + share * (high - low))
        table["A"][i] = round(255 * min(1.0, place / 255 / FADED))
    return {**table, "I": nodes}


def _bytes(colour: str) -> list[int]:
    return [round(255 * part) for part in to_rgb(colour)]
