"""NIfTI files: images, label maps, parcellations."""

from __future__ import annotations

import gzip
import struct
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from fuzz.judging import Files, Kind
from fuzz.values import damaged
from hypothesis import strategies as st

from jaxsal.grid import Grid
from jaxsal.inputs.parcellation import read_parcellation
from jaxsal.volumes import read_grid, read_labels, read_mask, read_volume

SHAPE = (5, 6, 4)
BEGIN = 352  # of the voxels
# fields of a NIfTI-1 header: where they stand, and in which form
FIELDS = {
    "sizeof_hdr": (0, "i"),
    "dim": (40, "8h"),
    "datatype": (70, "h"),
    "bitpix": (72, "h"),
    "pixdim": (76, "8f"),
    "vox_offset": (108, "f"),
    "scl_slope": (112, "f"),
    "scl_inter": (116, "f"),
    "xyzt_units": (123, "b"),
    "qform_code": (252, "h"),
    "sform_code": (254, "h"),
    "quatern": (256, "6f"),
    "srow": (280, "12f"),
    "magic": (344, "4s"),
}
_FLOATS = (*(0.0, 1.0, -1.0, 1e-30, 1e30, 352.0, 351.5, 1e9), *map(float, ("nan", "inf", "-inf")))
_SHORTS = (0, 1, -1, 2, 3, 4, 5, 7, 8, 16, 32, 64, 128, 256, 512, 1024, 1792, 2304, 32767, -32768)


@cache
def nifti(labels: bool = False) -> bytes:
    """A sound file, not compressed."""
    voxels = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE) + 1
    image = nib.Nifti1Image((voxels % 3).astype(np.int16) if labels else voxels, np.eye(4))
    image.header.set_xyzt_units("mm")
    return bytes(image.to_bytes())


def with_field(content: bytes, name: str, *values: Any) -> bytes:
    """The file with other values in a field of its header; of several, the first ones."""
    place, form = FIELDS[name]
    before = struct.unpack_from(f"<{form}", content, place)
    changed = bytearray(content)
    struct.pack_into(f"<{form}", changed, place, *(*values, *before[len(values) :]))
    return bytes(changed)


@st.composite
def _headers(draw: st.DrawFn, content: bytes) -> bytes:
    """The file with some fields of its header changed, at any of their places."""
    for name in draw(st.lists(st.sampled_from([*FIELDS]), min_size=1, max_size=3)):
        place, form = FIELDS[name]
        values = list(struct.unpack_from(f"<{form}", content, place))
        for _ in range(draw(st.integers(1, 3))):
            known = _FLOATS if form[-1] == "f" else _SHORTS
            value: Any = draw(st.sampled_from(known))
            if form[-1] == "b":
                value = int(value) % 128
            if form[-1] == "s":
                value = draw(st.sampled_from([b"n+1\0", b"n+2\0", b"ni1\0", b"\0" * 4]))
            values[draw(st.integers(0, len(values) - 1))] = value
        content = with_field(content, name, *values)
    return content


@st.composite
def _voxels(draw: st.DrawFn, content: bytes) -> bytes:
    """The file with the bytes of some voxels changed."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        changed[draw(st.integers(BEGIN, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(changed)


@st.composite
def _packed(draw: st.DrawFn, content: bytes) -> bytes:
    """The file compressed, whole or not, once, twice, or with something behind."""
    packed = gzip.compress(content, 1)
    way = draw(
        st.sampled_from(["whole", "whole", "damaged", "twice", "zeros", "rubbish", "within"])
    )
    if way == "damaged":
        return draw(damaged(packed))
    if way == "twice":
        return packed + packed
    if way == "zeros":
        return packed + gzip.compress(bytes(draw(st.sampled_from([10, 2**20, 2**26]))), 1)
    if way == "rubbish":
        return packed + draw(st.binary(min_size=1, max_size=20))
    return gzip.compress(packed) if way == "within" else packed


def niftis(content: bytes) -> st.SearchStrategy[bytes]:
    """Files from a sound one that is not compressed."""
    plain = st.one_of(*[_headers(content)] * 4, _voxels(content), damaged(content))
    return st.one_of(plain, plain.flatmap(_packed), _packed(content))


def _image(folder: Path) -> None:
    read_grid(folder / "image.nii")
    read_volume(folder / "image.nii")


IMAGE = Kind(
    "NIfTI image",
    lambda: {"image.nii": nifti()},
    lambda sound: niftis(nifti()).map(lambda content: {"image.nii": content}),
    _image,
    (
        lambda _: {"image.nii": with_field(nifti(), "dim", 3, 32767, 32767, 32767)},
        lambda _: {"image.nii": gzip.compress(with_field(nifti(), "dim", 3, 2000, 1000, 500))},
        lambda _: {"image.nii": gzip.compress(nifti()) + gzip.compress(bytes(2**28))},
        lambda _: {"image.nii": with_field(nifti(), "pixdim", 1, float("nan"))},
        lambda _: {"image.nii": with_field(nifti(), "srow", float("inf"))},
    ),
)


def _labels(folder: Path) -> None:
    grid = Grid(SHAPE, np.eye(4))
    path = folder / "labels.nii"
    read_labels(path, grid)
    read_mask(path, grid)


LABELS = Kind(
    "label map",
    lambda: {"labels.nii": nifti(labels=True)},
    lambda sound: niftis(nifti(labels=True)).map(lambda content: {"labels.nii": content}),
    _labels,
)


def _parcellation(folder: Path) -> None:
    grid = Grid(SHAPE, np.eye(4))
    found = read_parcellation(
        folder / "regions.nii", folder / "names.tsv", grid, np.ones(SHAPE, bool)
    )
    assert found.regions_of(np.ones(SHAPE, int))


def _parcellations(sound: Files) -> st.SearchStrategy[Files]:
    names = sound["names.tsv"]
    assert isinstance(names, bytes)
    maps = niftis(nifti(labels=True)).map(lambda content: {"regions.nii": content})
    cells = st.sampled_from(
        ["1", "2", "3", "-1", "1e9", "²", "9" * 5000, "", "a\tb", '"', "x" * 200_000]
    )
    rows = st.lists(st.tuples(cells, cells), max_size=5)
    text = rows.map(lambda rows: "index\tname\n" + "".join(f"{a}\t{b}\n" for a, b in rows))
    tables = st.one_of(damaged(names), text.map(str.encode))
    return st.one_of(maps, tables.map(lambda content: {"names.tsv": content}))


PARCELLATION = Kind(
    "parcellation, names",
    lambda: {"regions.nii": nifti(labels=True), "names.tsv": b"index\tname\n1\tone\n2\ttwo\n"},
    _parcellations,
    _parcellation,
)
