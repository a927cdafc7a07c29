"""The context plateau against the patches of the training: linear networks of known reach."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.tiny import CHANNELS, ROI, SHAPE, load, random_model, read_table, save
from scipy import ndimage, special

import jaxsal.experiments.context as module
from jaxsal.checkpoints import load_model, save_model
from jaxsal.cli.main import main
from jaxsal.errors import InputError
from jaxsal.experiments.patch_size import PatchSizeSettings
from jaxsal.experiments.patch_size_figure import draw
from jaxsal.experiments.patch_size_models import Trained, trained_models
from jaxsal.experiments.patch_size_slopes import slope_over_networks, slope_rows
from jaxsal.experiments.study import Study
from jaxsal.model import Model
from jaxsal.nets.unet_config import UNetConfig
from jaxsal.settings import PredictSettings

pytestmark = pytest.mark.usefixtures("xla_convolutions", "one_device")

STEPS = 8
LESION = (slice(11, 13), slice(13, 15), slice(9, 11))
KERNELS = {8: 3, 16: 5}  # of networks by the patches that they are said to be trained on
PATIENTS = 6
VOXEL = 0.5  # mm


def linear_network(kernel: int) -> Model:
    """The logit of lesion is FLAIR after two means over cubes of so many voxels."""
    given = {"in_channels": 2, "out_channels": 2, "channels": [1, 1], "strides": [1]}
    form = {"kernel_size": kernel, "up_kernel_size": 1, "norm": None, "act": None}
    mean = np.full((kernel, kernel, kernel, 1, 1), kernel**-3.0, np.float32)
    last = np.zeros((1, 1, 1, 2, 2), np.float32)
    last[0, 0, 0, 1, 1] = 1  # from the second mean, behind the first in the concatenation
    parameters = {
        "encoder.0.conv.kernel": np.concatenate([mean, 0 * mean], axis=3),
        "bottleneck.conv.kernel": mean,
        "decoder.0.upsample.conv.kernel": last,
        **{f"{name}.conv.bias": np.zeros(1, np.float32) for name in ("encoder.0", "bottleneck")},
        "decoder.0.upsample.conv.bias": np.zeros(2, np.float32),
    }
    return Model(UNetConfig.from_arguments(given | form), parameters, CHANNELS, 0.5, roi=ROI)


def recorded(patch: int, seed: int) -> dict[str, Any]:
    """What a training says of itself."""
    return {
        "training": {
            "patches": {"size": [patch] * 3, "batch": 4},
            "run": {"seed": seed, "steps": 10},
            "scans": {"training": ["s1", "elsewhere"], "validation": []},
        }
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks, and patients whose lesions lie in the middle of what is bright."""
    place = tmp_path_factory.mktemp("patches")
    for patch, kernel in KERNELS.items():
        save_model(replace(linear_network(kernel), source=recorded(patch, 3)), place / f"p{patch}")
    lines = ["scan\tsubject\tflair\tt1\tinstances"]
    labels = np.zeros(SHAPE, np.int16)
    labels[LESION] = 1
    affine = np.diag([VOXEL, VOXEL, VOXEL, 1])
    dark = np.ones(SHAPE, bool)
    dark[2:22, 4:24, 1:19] = False
    for number in range(PATIENTS):
        rng = np.random.default_rng(number)
        image = (200 - 100 * dark + rng.normal(0, 10, SHAPE)).astype(np.float32)
        files = [
            save(place / f"{number}_{name}.nii.gz", values, affine)
            for name, values in (("flair", image), ("t1", image), ("labels", labels))
        ]
        lines.append("\t".join([f"s{number}", f"s{number}", *map(str, files)]))
    (place / "scans.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return place


def words(folder: Path, out: Path, first: str, *models: str) -> list[str]:
    named = ["--models", *models] if models else []
    asked = ["--steps", str(STEPS), "--volume", "0:100", "--out", str(out), *named]
    return ["experiment", "patch-size", str(folder / first), str(folder / "scans.tsv"), *asked]


def plateau_steps(path: Path, kernel: int) -> int:
    """By scipy: dilate, filter twice, and look from which step on the mean score stays."""
    image = load(path).astype(np.float64)
    image = (image - image.mean()) / image.std()
    lesion = np.zeros(SHAPE, bool)
    lesion[LESION] = True
    near = ndimage.generate_binary_structure(3, 2)
    scores = []
    for step in range(STEPS + 1):
        seen = ndimage.binary_dilation(lesion, near, step) if step else lesion
        shown = np.where(seen, image, 0)
        for _ in range(2):
            shown = ndimage.uniform_filter(shown, kernel, mode="constant")
        scores.append(special.expit(shown[lesion]).mean())
    far = np.abs(np.array(scores) - scores[-1]) > 0.05 * np.ptp(scores)
    return int(np.flatnonzero(far)[-1]) + 1


@pytest.mark.thorough
def test_a_wider_reach_moves_the_plateau_and_an_interruption_keeps_what_is_done(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = words(folder, tmp_path, "p16", *(str(folder / f"p{patch}") for patch in KERNELS))
    asked: list[int] = []
    compute = module.context_scores

    def until(*arguments: Any, **options: Any) -> Any:
        asked.append(1)
        if len(asked) == PATIENTS + 2:  # within the second network
            raise KeyboardInterrupt
        return compute(*arguments, **options)

    monkeypatch.setattr(module, "context_scores", until)
    assert main(command) != 0
    assert not (tmp_path / "patch-size.tsv").exists()
    assert main(command) == 0
    assert len(asked) == 2 * PATIENTS + 1
    rows = read_table(tmp_path / "patch-size.tsv")
    assert len(rows) == 2 * PATIENTS
    for row in rows:
        patch, number = int(float(row["patch"]) + 0.5), row["subject"][1:]
        expected = plateau_steps(folder / f"{number}_flair.nii.gz", KERNELS[patch])
        assert float(row["plateau_mm"]) == pytest.approx(VOXEL * expected)
        assert float(row["patch_mm"]) == pytest.approx(VOXEL * patch)
        assert (row["seed"], row["lesions"]) == ("3", "1")
    found = json.loads((tmp_path / "patch-size.json").read_bytes())
    small, large, slope, over = found["summary"]
    # Two means over cubes of 3 voxels reach the corner 2, 2, 2, three dilations away. Of two over
    # 5 voxels less than 0.89 of the weights lie within three dilations of a lesion of 2 voxels.
    assert small["plateau_mm"] <= 3 * VOXEL < large["plateau_mm"]
    moved = {
        patch: [float(r["plateau_mm"]) for r in rows if round(float(r["patch"])) == patch]
        for patch in KERNELS
    }
    expected = np.mean(np.subtract(moved[16], moved[8])) / (VOXEL * (16 - 8))
    assert slope["value"] == pytest.approx(expected)  # of two patch sizes: the mean difference
    assert slope["low"] <= slope["value"] <= slope["high"]
    assert (slope["n"], slope["patients"], slope["models"]) == (12, 6, 2)
    assert {key for row in found["summary"] for key in row} == set(found["summary_columns"])
    assert (over["models"], over["slope"], over["p"]) == (2, None, None)  # fewer than five
    checksums = [each["parameters_sha256"] for each in found["networks"]]
    assert len(set(checksums)) == 2
    assert found["model"]["parameters_sha256"] == checksums[0]
    assert [each["model"] for each in found["networks"]] == [large["model"], small["model"]]
    assert any("more than patch size and seed" in note for note in found["notes"])  # the kernels
    assert any("same names: s1" in note for note in found["notes"])
    assert (tmp_path / "patch-size.png").exists()

    before = (tmp_path / "patch-size.tsv").read_bytes()
    assert main(command) == 0
    assert len(asked) == 2 * PATIENTS + 1  # nothing is computed again
    assert (tmp_path / "patch-size.tsv").read_bytes() == before


def row(subject: str, patch: float, plateau: float | None, seed: int | None = 0) -> dict[str, Any]:
    model = f"{patch:g}-{seed}"
    known = {"subject": subject, "model": model, "seed": seed}
    return known | {"patch_mm": patch, "plateau_mm": plateau}


@pytest.mark.parametrize("edge", [32, 48, 64, 96])
def test_the_edge_of_a_cube_is_a_whole_number(edge: int) -> None:
    model = Trained("one", Study.__new__(Study), (edge, edge, edge), 0, "")
    assert model.edge == edge


def test_the_slope_is_that_within_patients() -> None:
    one = [row("one", 32, 10), row("one", 64, 14)]  # means 48 and 12: -16, -2; 16, 2
    two = [row("two", 32, 30), row("two", 64, 46), row("two", 96, None)]  # -16, -8; 16, 8
    three = [row("three", 96, 90)]  # says nothing
    four = [row("four", 32, 5, seed=1), row("four", 64, 5, seed=1)]  # -16, 0; 16, 0
    whole, first, second = slope_rows([*one, *two, *three, *four])
    assert whole["value"] == pytest.approx((32 + 32 + 128 + 128) / (6 * 16**2))
    assert (whole["n"], whole["patients"], whole["low"]) == (6, 3, None)
    assert (first["slope of"], second["slope of"]) == ("seed 0", "seed 1")
    assert (first["n"], first["value"]) == (4, None)  # fewer than five
    assert slope_rows(three)[0]["value"] is None


def test_the_interval_is_by_patients_with_all_their_networks() -> None:
    slopes = np.random.default_rng(5).random(9).tolist()
    rows = [
        row(f"p{n}", patch, 3 * n + own * patch, seed)
        for n, own in enumerate(slopes)
        for patch in (32, 64)
        for seed in (0, 1)
    ]
    found = slope_rows(rows)[0]
    drawn = np.random.default_rng(8).choice(slopes, (20000, len(slopes))).mean(axis=1)
    assert found["value"] == pytest.approx(np.mean(slopes))  # as all have the same patches
    # Of two bootstraps of 10,000 and 20,000 draws: each end has a Monte Carlo error near 0.003.
    expected = np.quantile(drawn, [0.025, 0.975])
    np.testing.assert_allclose([found["low"], found["high"]], expected, atol=0.01)


TWELVE = {
    32: (19.5, 13.5, 19.5),
    48: (21.0, 19.5, 16.5),
    64: (22.5, 21.0, 21.0),
    96: (21.0, 22.5, 21.0),
}


def test_the_slope_over_networks_takes_one_plateau_of_each() -> None:
    rows = [
        {"patch_mm": 1.5 * edge, "plateau_mm": plateau}
        for edge, plateaus in TWELVE.items()
        for plateau in plateaus
    ]
    none = {"patch_mm": 48.0, "plateau_mm": None}
    found = slope_over_networks([*rows, none])
    # Edges less their mean of 90 mm: -42, -18, 6, 54; squares 15,120. Sums of plateaus: 52.5, 57,
    # 64.5, 64.5, and 639 = (-42) 52.5 + (-18) 57 + 6 · 64.5 + 54 · 64.5.
    assert found["slope"] == pytest.approx(639 / 15120)
    # The plateaus' squares about their mean of 19.875 are 72.5625, of which the line takes
    # 639² / 15,120 = 27.0054; ten degrees of freedom, whose t is 2.2281 at 97.5 %.
    reach = 2.2281 * np.sqrt((72.5625 - 27.0054) / 10 / 15120)
    assert found["slope_low"] == pytest.approx(639 / 15120 - reach, abs=1e-6)
    assert found["slope_high"] == pytest.approx(639 / 15120 + reach, abs=1e-6)
    assert found["p"] == pytest.approx(0.035, abs=5e-4)
    assert found["models"] == 12


@pytest.mark.parametrize("edges", [(32, 48, 64, 96), (64, 64, 64, 64, 64)])
def test_few_networks_or_one_size_have_no_slope_over_networks(edges: tuple[int, ...]) -> None:
    found = slope_over_networks([{"patch_mm": e, "plateau_mm": e / 4} for e in edges])
    assert (found["slope"], found["slope_low"], found["p"]) == (None, None, None)
    assert found["models"] == len(edges)


@pytest.mark.parametrize("seeds", [(None,), (0, 1, 2)])
def test_the_figure_has_a_point_per_network_and_patient(seeds: tuple[int | None, ...]) -> None:
    rows = [
        row(name, patch, None if patch == 96 else patch / 4, seed)
        for name in "abcdef"
        for patch in (32, 64, 96)
        for seed in seeds
    ]
    (axes,) = draw(rows, slope_rows(rows)[0]).axes
    assert sum(len(each.get_offsets()) for each in axes.collections) == 12 * len(seeds)
    assert axes.get_title(loc="left").startswith("Slope 0.25 mm per mm, 95 % interval 0.25 to 0.25")
    assert axes.get_title(loc="left").endswith(f"no plateau: {6 * len(seeds)}")
    (line,) = axes.lines
    assert np.ptp(line.get_ydata()) / np.ptp(line.get_xdata()) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"source": recorded(16, 4), "threshold": 0.4}, "at least two patch sizes"),
        ({"source": {}}, "does not record the size"),
        ({"source": {"training": {"patches": {"size": "16"}}}}, "does not record the size"),
        ({"channels": ("flair", "t2")}, "takes the channels flair, t2"),
        ({"source": recorded(32, 4)}, "give --roi 32"),
    ],
)
def test_networks_that_do_not_go_together_are_refused(
    change: dict[str, Any],
    said: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = replace(load_model(folder / "p8"), **change)
    save_model(other, tmp_path / "other")
    out = tmp_path / "out"
    assert main(words(folder, out, "p16", str(tmp_path / "other"))) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not list(out.glob("*.tsv"))


def test_one_network_alone_is_refused() -> None:
    with pytest.raises(InputError, match="two patch sizes"):
        PatchSizeSettings()


def test_patches_that_are_not_recorded_are_given_in_order(folder: Path, tmp_path: Path) -> None:
    plain = replace(load_model(folder / "p8"), source={})
    save_model(plain, tmp_path / "plain")
    study = Study(load_model(folder / "p16"), [], tmp_path, PredictSettings(roi=ROI))
    models = [tmp_path / "plain", folder / "p16"]
    first, other = trained_models(study, models, [12, 4, 12])
    assert (first.patch, first.place) == ((12, 12, 12), str(folder / "p16"))
    assert (other.patch, other.seed) == ((4, 4, 4), None)
    with pytest.raises(InputError, match=r"patches must be 3 edges.*got 2"):
        trained_models(study, models, [12, 4])
    with pytest.raises(InputError, match="two patch sizes"):
        trained_models(study, models, [8, 8, 8])
    with pytest.raises(InputError, match="are the same network"):
        trained_models(study, models, [12, 4, 16])
    save_model(random_model(3), tmp_path / "three")
    with pytest.raises(InputError, match="other outputs"):
        trained_models(study, [tmp_path / "three"], [12, 4])
    with pytest.raises(InputError, match="patches must be 1 or more"):
        PatchSizeSettings(models=(tmp_path,), patches=(0, 4))
