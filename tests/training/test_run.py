"""Whole trainings: resumed to the same numbers, stopped in good order, their models as told."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from helpers import training_runs as runs
from helpers.compilations import compilations
from helpers.tiny import SHAPE, oblique_affine, read_table, save
from helpers.training_runs import Watched, make_cohort, run, train, write_config
from jax.experimental.compilation_cache import compilation_cache

from jaxsal.checkpoints import load_model, save_model
from jaxsal.cli.main import main
from jaxsal.errors import InputError, OutputError
from jaxsal.evaluation.scans import evaluate
from jaxsal.experiments.patch_size_models import trained_models
from jaxsal.experiments.study import Study
from jaxsal.inputs.sources import read_cohort
from jaxsal.model import Model
from jaxsal.preprocessing import Outputs
from jaxsal.scan.prediction import for_model
from jaxsal.settings import PredictSettings
from jaxsal.training import run as run_module
from jaxsal.training import setup, validation
from jaxsal.training.config import read_config
from jaxsal.training.patches import patch_batches
from jaxsal.training.validation import Figures

_OF_TIME = ("patches_per_second", "waited_share", "seconds")


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every run compiles its own step; these are fetched from one another."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update(names[0], str(tmp_path_factory.mktemp("programs")))
    jax.config.update(names[1], 0.0)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    make_cohort(folder)
    return folder


@pytest.fixture(scope="module")
def config(cohort: Path) -> Path:
    return write_config(cohort)


@pytest.fixture(scope="module")
def finished(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that nothing disturbed; not to be changed."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    with compilations() as names:
        trained = run(config, out)
    assert trained.ended == "all 6 steps are done"
    assert names.count("logits_on") == 1  # by two validations
    return out


def table(out: Path) -> list[dict[str, str]]:
    rows = read_table(out / "log.tsv")
    return [{k: v for k, v in row.items() if k not in _OF_TIME} for row in rows]


def assert_same_training(out: Path, expected: Path) -> None:
    assert table(out) == table(expected)
    for name in ("best", "last"):
        found, wanted = load_model(out / name), load_model(expected / name)
        assert found.threshold == wanted.threshold
        for key, value in wanted.parameters.items():
            np.testing.assert_array_equal(found.parameters[key], value, err_msg=key)


def test_a_row_per_so_many_steps_and_per_validation(finished: Path) -> None:
    rows = read_table(finished / "log.tsv")
    assert [row["step"] for row in rows] == ["2", "3", "4", "6"]
    assert [bool(row["validation_ndsc"]) for row in rows] == [False, True, False, True]
    for row in rows:
        parts = 2 * float(row["loss_normalised_dice"]) + float(row["loss_blob"])
        assert float(row["loss"]) == pytest.approx(parts, rel=1e-5)
        assert float(row["patches_per_second"]) > 0
        assert 0 <= float(row["waited_share"]) <= 1


def test_the_best_model_scores_as_the_table_says(finished: Path, cohort: Path) -> None:
    model = load_model(finished / "best")
    rows = [row for row in read_table(finished / "log.tsv") if row["validation_ndsc"]]
    best = max(rows, key=lambda row: float(row["validation_ndsc"]))
    assert model.threshold == float(best["threshold"])
    assert model.channels == ("flair", "t1")
    assert model.source["step"] == int(best["step"])
    scans = [e for e in read_cohort(cohort / "scans.tsv", model.channels) if e.id == "s2"]
    settings = for_model(PredictSettings(), model, roi=None, overlap=None, target=None)
    assert settings.roi == (16, 16, 16)  # as its patches
    (found,) = evaluate(model, scans, settings)
    score = found.scores[model.threshold]
    assert score.dice == pytest.approx(float(best["validation_dice"]), rel=1e-6)
    assert score.normalised_dice == pytest.approx(float(best["validation_ndsc"]), rel=1e-6)


def test_a_model_says_which_patches_it_was_trained_on(finished: Path, tmp_path: Path) -> None:
    model = load_model(finished / "best")
    training = model.source["training"]
    assert training["run"]["seed"] == 0
    assert training["scans"] == {"training": ["s0", "s1"], "validation": ["s2"]}
    study = Study(model, [], tmp_path, PredictSettings(roi=(16, 16, 16)))
    with pytest.raises(InputError, match="all 1 were trained on patches of 16 × 16 × 16 voxels"):
        trained_models(study, [finished / "best"])


@pytest.mark.thorough
def test_after_a_kill_all_goes_on_as_if_nothing_had_been(
    config: Path, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    path = os.pathsep.join([*sys.path, str(Path(runs.__file__).parents[1])])
    killed = subprocess.run(
        [sys.executable, runs.__file__, str(config), str(out), "5"],
        # Compiled as in this process, so that rounding is the same.
        env={**os.environ, "PYTHONPATH": path, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [row["step"] for row in table(out)] == ["2", "3", "4"]  # 4 is not in a checkpoint
    (out / f".last.{'0' * 32}.previous").mkdir()  # as a kill between two names leaves it
    (out / "last").rename(out / f".last.{'4' * 32}.previous")
    run(config, out)
    assert_same_training(out, finished)
    assert not list(out.glob(".last*"))


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("number", "when"), [(signal.SIGINT, "stepping"), (signal.SIGTERM, "validating")]
)
def test_told_to_end_it_saves_and_goes_on_later(
    config: Path, finished: Path, tmp_path: Path, number: int, when: str
) -> None:
    def interrupt(*_: Any) -> None:
        os.kill(os.getpid(), number)

    monitor = Watched(
        lambda done: interrupt() if (done, when) == (5, "stepping") else None,
        lambda stage: interrupt() if stage == when else None,
    )
    step = 5 if when == "stepping" else 3
    with pytest.raises(KeyboardInterrupt, match=f"interrupted at step {step} of 6; all is saved"):
        run(config, tmp_path / "out", monitor=monitor)
    run(config, tmp_path / "out")
    assert_same_training(tmp_path / "out", finished)


def test_a_finished_training_is_left_as_it_is(config: Path, finished: Path) -> None:
    before = (finished / "last" / "model.json").stat().st_mtime_ns
    trained = run(config, finished)
    assert (trained.step, trained.ended) == (6, "all 6 steps are done")
    assert (finished / "last" / "model.json").stat().st_mtime_ns == before


def test_the_command_tells_how_training_ended(
    config: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(config), "--out", str(finished)]) == 0
    said = capsys.readouterr().out
    assert "all 6 steps are done; 2 scans to train on, 1 to validate on" in said
    assert f"best: {finished / 'best'}" in said
    assert "normalised Dice" in said


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "give a configuration and --out DIR, or --example NAME"),
        (["{config}"], "give a configuration and --out DIR"),
        (["{config}", "--example", "unet"], "--example prints a configuration and takes nothing"),
        (
            ["--example", "unet", "--steps", "5"],
            "--example prints a configuration and takes nothing",
        ),
        (
            ["--example", "unet", "--overwrite"],
            "--example prints a configuration and takes nothing",
        ),
        (["--example", "unet", "--device", "cpu"], "--example prints a configuration and takes"),
        (["{config}", "--out", "{out}", "--steps", "0"], "steps must be 1 or more; got 0"),
        (["{config}", "--out", "{config}"], "is a file; give a folder"),
        (["{config}", "--out", "{out}", "--device", "gpu:9"], "there is no device 'gpu:9'"),
    ],
)
def test_mistakes_of_the_command(
    config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    told: str,
) -> None:
    given = [each.format(config=config, out=tmp_path / "out") for each in arguments]
    assert main(["train", *given]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.thorough
def test_a_folder_is_of_one_training(
    config: Path, finished: Path, cohort: Path, tmp_path: Path
) -> None:
    other = read_config(config)
    with pytest.raises(
        InputError, match=r"other settings.*run\.steps was 6, is 7.*--overwrite"
    ) as told:
        runs.train(other.with_steps(7), finished)
    assert f'new folder with [network] from = "{finished}/last"' in str(told.value)
    with pytest.raises(InputError, match="holds other files, such as s0"):
        run(config, cohort)
    out = tmp_path / "out"
    shutil.copytree(finished, out)

    def again(*_: Any) -> None:
        with pytest.raises(InputError, match="another run is working in"):
            run(config, out)

    run(config, out, overwrite=True, monitor=Watched(again))
    assert_same_training(out, finished)


def test_an_emptied_folder_begins_anew(
    config: Path, cohort: Path, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    shutil.copytree(finished / "last", out / f".last.{'1' * 32}.previous")
    for path in [path for path in out.iterdir() if path.name[0] != "."]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    other = write_config(
        tmp_path, {"steps = 6": "steps = 1", '"scans.tsv"': f'"{cohort}/scans.tsv"'}
    )
    trained = run(other, out)
    assert (trained.step, trained.ended) == (1, "all 1 steps are done")
    assert load_model(out / "last").source["step"] == 1
    assert not list(out.glob(".last*"))


class MadeError(Exception):
    """With the network and the loss that a step would have been made of."""


@pytest.fixture
def no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings end with `MadeError` before their first step."""

    def made(network: Any, loss: Any, *_: Any, **options: Any) -> None:
        raise MadeError(network, loss)

    monkeypatch.setattr(setup, "make_update", made)


@pytest.mark.usefixtures("no_step")
def test_the_step_is_given_what_follows_from_the_settings_and_the_scans(
    cohort: Path, tmp_path: Path
) -> None:
    changes = {
        '"scans.tsv"': f'"{cohort}/scans.tsv"',
        "warm_up = 0": "warm_up = 0\naccumulate = 3\nmomentum = 0.729",
    }
    with pytest.raises(MadeError) as raised:
        run(write_config(tmp_path, changes), tmp_path / "out")
    network, loss = raised.value.args
    assert network.momentum == pytest.approx(0.9)  # 0.9³ = 0.729
    assert loss.maximum_instances == 3
    assert loss.probability == "softmax"


@pytest.mark.usefixtures("no_step")
def test_a_model_that_is_trained_on_keeps_its_target(
    cohort: Path, tiny_model: Model, tmp_path: Path
) -> None:
    regions = Outputs(("lesion", "rim"), "sigmoid", target=0)
    save_model(replace(tiny_model, outputs=regions), tmp_path / "start")
    begin = runs.CONFIG.index("[network]"), runs.CONFIG.index("[patches]")
    changes = {
        runs.CONFIG[slice(*begin)]: f'[network]\nfrom = "{tmp_path}/start"\n',
        '"scans.tsv"': f'"{cohort}/scans.tsv"',
    }
    with pytest.raises(MadeError) as raised:
        run(write_config(tmp_path, changes), tmp_path / "out")
    _, loss = raised.value.args
    assert (loss.target, loss.probability) == (0, "sigmoid")


@pytest.mark.usefixtures("no_step")
@pytest.mark.parametrize("scan", ["s0", "s2"])  # one to train on, one to validate on
def test_other_scans_under_the_same_names_are_refused(scan: str, tmp_path: Path) -> None:
    make_cohort(tmp_path)
    config, out = write_config(tmp_path), tmp_path / "out"
    for _ in range(2):  # the same scans
        with pytest.raises(MadeError):
            run(config, out)
    save(tmp_path / scan / "lesions.nii.gz", np.ones(SHAPE, np.uint8), oblique_affine())
    with pytest.raises(
        InputError, match=rf"settings or scans.*files\.{scan}\.reference was .*, is"
    ):
        run(config, out)
    with pytest.raises(MadeError):
        run(config, out, overwrite=True)


@pytest.mark.usefixtures("no_step")
def test_all_scans_that_cannot_be_validated_on_are_told_before_training(tmp_path: Path) -> None:
    make_cohort(tmp_path)
    (tmp_path / "s1" / "flair.nii.gz").unlink()
    save(tmp_path / "s2" / "lesions.nii.gz", np.ones((3, 3, 3), np.uint8), oblique_affine())
    config = write_config(tmp_path, {'["s2"]': '["s1", "s2"]'})
    told = r"(?s)validation has 2 problems:.*s1: .*flair.*s2: .*shape"
    with pytest.raises(InputError, match=told):
        run(config, tmp_path / "out")


@pytest.mark.usefixtures("no_step")
def test_what_is_worked_with_is_told_at_the_start(tmp_path: Path) -> None:
    table = make_cohort(tmp_path)
    rows = [line.split("\t") for line in table.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        del row[1]  # whose each scan is
    table.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    config, monitor = read_config(write_config(tmp_path)), Watched()
    devices = jax.devices()[:3]
    with pytest.raises(MadeError), pytest.warns(UserWarning, match=r"has no column 'subject'"):
        train(config, tmp_path / "out", devices=devices, monitor=monitor)
    split, *more = monitor.said
    assert split == "2 scans of 2 subjects to train on, 1 scan of 1 subject to validate on"
    assert monitor.read == [(1, 3), (2, 3), (3, 3)]
    if len(devices) == 3:
        assert more[0].startswith("2 of 3 devices are used, as many as divide the [patches] batch")


@pytest.mark.thorough
def test_a_validation_that_fails_costs_no_steps(
    cohort: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any) -> None:
        raise InputError("none can be evaluated")

    changes = {"save_every = 3": "save_every = 100", '"scans.tsv"': f'"{cohort}/scans.tsv"'}
    config, out, steps = write_config(tmp_path, changes), tmp_path / "out", []
    with monkeypatch.context() as patch:
        patch.setattr(setup, "validate", failing)
        with pytest.raises(InputError, match="none can be evaluated"):
            run(config, out)
    run(config, out, monitor=Watched(steps.append))
    assert steps == [4, 5, 6]
    assert_same_training(out, finished)
    before = (out / "last" / "model.json").stat().st_mtime_ns
    assert run(config, out).ended == "all 6 steps are done"
    assert (out / "last" / "model.json").stat().st_mtime_ns == before


@pytest.mark.thorough
def test_training_that_comes_apart_keeps_what_there_was(
    config: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(*arguments: Any) -> Iterator[dict[str, np.ndarray]]:
        for step, batch in enumerate(patch_batches(*arguments), arguments[-1] + 1):
            yield {**batch, "image": batch["image"] * (np.nan if step == 5 else 1)}

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "patch_batches", spoilt)
        with pytest.raises(OutputError, match=r"came apart at step 5: .*nan.*lower \[optimiser\]"):
            run(config, tmp_path / "out")
    assert load_model(tmp_path / "out" / "last").source["step"] == 3
    run(config, tmp_path / "out")
    assert_same_training(tmp_path / "out", finished)


@pytest.mark.thorough
def test_validation_that_gets_no_better_ends_training(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.5, 0.6, 0.6, 0.3, 0.9])

    def figures(*_: Any) -> Figures:
        return Figures(0.1, next(scores), 1.0, 0.0, 0.3, 1)

    monkeypatch.setattr(setup, "validate", figures)
    changes = {"validate_every = 3": "validate_every = 1\npatience = 2"}
    config = write_config(tmp_path, changes | {'"scans.tsv"': f'"{cohort}/scans.tsv"'})
    trained = run(config, tmp_path / "out")
    assert trained.step == 4
    assert trained.ended == "2 validations without a better one than at step 2"
    assert trained.best["step"] == load_model(tmp_path / "out" / "best").source["step"] == 2
    assert run(config, tmp_path / "out").step == 4  # for good


def test_training_goes_on_from_a_model(cohort: Path, finished: Path, tmp_path: Path) -> None:
    begin = runs.CONFIG.index("[network]"), runs.CONFIG.index("[patches]")
    changes = {
        runs.CONFIG[slice(*begin)]: f'[network]\nfrom = "{finished}/best"\n',
        '"scans.tsv"': f'"{cohort}/scans.tsv"',
        "rate = 0.02": "rate = 1e-30\nweight_decay = 0.0\nmomentum = 0.9999999",
        "steps = 6": "steps = 1",
    }
    config = write_config(tmp_path, changes)
    run(config, tmp_path / "out")
    first, tuned = load_model(finished / "best"), load_model(tmp_path / "out" / "last")
    batch = np.random.default_rng(0).normal(size=(1, 16, 16, 16, 2)).astype(np.float32)
    np.testing.assert_allclose(tuned(batch), first(batch), atol=1e-5)
    assert tuned.source["start"]["step"] == first.source["step"]
    wrong = write_config(tmp_path, {**changes, '["flair", "t1"]': '["flair", "t2"]'})
    with pytest.raises(InputError, match=r"\[data\] channels must be those of .*flair, t1"):
        run(wrong, tmp_path / "other")


def test_figures_go_to_tensorboard_too(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table_of_scans = {'"scans.tsv"': f'"{cohort}/scans.tsv"'}
    config = write_config(tmp_path, table_of_scans, "tensorboard = true\n")
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(InputError, match=r"needs tensorboardX.*jaxsal\[tensorboard\]"):
        run(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    board = pytest.importorskip("tensorboardX")
    drawn = {}

    class Writer(board.SummaryWriter):
        def add_scalar(self, name: str, value: float, step: int) -> None:
            drawn[name, step] = value
            super().add_scalar(name, value, step)

    monkeypatch.setattr(board, "SummaryWriter", Writer)
    run(config, tmp_path / "out")
    for row in read_table(tmp_path / "out" / "log.tsv"):
        step, ndsc = int(row["step"]), row["validation_ndsc"]
        assert drawn["loss/blob", step] == pytest.approx(float(row["loss_blob"]), rel=1e-6)
        assert ndsc == "" or drawn["validation/ndsc", step] == pytest.approx(float(ndsc), rel=1e-6)
    assert list((tmp_path / "out" / "tensorboard").iterdir())


def test_scans_that_cannot_be_evaluated_are_told(config: Path, cohort: Path) -> None:
    settings = read_config(config)
    model = runs.Model.initialise(settings.network, ("flair", "t1"))
    entry = read_cohort(cohort / "scans.tsv", model.channels)[2]
    broken = replace(entry, scan=replace(entry.scan, reference=cohort / "none.nii.gz"))
    told = []
    figures = validation.validate(
        [broken, entry], settings, model, lambda found, done: told.append((found.reason, done))
    )
    assert figures.scans == 1
    assert "none.nii.gz" in told[0][0]
    with pytest.raises(InputError, match=r"none of the 1 scans to validate on.*none\.nii\.gz"):
        validation.validate([broken], settings, model)
