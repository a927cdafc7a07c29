"""The pictures: right anatomy, right colours, right outline, whole files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image

from jaxsal.errors import InputError, OutputError
from jaxsal.figures.canvas import save_figure
from jaxsal.figures.lesion import lesion_figure
from jaxsal.grid import Grid

CHANNELS = ("FLAIR", "T1")
SHAPE = (20, 26, 16)
SPACING = (1.5, 1.0, 2.0)
LESION = (slice(12, 15), slice(6, 9), slice(7, 9))  # off-centre along every axis, 3 x 3 x 2
ORIGIN, CROP = (9, 2, 4), (9, 12, 9)


def scene(scale: float = 1.0) -> dict[str, Any]:
    """A noisy box-shaped head in RAS order, two lesions, a map with both signs on a crop."""
    rng = np.random.default_rng(5)
    image = rng.standard_normal((*SHAPE, 2)).astype(np.float32)
    image[:2] = image[-2:] = 0  # outside the head
    labels = np.zeros(SHAPE, np.int32)
    labels[LESION] = 3
    labels[5:7, 18:20, 7:9] = 8
    saliency = 0.2 * rng.standard_normal((*CROP, 2)).astype(np.float32)
    saliency[4, 5, 4] = (2.0, -0.5)
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = (-14.25, -20.0, 7.5)
    return {
        "image": image,
        "labels": labels,
        "label": 3,
        "saliency": scale * saliency,
        "origin": ORIGIN,
        "grid": Grid(SHAPE, affine),
        "channels": CHANNELS,
        "title": "Lesion 3",
    }


def stored_as(given: dict[str, Any], codes: str) -> dict[str, Any]:
    """The same scan as nibabel stores it in another orientation; the crop follows its marks."""
    inside = np.zeros(SHAPE, np.uint8)
    inside[tuple(slice(a, a + n) for a, n in zip(ORIGIN, CROP, strict=True))] = 1
    padded = np.zeros((*SHAPE, 2), np.float32)
    padded[inside > 0] = given["saliency"].reshape(-1, 2)
    affine = given["grid"].affine
    target = nib.orientations.axcodes2ornt(codes)
    turn = nib.orientations.ornt_transform(nib.io_orientation(affine), target)

    def turned(array: np.ndarray) -> nib.Nifti1Image:
        return nib.Nifti1Image(array, affine).as_reoriented(turn)

    marks = np.argwhere(np.asarray(turned(inside).dataobj))
    box = tuple(slice(a, b + 1) for a, b in zip(marks.min(0), marks.max(0), strict=True))
    labels = turned(given["labels"])
    return given | {
        "image": np.asarray(turned(given["image"]).dataobj),
        "labels": np.asarray(labels.dataobj),
        "saliency": np.asarray(turned(padded).dataobj)[box],
        "origin": marks.min(0),
        "grid": Grid((labels.shape[0], labels.shape[1], labels.shape[2]), labels.affine),
    }


def panel(figure: Figure, name: str) -> Axes:
    return next(axes for axes in figure.axes if axes.get_label() == name)


def pixels(figure: Figure) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())  # type: ignore[attr-defined]


def outline(axes: Axes, name: str) -> np.ndarray:
    """End points (N, 2) of an outline's segments in mm."""
    lines = next(
        item
        for item in axes.collections
        if isinstance(item, LineCollection) and item.get_label() == name
    )
    return np.concatenate(lines.get_segments())


@pytest.mark.parametrize("codes", ["LPS", "LAS", "RSA", "PIR", "SLA"])
def test_same_anatomy_gives_same_picture_in_any_orientation(codes: str) -> None:
    given = scene()
    expected = pixels(lesion_figure(**given))
    np.testing.assert_array_equal(pixels(lesion_figure(**stored_as(given, codes))), expected)


def test_a_mirrored_patient_gives_another_picture() -> None:
    given = scene()
    mirrored = given | {name: given[name][::-1] for name in ("image", "labels")}
    assert (pixels(lesion_figure(**mirrored)) != pixels(lesion_figure(**given))).any()


@pytest.mark.parametrize(
    ("plane", "axis", "index"), [("axial", 2, 7), ("coronal", 1, 7), ("sagittal", 0, 13)]
)
@pytest.mark.parametrize("channel", [0, 1])
def test_map_panels_show_slices_through_the_lesion(
    plane: str, axis: int, index: int, channel: int
) -> None:
    given = scene()
    dense = np.zeros((*SHAPE, 2), np.float32)
    dense[9:18, 2:14, 4:13] = given["saliency"]
    axes = panel(lesion_figure(**given), f"{CHANNELS[channel]}: {plane}")
    shown = np.asarray(axes.images[1].get_array())
    np.testing.assert_array_equal(shown, dense[..., channel].take(index, axis).T)


def test_map_is_zero_outside_its_crop() -> None:
    given = scene()
    far = given | {"saliency": given["saliency"][:, :, -2:], "origin": (9, 2, 14)}
    shown = panel(lesion_figure(**far), "FLAIR: axial").images[1].get_array()
    assert not np.asarray(shown).any()


def test_channels_share_limits_symmetric_about_zero() -> None:
    figure = lesion_figure(**scene())
    names = [f"{channel}: {plane}" for channel in CHANNELS for plane in ("axial", "sagittal")]
    assert {panel(figure, name).images[1].get_clim() for name in names} == {(-2.0, 2.0)}


def test_the_colours_reach_the_extremes_that_are_written_on_whichever_slice_these_are() -> None:
    given = scene()
    given["saliency"][0, 0, 0] = (9.0, -11.0)  # a corner of the crop, on none of the slices
    figure = lesion_figure(**given)
    axial = panel(figure, "T1: axial")
    assert np.abs(axial.images[1].get_array()).max() < 9
    assert "min −11.0" in [text.get_text().split(" ·")[0] for text in axial.texts]
    assert axial.images[1].get_clim() == (-11.0, 11.0)
    assert panel(figure, "colour bar").get_ylim() == (-11.0, 11.0)


@pytest.mark.parametrize("note", ["approximated: 30 of 2984 voxels differentiated", ""])
def test_a_note_stands_in_the_heading(note: str) -> None:
    figure = lesion_figure(**scene(), note=note)
    assert ("approximated" in " ".join(text.get_text() for text in figure.texts)) == bool(note)


def test_a_given_limit_rules() -> None:
    figure = lesion_figure(**scene(), limit=7.5)
    assert panel(figure, "T1: axial").images[1].get_clim() == (-7.5, 7.5)


def test_sequential_scale_starts_at_zero() -> None:
    given = scene() | {"scale": "sequential", "units": "arbitrary units"}
    figure = lesion_figure(**given | {"saliency": np.abs(given["saliency"])})
    assert panel(figure, "FLAIR: axial").images[1].get_clim() == (0.0, 2.0)
    assert panel(figure, "colour bar").get_ylabel() == "arbitrary units"


def test_a_map_of_all_channels_is_drawn_over_each_and_its_peak_told_once() -> None:
    given = scene() | {"scale": "sequential"}
    only = np.abs(given["saliency"][..., 1:])
    figure = lesion_figure(**given | {"saliency": only})
    for plane in ("axial", "coronal", "sagittal"):
        first, second = (panel(figure, f"{channel}: {plane}").images for channel in CHANNELS)
        np.testing.assert_array_equal(first[1].get_array(), second[1].get_array())
        assert (first[0].get_array() != second[0].get_array()).any()
    axials = [panel(figure, f"{channel}: axial") for channel in CHANNELS]
    peaks = [
        [text.get_text() for text in axes.texts if "max" in text.get_text()] for axes in axials
    ]
    assert peaks == [[f"max {only.max():.3g}"], []]
    assert any("one map of all channels" in text.get_text() for text in figure.texts)


def test_zero_is_transparent_and_signs_differ_in_colour() -> None:
    shown = panel(lesion_figure(**scene()), "FLAIR: axial").images[1]
    zero, strong, weak = np.asarray(shown.cmap(shown.norm(np.array([0.0, 1.0, -1.0]))))
    assert zero[3] < 0.02
    assert strong[3] == weak[3] == 1
    assert strong[0] > strong[2]  # warm
    assert weak[2] > weak[0]  # cold


@pytest.mark.parametrize(
    ("plane", "axes_shown"), [("axial", (0, 1)), ("coronal", (0, 2)), ("sagittal", (1, 2))]
)
def test_outline_runs_along_the_lesions_voxel_edges(
    plane: str, axes_shown: tuple[int, int]
) -> None:
    points = outline(panel(lesion_figure(**scene()), f"T1: {plane}"), "omega")
    low = [(LESION[axis].start - 0.5) * SPACING[axis] for axis in axes_shown]
    high = [(LESION[axis].stop - 0.5) * SPACING[axis] for axis in axes_shown]
    np.testing.assert_allclose([points.min(0), points.max(0)], [low, high])
    on_edge = np.isclose(points, low) | np.isclose(points, high)
    assert on_edge.any(axis=1).all()


def test_class_level_outlines_every_lesion() -> None:
    points = outline(panel(lesion_figure(**scene() | {"label": None}), "FLAIR: image"), "omega")
    x, y = SPACING[:2]
    np.testing.assert_allclose(points.min(0), (4.5 * x, 5.5 * y))
    np.testing.assert_allclose(points.max(0), (14.5 * x, 19.5 * y))


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_view_is_radiological_and_true_to_scale(plane: str) -> None:
    axes = panel(lesion_figure(**scene()), f"FLAIR: {plane}")
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert left > right  # RAS indices grow to the right and to the front: both lie on the left
    assert bottom < top
    assert left - right == pytest.approx(top - bottom)
    shape, drawn = np.asarray(axes.images[1].get_array()).shape, axes.images[1].get_extent()
    sizes = {"axial": (1.5, 1.0), "coronal": (1.5, 2.0), "sagittal": (1.0, 2.0)}[plane]
    assert (drawn[1] - drawn[0]) / shape[1] == pytest.approx(sizes[0])
    assert (drawn[3] - drawn[2]) / shape[0] == pytest.approx(sizes[1])


@pytest.mark.parametrize(
    ("plane", "across"), [("axial", "RL"), ("coronal", "RL"), ("sagittal", "AP")]
)
def test_sides_of_the_patient_are_named_where_they_are(plane: str, across: str) -> None:
    axes = panel(lesion_figure(**scene()), f"FLAIR: {plane}")
    places = {text.get_text(): text.get_position()[0] for text in axes.texts}
    assert places[across[0]] < 0.1 < 0.9 < places[across[1]]


def test_view_contains_all_of_the_map_that_matters() -> None:
    given = scene()
    given["saliency"] = np.zeros((*CROP, 1), np.float32)
    given["saliency"][0, 0, 0] = 1.0  # the crop's corner
    given |= {"image": given["image"][..., :1], "channels": CHANNELS[:1]}
    axes = panel(lesion_figure(**given), "FLAIR: axial")
    assert min(axes.get_xlim()) < ORIGIN[0] * SPACING[0] < max(axes.get_xlim())
    assert min(axes.get_ylim()) < ORIGIN[1] * SPACING[1] < max(axes.get_ylim())


def test_missing_label_is_named() -> None:
    with pytest.raises(InputError, match="label 99"):
        lesion_figure(**scene() | {"label": 99})


def test_all_zero_map_is_drawn() -> None:
    assert pixels(lesion_figure(**scene(scale=0.0))).any()


def test_file_is_a_png_of_the_figures_size_and_reproducible(tmp_path: Path) -> None:
    figure = lesion_figure(**scene() | {"title": "a$b_ <i>"})  # no formula, no markup
    for name in ("one.png", "two.png"):
        save_figure(figure, tmp_path / name)
    with Image.open(tmp_path / "one.png") as picture:
        picture.load()
        assert picture.format == "PNG"
        assert picture.size == pytest.approx(150 * figure.get_size_inches(), abs=1)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "two.png"]


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"old")
    figure = lesion_figure(**scene())

    def full_disk(file: Any, **_: Any) -> None:
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(figure, "savefig", full_disk)
    with pytest.raises(OutputError, match="no space left"):
        save_figure(figure, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
