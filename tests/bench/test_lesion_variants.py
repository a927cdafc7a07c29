"""Variants of a scan: what is added, and what of it is labelled."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

import bench.lesion_variants
from bench.lesion_variants import CHANNELS, Kinds, make_variant, run, shapes_of
from jaxsal.grid import Grid
from jaxsal.inputs.manifest import read_manifest
from jaxsal.training.config import read_config

SIZE = (40, 44, 40)
GRID = Grid(SIZE, np.eye(4))


def make_scan() -> tuple[np.ndarray, np.ndarray]:
    """A head, a ball of even white matter with one lesion, in a shell that is dark on T1."""
    depth = 14 - distance_from((20, 22, 20))
    tissue = np.stack([np.full(SIZE, 100), np.where(depth > 2, 100, 40)], axis=-1)
    noise = np.random.default_rng(0).standard_normal(tissue.shape)
    images = np.where(depth[..., None] > 0, tissue + noise, 0)
    lesions = distance_from((20, 22, 14)) < 2
    return images.astype(np.float32), lesions


def distance_from(centre: tuple[int, int, int]) -> np.ndarray:
    return np.linalg.norm(np.moveaxis(np.indices(SIZE), 0, -1) - centre, axis=-1)


def make_mask() -> np.ndarray:
    """Three lesions in white matter, one across the head's border, and a voxel, which is none."""
    centres = [(14, 22, 22), (24, 18, 22), (24, 28, 20), (20, 8, 20)]
    mask = np.min([distance_from(c) for c in centres], axis=0) < 2
    mask[20, 22, 28] = True
    return mask


def variant(kinds: Kinds, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    masks = [shapes_of(make_mask(), GRID)]
    return make_variant(np.random.default_rng(seed), *make_scan(), masks, kinds)


def test_lesions_lie_where_the_masks_have_them_in_white_matter_bright_on_flair_dark_on_t1() -> None:
    (images, lesions), (before, own) = variant(Kinds(lesions=9)), make_scan()
    added = lesions & ~own
    assert ndimage.label(added)[1] == 3
    assert (make_mask() | own)[lesions].all()
    change = images - before
    assert change[added][:, 0].min() > 0 > change[added][:, 1].max()


@pytest.mark.parametrize("kinds", [Kinds(0, decoys=10), Kinds(0, one_channel=3)], ids=str)
def test_decoys_are_not_labelled(kinds: Kinds) -> None:
    (images, lesions), (before, own) = variant(kinds), make_scan()
    np.testing.assert_array_equal(lesions, own)
    assert (images != before).any()


def test_decoys_lie_outside_the_head_too() -> None:
    before, _ = make_scan()
    outside = ~before.any(-1)
    assert variant(Kinds(0, decoys=10))[0][outside].any()
    assert not variant(Kinds(3, one_channel=3))[0][outside].any()


def test_a_decoy_of_one_channel_leaves_the_other_as_it_was() -> None:
    before, _ = make_scan()
    changed = variant(Kinds(0, one_channel=3))[0] != before
    assert changed.any((0, 1, 2)).any()
    assert not changed.all(-1).any()


def test_around_a_cut_out_lesion_all_is_zero_and_it_is_not_labelled() -> None:
    whole, labelled = variant(Kinds(lesions=1))
    images, lesions = variant(Kinds(lesions=1, cut_outs=1))
    gone = whole.any(-1) & ~images.any(-1)
    assert gone.sum() > 500
    lesion = labelled & ~make_scan()[1]
    assert lesion.any()
    assert not lesions[lesion].any()
    np.testing.assert_array_equal(images[lesion], whole[lesion])


def test_the_seed_makes_the_variant() -> None:
    kinds = Kinds(2, 4, 1, 1)
    for one, other in zip(variant(kinds, 1), variant(kinds, 1), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (variant(kinds, 1)[0] != variant(kinds, 2)[0]).any()


def test_a_table_lists_the_patients_and_their_variants_with_masks_of_others(tmp_path: Path) -> None:
    (images, lesions), masks = make_scan(), tmp_path / "masks"
    masks.mkdir()
    arrays = {"a": images[..., 0], "b": images[..., 1], "c": lesions.astype(np.uint8)}
    arrays |= {"masks/own": arrays["c"], "masks/other": make_mask().astype(np.uint8)}
    for name, array in arrays.items():
        nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / f"{name}.nii.gz")
    table = tmp_path / "scans.tsv"
    table.write_text("scan\tflair\tt1\treference\np\ta.nii.gz\tb.nii.gz\tc.nii.gz\n")
    run(table, masks, tmp_path / "out", variants=2, seed=0, kinds=Kinds(9))
    entries = read_manifest(tmp_path / "out" / "scans.tsv", CHANNELS)
    assert [entry.id for entry in entries] == ["p", "pv0", "pv1"]
    for entry in entries:
        for path in (*entry.scan.images, entry.scan.reference):
            assert nib.load(path).shape == SIZE
    made = np.asarray(nib.load(entries[1].scan.reference).dataobj)
    assert ndimage.label(made)[1] == 4


def test_a_folder_without_masks_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    table = tmp_path / "scans.tsv"
    table.write_text("scan\tflair\tt1\treference\np\ta.nii.gz\tb.nii.gz\tc.nii.gz\n")
    with pytest.raises(SystemExit, match="must hold masks"):
        run(table, tmp_path, tmp_path / "out", variants=1, seed=0, kinds=Kinds())
    assert not (tmp_path / "out").exists()


def test_the_configuration_is_one_that_training_takes() -> None:
    config = read_config(Path(bench.lesion_variants.__file__).with_suffix(".toml"))
    assert config.start is not None
    assert config.run.steps == 400
