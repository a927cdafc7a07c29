"""The command line of BIDS-Apps: participant level, then group level."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.cohorts import PREDICTION, results
from helpers.tiny import make_scan, read_table

from jaxsal.cli.main import main
from jaxsal.cohort.run import run_cohort
from jaxsal.inputs.entries import Entry, Scan
from jaxsal.inputs.participants import chosen
from jaxsal.inputs.sources import read_cohort
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.settings import CohortSettings
from jaxsal.store.lock import Shard

pytest.importorskip("bids", reason="needs pybids")
pytestmark = [
    pytest.mark.filterwarnings("always"),  # commands print warnings
    pytest.mark.usefixtures("one_device"),
]

STEMS = ("sub-01_ses-a", "sub-01_ses-b", "sub-02_ses-a")
OPTIONS = ["--roi", "16", "--samples", "1", "--output", "table", "--memory", "1"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two participants, the first of them with two sessions."""
    root = tmp_path_factory.mktemp("a dataset") / "raw"
    for seed, stem in enumerate(STEMS, 7):
        folder = root.joinpath(*stem.split("_"), "anat")
        folder.mkdir(parents=True)
        scan = make_scan(folder, seed)
        for path, suffix in zip(scan.images, ("FLAIR", "T1w"), strict=True):
            path.rename(folder / f"{stem}_{suffix}.nii.gz")
    about = {"Name": "toy", "BIDSVersion": "1.10.0", "Authors": ["A. Author"]}
    (root / "dataset_description.json").write_text(json.dumps(about))
    return root


def participant(dataset: Path, out: Path, model: Path, *labels: str) -> int:
    command = ["bids", str(dataset), str(out), "participant", "--model", str(model)]
    return main([*command, *OPTIONS, *labels])


def done(out: Path) -> list[str]:
    return [row["scan"] for row in read_table(out / "status.tsv")]


def test_participants_come_one_by_one_and_the_group_is_that_of_one_run(
    dataset: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, whole = dataset / "derivatives" / "jaxsal", tmp_path / "whole"
    assert participant(dataset, out, model_folder, "--participant-label", "02") == 0
    assert done(out) == [STEMS[2]]
    labels = ["--participant_label", "sub-01", "02", "--session-label", "ses-a"]
    assert participant(dataset, out, model_folder, *labels) == 0
    assert "2 scans, 1 of them now: 2 finished" in capsys.readouterr().out
    assert done(out) == [STEMS[0], STEMS[2]]
    assert participant(dataset, out, model_folder) == 0
    (out / "lesions.tsv").unlink()
    assert main(["bids", str(dataset), str(out), "group", "--pictures", "none"]) == 0
    assert "in 3 scans (3 finished)" in capsys.readouterr().out
    assert (
        main(["cohort", "run", str(model_folder), str(dataset), "--out", str(whole), *OPTIONS]) == 0
    )
    found, expected = results(out), results(whole)
    assert found.pop("report.html")
    assert found == expected
    about = json.loads((out / "dataset_description.json").read_bytes())
    assert about["GeneratedBy"][0]["Name"] == "jaxsal"
    assert about["SourceDatasets"] == [{"URL": dataset.as_uri()}]


@pytest.mark.thorough
def test_participants_may_be_done_at_the_same_time(
    dataset: Path, model_folder: Path, tmp_path: Path
) -> None:
    entries = read_cohort(dataset, ("flair", "t1"))
    settings = CohortSettings((SmoothGradSettings(samples=1, memory=2**30),), output="table")
    other = run_cohort(
        model_folder,
        entries,
        tmp_path / "out",
        prediction=PREDICTION,
        settings=settings,
        shard=Shard(1, 3),
    )
    with other:
        assert next(other).id == STEMS[0]  # the run has not ended
        labels = ["--participant-label", "02"]
        assert participant(dataset, tmp_path / "out", model_folder, *labels) == 0
        assert participant(dataset, tmp_path / "out", model_folder) == 2  # with the other's scan
    assert done(tmp_path / "out") == [STEMS[0], STEMS[2]]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["--participant-label", "7", "01"], "no participant 7; there are: 01, 02"),
        (["--participant-label", "02", "--session-label", "b"], "no session b; there are: a"),
        (["--overwrite", "--participant-label", "02"], "--overwrite begins anew with all"),
        (["--pictures", "none"], "--pictures is for the group level"),
        (["--skip-bids-validation"], "there is no option --skip-bids-validation"),
    ],
)
def test_what_the_participant_level_cannot_do_is_refused(
    labels: list[str],
    message: str,
    dataset: Path,
    model_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    try:
        status = participant(dataset, tmp_path / "out", model_folder, *labels)
    except SystemExit as ended:  # the parser's
        status = int(str(ended.code))
    assert status == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("level", "options", "message"),
    [
        ("participant", [], "needs --model MODEL_DIR"),
        ("group", [], "has no results of the participant level: run `jaxsal bids"),
        ("group", ["--participant-label", "01"], "--participant-label is for the participant"),
        ("group", ["--samples", "2"], "--samples is for the participant level"),
    ],
)
def test_levels_come_in_their_order_with_their_own_options(
    level: str,
    options: list[str],
    message: str,
    dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["bids", str(dataset), str(tmp_path / "out"), level, *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("level", ["participant", "group"])
@pytest.mark.parametrize("kind", ["nothing", "a folder", "a file"])
def test_what_is_no_dataset_is_refused(
    level: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "raw"
    if kind == "a folder":
        (root / "images").mkdir(parents=True)
    elif kind == "a file":
        root.write_text("")
    assert main(["bids", str(root), str(tmp_path / "out"), level]) == 2
    said = capsys.readouterr().err
    assert ("is no root of a BIDS dataset" if kind == "a folder" else "is no folder") in said


def test_labels_are_looked_for_as_a_whole() -> None:
    entries = [Entry(f"{i}", Scan(()), {"subject": f"{i}"}) for i in range(30)]
    assert chosen(entries, ["sub-2", "1"]) == [1, 2]
    with pytest.raises(Exception, match=r"no participant 30; there are: 0, 1, .*, 9, …"):
        chosen(entries, ["30"])
    with pytest.raises(Exception, match="no session a; there are: none"):
        chosen(entries, ["1"], ["a"])


def test_a_file_of_options_does_not_count_beside_the_other_spelling(
    dataset: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "options.toml").write_text('participant-label = ["8"]')
    labels = ["--config", str(tmp_path / "options.toml"), "--participant_label", "9"]
    assert participant(dataset, tmp_path / "out", model_folder, *labels) == 2
    assert "no participant 9; there are" in capsys.readouterr().err
