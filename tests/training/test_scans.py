from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from helpers import tiny
from scipy import ndimage

from jaxsal.errors import InputError, OutputError
from jaxsal.inputs.entries import Entry, Scan
from jaxsal.preprocessing import Normalisation, Preprocessing
from jaxsal.training import scans as module
from jaxsal.training.scans import open_scans

SPACING = tuple(np.linalg.norm(tiny.oblique_affine()[:3, :3], axis=0))


def make_mask() -> np.ndarray:
    """Three lesions by edges, of 27, 2 and 1 voxels; the last two touch by a corner."""
    mask = np.zeros(tiny.SHAPE, np.uint8)
    mask[9:12, 9:12, 9:12] = 1
    mask[14, 14, 9] = mask[15, 15, 9] = mask[16, 16, 10] = 1
    return mask


def make_entry(folder: Path, subject: str = "07", seed: int = 7) -> Entry:
    folder.mkdir(exist_ok=True)
    files = tiny.make_scan(folder, seed)
    reference = tiny.save(folder / "lesions.nii.gz", make_mask())
    return Entry(f"scan {subject}", Scan(files.images, reference), {"subject": subject})


def opened(entry: Entry, cache: Path, preprocessing: Preprocessing | None = None):
    (scan,) = open_scans([entry], tiny.CHANNELS, preprocessing, cache)
    return scan


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Scan]:
    """The scans whose files were read."""
    found: list[Scan] = []
    load_scan = module.load_scan

    def counted(scan: Scan, *options):
        found.append(scan)
        return load_scan(scan, *options)

    monkeypatch.setattr(module, "load_scan", counted)
    return found


def test_a_scan_is_read_as_the_network_takes_it(tmp_path: Path) -> None:
    scan = opened(make_entry(tmp_path), tmp_path / "cache")
    expected = tiny.make_scan(tmp_path).image
    assert isinstance(scan.image, np.memmap)
    assert (scan.id, scan.shape) == ("scan 07", tiny.SHAPE)
    assert scan.image.dtype == np.float32
    np.testing.assert_allclose(scan.image, expected, atol=1e-5)


def test_lesions_are_components_by_faces_and_edges_however_small(tmp_path: Path) -> None:
    scan = opened(make_entry(tmp_path), tmp_path / "cache")
    expected, count = ndimage.label(make_mask(), ndimage.generate_binary_structure(3, 2))
    assert scan.lesions == count == 3
    for lesion in range(count):
        voxels = scan.voxels[scan.starts[lesion] : scan.starts[lesion + 1]]
        np.testing.assert_array_equal(voxels, np.argwhere(expected == lesion + 1))


def test_the_preprocessing_of_the_network_is_applied_and_its_box_cut(tmp_path: Path) -> None:
    preprocessing = Preprocessing((Normalisation("none"),) * 2, SPACING, tiny.ROI, crop=True)
    scan = opened(make_entry(tmp_path), tmp_path / "cache", preprocessing)
    raw = np.stack([tiny.load(tmp_path / f"{c}.nii.gz") for c in tiny.CHANNELS], axis=-1)
    box = ndimage.find_objects((raw != 0).any(-1).astype(int))[0]
    assert scan.shape != tiny.SHAPE
    np.testing.assert_array_equal(scan.image, raw[box].astype(np.float32))
    found = np.zeros(scan.shape, bool)
    found[tuple(scan.voxels.T)] = True
    np.testing.assert_array_equal(found, make_mask()[box] > 0)


def test_a_copy_is_used_again_until_a_file_changes(tmp_path: Path, reads: list[Scan]) -> None:
    entry, cache = make_entry(tmp_path), tmp_path / "cache"
    opened(entry, cache)
    os.utime(entry.scan.images[0])  # the same content
    opened(entry, cache)
    assert len(reads) == 1
    mask = make_mask()
    mask[9:12, 9:12, 9:12] = 0
    tiny.save(entry.scan.reference, mask)
    assert opened(entry, cache).lesions == 2
    assert len(reads) == 2


def test_another_preprocessing_has_a_copy_of_its_own(tmp_path: Path, reads: list[Scan]) -> None:
    entry, cache = make_entry(tmp_path), tmp_path / "cache"
    whole = Preprocessing((Normalisation("none"),) * 2, SPACING, tiny.ROI)
    for preprocessing in (None, whole, None, whole):
        scan = opened(entry, cache, preprocessing)
    assert len(reads) == 2
    assert scan.image.max() > 100


def test_a_copy_that_was_not_finished_is_made_anew(
    tmp_path: Path, reads: list[Scan], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, cache = make_entry(tmp_path), tmp_path / "cache"

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            opened(entry, cache)
    assert opened(entry, cache).lesions == 3
    (image,) = cache.glob("*/image.npy")
    image.unlink()
    assert opened(entry, cache).image.shape == (*tiny.SHAPE, 2)
    assert len(reads) == 3


def test_a_scan_without_lesions_is_opened(tmp_path: Path) -> None:
    entry = make_entry(tmp_path)
    tiny.save(entry.scan.reference, np.zeros(tiny.SHAPE, np.uint8))
    scan = opened(entry, tmp_path / "cache")
    assert (scan.lesions, scan.voxels.shape) == (0, (0, 3))


def test_all_scans_without_a_reference_are_named(tmp_path: Path) -> None:
    entries = [make_entry(tmp_path, str(n)) for n in range(3)]
    for n in (0, 2):
        entries[n] = Entry(entries[n].id, Scan(entries[n].scan.images), entries[n].entities)
    with pytest.raises(InputError, match=r"(?s)2 problems.*scan 0: no mask.*scan 2: no mask"):
        open_scans(entries, tiny.CHANNELS, None, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_all_scans_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    entries = [make_entry(tmp_path / str(n), str(n), seed=n) for n in range(3)]
    entries[0].scan.images[0].unlink()
    tiny.save(entries[2].scan.reference, make_mask()[1:])
    with pytest.raises(InputError, match=r"(?s)2 problems.*scan 0: .*flair.*scan 2: .*shape"):
        open_scans(entries, tiny.CHANNELS, None, tmp_path / "cache")


def test_an_image_named_after_another_channel_is_warned_of(tmp_path: Path) -> None:
    entry = make_entry(tmp_path)
    swapped = Entry("x", Scan(entry.scan.images[::-1], entry.scan.reference), entry.entities)
    with pytest.warns(UserWarning, match="taken for the channel") as told:
        opened(swapped, tmp_path / "cache")
    assert [str(warning.message).partition(" is")[0] for warning in told] == [
        "x: t1.nii.gz",
        "x: flair.nii.gz",
    ]


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(OutputError, match="cannot write the copies"):
        opened(make_entry(tmp_path), tmp_path / "cache")
