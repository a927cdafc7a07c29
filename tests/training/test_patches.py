from __future__ import annotations

import itertools
import sys
import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import ndimage, stats

from jaxsal.errors import InputError
from jaxsal.training.patches import PatchSettings, patch_batches
from jaxsal.training.scans import TrainingScan, lesion_voxels

SHAPE, SIZE = (14, 12, 10), (6, 5, 4)
SETTINGS = PatchSettings(SIZE, batch=3, lesion_share=0.5, workers=0)
# Lesions of 64, 2 and 1 voxels, one of them in a corner.
LESIONS = (np.s_[4:8, 4:8, 3:7], np.s_[10, 2:4, 8], np.s_[13, 11, 9])


def make_scan(name: str = "a", shape: Sequence[int] = SHAPE, lesions=LESIONS) -> TrainingScan:
    """A scan whose first channel tells which voxel it is of, from 1 on, the second the lesion."""
    labels = np.zeros(shape, np.int16)
    for number, place in enumerate(lesions, start=1):
        labels[place] = number
    index = np.arange(1, labels.size + 1).reshape(shape)
    image = np.stack([index, labels], axis=-1).astype(np.float32)
    return TrainingScan(name, image, *lesion_voxels(labels))


def draw(scans: Sequence[TrainingScan], settings=SETTINGS, seed=1, start=0, count=20):
    batches = patch_batches(scans, settings, seed, start)
    try:
        return list(itertools.islice(batches, count))
    finally:
        batches.close()


def patches(batches) -> list[tuple[np.ndarray, np.ndarray]]:
    return [pair for b in batches for pair in zip(b["image"], b["labels"], strict=True)]


def assert_same(found, expected) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])
        np.testing.assert_array_equal(one["labels"], other["labels"])


def test_batches_are_stacked_patches_of_the_right_types() -> None:
    (batch,) = draw([make_scan()], count=1)
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
        "image": ((3, *SIZE, 2), np.float32),
        "labels": ((3, *SIZE), np.int32),
    }


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch", [1, 4, 5, 64])
@pytest.mark.parametrize("start", [0, 7])
def test_batches_are_of_any_number_of_patches(batch: int, workers: int, start: int) -> None:
    settings = PatchSettings(SIZE, batch=batch, workers=workers)
    (found,) = draw([make_scan()], settings, start=start, count=1)
    assert len(found["image"]) == len(found["labels"]) == batch


@pytest.mark.parametrize("workers", [1, 4])
def test_threads_do_not_change_the_batches(workers: int) -> None:
    threaded = PatchSettings(SIZE, batch=3, workers=workers)
    scans = [make_scan("a"), make_scan("b", (9, 9, 9), LESIONS[:1])]
    assert_same(draw(scans, threaded), draw(scans))


def test_seeds_draw_different_patches() -> None:
    one, other = draw([make_scan()], seed=1), draw([make_scan()], seed=2)
    same = [np.array_equal(a["image"], b["image"]) for a, b in zip(one, other, strict=True)]
    assert not any(same)


@pytest.mark.parametrize("workers", [0, 2])
def test_starting_late_is_skipping(workers: int) -> None:
    settings = PatchSettings(SIZE, batch=3, workers=workers)
    assert_same(draw([make_scan()], settings, start=7, count=5), draw([make_scan()], count=12)[7:])


def test_the_iterator_is_set_back_to_its_state() -> None:
    batches = patch_batches([make_scan()], SETTINGS, seed=3, start=4)
    next(batches)
    state = batches.get_state()
    expected = [next(batches) for _ in range(3)]
    batches.set_state(state)
    assert_same([next(batches) for _ in range(3)], expected)


def test_patches_are_cut_out_of_the_scan_with_lesions_renumbered() -> None:
    scan = make_scan()
    for image, labels in patches(draw([scan])):
        first = np.array(np.unravel_index(int(image[0, 0, 0, 0]) - 1, SHAPE))
        box = tuple(slice(a, a + n) for a, n in zip(first, SIZE, strict=True))
        np.testing.assert_array_equal(image, scan.image[box])
        numbers = (
            stats.rankdata(np.append(0, scan.image[(*box, 1)].astype(int).ravel()), "dense")[1:] - 1
        )
        np.testing.assert_array_equal(labels.ravel(), numbers)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_the_share_of_patches_has_lesions(share: float) -> None:
    # Where a lesion is one voxel of many, hardly another patch holds it by chance.
    scan = make_scan("a", (60, 60, 60), [np.s_[30, 30, 30]])
    found = patches(draw([scan], PatchSettings(SIZE, 3, share, 0), count=100))
    held = sum(bool(labels.any()) for _, labels in found)
    assert 300 * share - 1 <= held <= 300 * share + 4


def test_every_lesion_of_a_scan_is_as_likely_whatever_its_size() -> None:
    scan = make_scan("a", (60, 40, 40), [np.s_[5:11, 5:11, 5:11], np.s_[30, 20, 20], np.s_[50, 9]])
    counts: Counter[int] = Counter()
    for image, labels in patches(draw([scan], PatchSettings(SIZE, 3, 1.0, 0), count=200)):
        counts.update(np.unique(image[..., 1][labels > 0]).astype(int).tolist())
    assert set(counts) == {1, 2, 3}
    assert stats.chisquare([counts[n] for n in (1, 2, 3)]).pvalue > 0.001


def test_a_lesion_lies_anywhere_in_its_patch() -> None:
    scan = make_scan("a", (60, 60, 60), [np.s_[30, 30, 30]])
    found = patches(draw([scan], PatchSettings(SIZE, 3, 1.0, 0), count=400))
    counts = np.sum([labels for _, labels in found], axis=0)
    assert counts.sum() == 1200
    assert stats.chisquare(counts.ravel()).pvalue > 0.001


def test_patches_elsewhere_begin_anywhere_in_the_scan() -> None:
    found = patches(draw([make_scan()], PatchSettings(SIZE, 3, 0.0, 0), count=400))
    firsts = Counter(int(image[0, 0, 0, 0]) for image, _ in found)
    assert len(firsts) > 0.85 * 9 * 8 * 7
    assert max(firsts) == np.ravel_multi_index((8, 7, 6), SHAPE) + 1


def test_scans_without_lesions_give_only_patches_elsewhere() -> None:
    healthy, ill = make_scan("healthy", lesions=()), make_scan("ill")
    for index, (image, labels) in enumerate(patches(draw([healthy, ill], count=40))):
        assert labels.any() or index % 2 == 0
        assert np.array_equal(labels > 0, image[..., 1] > 0)
    with pytest.warns(UserWarning, match="no scan has a lesion"):
        found = draw([healthy])
    assert not any(batch["labels"].any() for batch in found)


def test_a_scan_smaller_than_a_patch_is_filled_up_with_zeros_and_told() -> None:
    scan = make_scan("small", (4, 12, 3), [np.s_[1, 6, 1]])
    with pytest.warns(UserWarning, match="1 of 2 scans are smaller than a patch of 6 × 5 × 4"):
        found = patches(draw([scan, make_scan()], count=20))
    small = [image for image, _ in found if np.count_nonzero(image[..., 0]) == 4 * 5 * 3]
    assert small
    for image in small:
        (box,) = ndimage.find_objects((image[..., 0] > 0).astype(int))
        first = np.unravel_index(int(image[box][0, 0, 0, 0]) - 1, scan.shape)
        np.testing.assert_array_equal(image[box], scan.image[:, first[1] : first[1] + 5])
    places = {ndimage.find_objects((image[..., 0] > 0).astype(int))[0][0].start for image in small}
    assert places == {0, 1, 2}


def test_scans_of_the_patches_size_or_more_are_not_warned_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw([make_scan("a", SIZE, [np.s_[1, 1, 1]]), make_scan()])


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": (96, 96)},
        {"size": (0, 8, 8)},
        {"size": (8, 8.0, 8)},
        {"batch": 0},
        {"batch": True},
        {"lesion_share": 1.1},
        {"lesion_share": float("nan")},
        {"workers": -1},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        PatchSettings(**wrong)


def test_nothing_to_cut_from_is_refused() -> None:
    with pytest.raises(InputError, match="there is none"):
        patch_batches([], SETTINGS, 0)
    other = make_scan("b")
    single = TrainingScan("b", other.image[..., :1], other.voxels, other.starts)
    with pytest.raises(InputError, match="same number of channels"):
        patch_batches([make_scan(), single], SETTINGS, 0)


def test_without_grain_it_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(InputError, match=r"pip install 'jaxsal\[train\]'"):
        patch_batches([make_scan()], SETTINGS, 0)
