"""The interactive view, in a browser: what it shows is what is in the files."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from helpers.browser import SOFTWARE_WEBGL, Visit, installed_browser

from jaxsal.report import page as pages
from jaxsal.report.niivue import is_installed, niivue
from jaxsal.report.page import write_page
from jaxsal.report.ratings import read_ratings
from jaxsal.report.view import Layer, ScanView
from jaxsal.tables import Column

pytestmark = pytest.mark.skipif(not is_installed(), reason="needs NiiVue: jaxsal[view]")
SHAPE = (24, 28, 20)
AFFINE = np.array([[-1.5, 0, 0, 20], [0, 1.5, 0, -15], [0, 0, 1.5, -10], [0, 0, 0, 1]])
PLACES = {1: (8, 9, 10), 2: (16, 18, 10)}  # first voxels of the lesions
CHANNELS = ("flair", "t1")
EVIL = "</script><script>alert(1)</script><!-- & <img src=x onerror=alert(2)> \"'"
COLUMNS = [
    *(Column(key, key, "", None) for key in ("label", "kind")),
    *(Column(f"{axis}_mm", axis, "mm", 1) for axis in "xyz"),
]


def lesion(label: int) -> tuple[slice, ...]:
    return tuple(slice(at, at + 5) for at in PLACES[label])


def save(path: Path, data: np.ndarray, start: tuple[int, ...] = (0, 0, 0)) -> Path:
    affine = AFFINE.copy()
    affine[:3, 3] = (AFFINE @ [*start, 1])[:3]
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def place(label: int) -> list[float]:
    """The centroid of a lesion, mm."""
    return [float(x) for x in (AFFINE @ [*(at + 2 for at in PLACES[label]), 1])[:3]]


def scan_view(folder: Path, channels: tuple[str, ...] = CHANNELS, method: str = "map") -> ScanView:
    """A scan with two lesions, their maps and a map of the whole scan."""
    random = np.random.default_rng(0)
    labels = np.zeros(SHAPE, np.int32)
    files: dict[int | None, list[Path]] = {}
    for label in PLACES:
        labels[lesion(label)] = label
        start = tuple(at - 2 for at in PLACES[label])
        maps = random.normal(size=(len(channels), 9, 9, 9)).astype(np.float32)
        maps[:, 2:7, 2:7, 2:7] += 4
        files[label] = [
            save(folder / f"map-{label}-{n}.nii.gz", each, start) for n, each in enumerate(maps)
        ]
    images = {
        name: save(folder / f"image-{n}.nii.gz", 100 + 10 * random.normal(size=SHAPE))
        for n, name in enumerate(channels)
    }
    entropy = save(folder / "entropy.nii.gz", random.random(SHAPE).astype(np.float32))
    layers = [
        Layer(method, "logit per standard deviation", "diverging", files),
        Layer("entropy", "nats", "sequential", {None: [entropy]}),
    ]
    return ScanView(images, save(folder / "labels.nii.gz", labels), layers)


def rows(kind: str = "TP") -> list[dict[str, Any]]:
    return [
        {"label": n, "kind": kind, **dict(zip(("x_mm", "y_mm", "z_mm"), place(n), strict=True))}
        for n in PLACES
    ]


def written(folder: Path, view: ScanView, **more: Any) -> Path:
    path = folder / "index.html"
    write_page(path, more.pop("title", "A scan"), rows(**more), COLUMNS, {}, view=view)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with installed_browser(*SOFTWARE_WEBGL) as browser:
        yield browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("a scan")
    return written(folder, scan_view(folder))


@pytest.fixture
def visit(browser: Any, page: Path) -> Iterator[Visit]:
    visit = opened(browser, page)
    yield visit
    assert [url for url in visit.requests if not url.startswith(("file:", "blob:", "data:"))] == []
    assert complaints(visit) == []
    visit.page.close()


def complaints(visit: Visit) -> list[str]:
    """All but what the driver says of reading pixels, as screenshots do."""
    return [text for text in visit.complaints if "GL Driver Message" not in text]


def opened(browser: Any, path: Path) -> Visit:
    """A page without a network, held to its own policy."""
    visit = Visit(browser, path, bypass_csp=False, offline=True)
    says(visit, " of ")
    return visit


def says(visit: Visit, text: str) -> None:
    visit.page.locator("#view-state", has_text=text).wait_for(timeout=60_000)


def caption(visit: Visit) -> str:
    return str(visit.page.inner_text("#view-values caption"))


def values(visit: Visit) -> list[list[str]]:
    """Per channel its name, intensity and value of the map."""
    cells = visit.page.locator("#view-values tbody tr").all()
    return [[text.strip() for text in row.inner_text().split("\t")] for row in cells]


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def pixels(visit: Visit) -> np.ndarray:
    """The picture of the first channel."""
    image = pytest.importorskip("PIL.Image")
    found = visit.page.locator(".panel canvas").first.screenshot()
    return np.asarray(image.open(io.BytesIO(found)).convert("RGB"), np.int32)


def set_range(visit: Visit, name: str, value: float) -> None:
    visit.page.locator(f"[name={name}]").evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }",
        value,
    )
    visit.page.wait_for_timeout(100)  # a frame is drawn


def test_the_first_lesion_is_shown_offline_with_its_values(visit: Visit, page: Path) -> None:
    says(visit, "Lesion 1 (TP), 1 of 2.")
    x, y, z = (f"{each:g}".replace("-", "−") for each in place(1))
    assert caption(visit) == f"At the crosshair: x {x}, y {y}, z {z} mm, in lesion 1"
    for n, (name, intensity, value) in enumerate(values(visit)):
        data = nib.load(page.parent / f"image-{n}.nii.gz").get_fdata()
        drawn = nib.load(page.parent / f"map-1-{n}.nii.gz").get_fdata()
        assert name == CHANNELS[n]
        assert number(intensity) == pytest.approx(data[10, 11, 12], abs=1e-3 * np.abs(data).max())
        assert number(value) == pytest.approx(drawn[4, 4, 4], abs=1e-3 * np.abs(drawn).max())


@pytest.mark.thorough
def test_keys_rows_and_the_list_choose_lesions(visit: Visit) -> None:
    visit.page.keyboard.press("n")
    says(visit, "Lesion 2 (TP), 2 of 2.")
    assert ", in lesion 2" in caption(visit)
    visit.page.keyboard.press("n")  # there is no further one
    visit.page.keyboard.press("p")
    says(visit, "Lesion 1 (TP)")
    visit.page.locator("tr[data-label='2'] td").nth(1).click()
    says(visit, "Lesion 2 (TP)")
    assert visit.page.locator("tr[aria-selected=true]").get_attribute("data-label") == "2"
    visit.page.select_option("[name=lesion]", "0")
    says(visit, "Lesion 1 (TP)")


@pytest.mark.thorough
def test_a_click_on_a_lesion_chooses_it_and_the_pointer_shows_values(visit: Visit) -> None:
    set_range(visit, "zoom", 1)
    canvas = visit.page.locator(".panel canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    steps = [(i / 16, j / 16) for i in range(1, 16) for j in range(1, 16)]
    for across, down in steps:
        at = box["x"] + across * box["width"], box["y"] + down * box["height"]
        visit.page.mouse.move(*at)
        if ", in lesion 2" in caption(visit):
            break
    assert caption(visit).startswith("Under the pointer")
    visit.page.mouse.click(*at)
    says(visit, "Lesion 2 (TP)")
    visit.page.mouse.move(2, 2)
    assert caption(visit).startswith("At the crosshair")
    assert caption(visit).endswith(", in lesion 2")


@pytest.mark.thorough
def test_pixels_change_where_the_map_is(visit: Visit) -> None:
    visit.page.uncheck("[name=rendering]")
    visit.page.uncheck("[name=outlines]")
    set_range(visit, "opacity", 0)
    bare = pixels(visit)
    set_range(visit, "opacity", 100)
    drawn = pixels(visit)
    changed = np.abs(drawn - bare).max(axis=2) > 20
    assert 0.001 < changed.mean() < 0.5
    red, _, blue = drawn[changed].mean(axis=0)
    assert red > blue + 30  # the map is mostly positive
    set_range(visit, "threshold", 100)
    assert (np.abs(pixels(visit) - bare).max(axis=2) > 20).mean() < changed.mean() / 20
    visit.page.check("[name=outlines]")
    visit.page.wait_for_timeout(300)
    assert (np.abs(pixels(visit) - bare).max(axis=2) > 20).any()


@pytest.mark.thorough
def test_channels_share_one_crosshair_and_keys_move_it(visit: Visit, page: Path) -> None:
    visit.page.locator(".panel canvas").nth(1).focus()
    visit.page.keyboard.press("PageUp")
    x, y, z = place(1)
    moved = f"At the crosshair: x {x:g}, y {y:g}, z {z + 1.5:g} mm".replace("-", "−")
    assert caption(visit).startswith(moved)
    drawn = nib.load(page.parent / "map-1-1.nii.gz").get_fdata()
    assert number(values(visit)[1][2]) == pytest.approx(drawn[4, 4, 5], abs=1e-2)


@pytest.mark.thorough
def test_maps_of_the_whole_scan_and_ranges_are_chosen(visit: Visit, page: Path) -> None:
    peaks = [
        max(np.abs(nib.load(page.parent / f"map-{n}-{c}.nii.gz").get_fdata()).max() for c in (0, 1))
        for n in (1, 2)
    ]
    scale = visit.page.locator("#view-scale")
    assert f"{max(peaks):.4g}"[:5] in scale.inner_text()
    visit.page.select_option("[name=range]", "own")
    assert f"{peaks[0]:.4g}"[:5] in scale.inner_text()
    visit.page.select_option("[name=layer]", "1")
    visit.page.locator("#view-scale", has_text="nats").wait_for()
    entropy = nib.load(page.parent / "entropy.nii.gz").get_fdata()
    found = [number(value) for _, _, value in values(visit)]
    assert found == pytest.approx([entropy[10, 11, 12]] * 2, abs=1e-3)


@pytest.mark.thorough
def test_at_class_level_there_is_one_map_of_all(browser: Any, tmp_path: Path) -> None:
    view = scan_view(tmp_path)
    layer = replace(view.layers[0], files={0: view.layers[0].files[1]})
    row = {**rows()[0], "label": 0, "kind": "class"}
    path = tmp_path / "index.html"
    whole = replace(view, layers=[layer], whole=True)
    write_page(path, "A scan", [row], COLUMNS, {}, view=whole, level="class")
    visit = opened(browser, path)
    says(visit, "All segmented voxels, 1 of 1.")
    assert visit.page.locator("tr[aria-selected=true]").get_attribute("data-label") == "all"
    drawn = nib.load(tmp_path / "map-1-0.nii.gz").get_fdata()
    assert number(values(visit)[0][2]) == pytest.approx(drawn[4, 4, 4], abs=1e-2)
    visit.page.close()


@pytest.mark.thorough
def test_ratings_come_out_as_a_table_and_are_kept(visit: Visit, page: Path, tmp_path: Path) -> None:
    visit.page.keyboard.press("1")
    visit.page.keyboard.press("n")
    says(visit, "Lesion 2 (TP)")
    visit.page.check("[name=rating][value=wrong]")
    visit.page.fill("[name=comment]", '=HYPERLINK("x")\tnot 1 but\n2')
    visit.page.locator("[name=comment]").blur()
    visit.page.reload()
    says(visit, "Lesion 1 (TP)")
    assert visit.page.locator("[name=rated]").inner_text() == "2 rated"
    assert visit.page.is_checked("[name=rating][value=good]")
    with visit.page.expect_download() as download:
        visit.page.click("[name=ratings]")
    path = tmp_path / "ratings.tsv"
    download.value.save_as(path)
    found = read_ratings(path, {("", 1): "TP", ("", 2): "TP"})
    assert [found["", label].grade for label in (1, 2)] == ["good", "wrong"]
    assert found["", 2].comment.startswith("=HYPERLINK(")
    assert path.read_text().count("\n") == 3
    assert "\t'=HYPERLINK" in path.read_text()


@pytest.mark.thorough
def test_given_names_stay_text(browser: Any, tmp_path: Path) -> None:
    view = scan_view(tmp_path, (EVIL, "t1"), EVIL)
    visit = opened(browser, written(tmp_path, view, title=EVIL, kind=EVIL))
    assert complaints(visit) == []  # no dialog, either
    assert EVIL in visit.page.inner_text("h1")
    assert EVIL in visit.page.locator(".panel figcaption").first.inner_text()
    assert EVIL in visit.page.locator("[name=layer] option").first.inner_text()
    visit.page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=alert(3)>')"
    )
    visit.page.wait_for_timeout(200)
    assert not [text for text in visit.complaints if text == "3"]  # the policy forbids it
    assert "Content Security Policy" in " ".join(visit.complaints)
    visit.page.close()


@pytest.mark.thorough
def test_a_browser_without_webgl_shows_pictures_and_says_so(browser: Any, page: Path) -> None:
    visit = Visit(browser, page)
    visit.page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    visit.page.reload()
    says(visit, "it has no WebGL 2")
    assert visit.page.locator("#view-body").is_hidden()
    visit.page.close()


@pytest.mark.thorough
def test_a_map_of_nan_is_said(browser: Any, tmp_path: Path) -> None:
    view = scan_view(tmp_path)
    save(tmp_path / "map-1-0.nii.gz", np.full((9, 9, 9), np.nan, np.float32), (6, 7, 8))
    save(tmp_path / "map-1-1.nii.gz", np.full((9, 9, 9), np.nan, np.float32), (6, 7, 8))
    visit = opened(browser, written(tmp_path, view))
    says(visit, "map is 0 everywhere, or no number")
    note = visit.page.locator(".view .note").first.inner_text()
    assert re.search(r"map-1-0.nii.gz holds 729 voxels that are no numbers", note)
    visit.page.close()


def test_without_niivue_the_page_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "embed", lambda *_: None)
    html = written(tmp_path, scan_view(tmp_path)).read_text(encoding="utf-8")
    again = "pip install &#39;jaxsal[view]&#39;`, then run this again with --overwrite"
    assert again in html
    assert "view-body" not in html


def test_an_ipyniivue_that_holds_another_niivue_is_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "widget.js").write_text(f'const held = "{"x" * 1_000_001}";')
    there = SimpleNamespace(locate_file=lambda name: tmp_path / Path(name).name)
    monkeypatch.setattr("jaxsal.report.niivue.distribution", lambda name: there)
    assert niivue() is None


def test_niivue_is_one_module_that_loads_nothing_else() -> None:
    module = niivue()
    assert module is not None
    assert not re.search(
        r"\bimport\s*[({*\"']|\bfrom\s*[\"']", module.partition("export{")[0][:2000]
    )
    assert "import(" not in module
