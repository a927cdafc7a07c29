"""Model directories: written whole or not at all, read back exactly, refused when damaged."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from jaxsal.checkpoints import load_inputs, load_model, save_model
from jaxsal.errors import InputError, OutputError
from jaxsal.model import Model
from jaxsal.nets.unet_config import UNetConfig

ARGUMENTS = {
    "in_channels": 2,
    "out_channels": 1,
    "channels": [2, 3],
    "strides": [[2, 1, 2]],
    "norm": ["group", {"num_groups": 1}],
    "act": ["leakyrelu", {"negative_slope": 0.1}],
}


@pytest.fixture(scope="module")
def model() -> Model:
    config = UNetConfig.from_arguments(ARGUMENTS)
    fresh = Model.initialise(config, ("flair", "mprage"))
    generator = np.random.default_rng(0)
    noisy = {k: generator.normal(size=v.shape) for k, v in fresh.parameters.items()}
    return Model(
        config,
        noisy,
        ("flair", "mprage"),
        0.35,
        aliases={"model.0": "encoder.0"},
        source={"file": "a.pth", "sha256": "0123"},
        roi=(8, 4, 8),
        overlap=0.0,
    )


@pytest.fixture(scope="module")
def saved(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "saved"
    save_model(model, folder)
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    """A model directory to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def test_a_model_is_read_back_exactly(model: Model, saved: Path) -> None:
    loaded = load_model(saved)
    assert loaded.config == model.config
    assert loaded.channels == model.channels
    assert loaded.threshold == model.threshold
    assert (loaded.roi, loaded.overlap) == ((8, 4, 8), 0.0)
    assert loaded.aliases == model.aliases
    assert loaded.source == model.source
    assert loaded.parameters.keys() == model.parameters.keys()
    for name, value in loaded.parameters.items():
        assert isinstance(value, jax.Array)
        np.testing.assert_array_equal(value, model.parameters[name])


def test_what_a_model_expects_is_told_without_loading_its_parameters(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orbax.checkpoint.StandardCheckpointer", None)
    assert load_inputs(saved) == (("flair", "mprage"), None)


def test_damage_is_noticed_without_loading_parameters(copy: Path) -> None:
    shutil.rmtree(copy / "parameters")
    with pytest.raises(InputError, match=r"copy: the folder parameters/ is missing"):
        load_inputs(copy)


def test_precision_is_chosen_when_loading(saved: Path) -> None:
    assert load_model(saved, precision="bfloat16").precision == "bfloat16"
    with pytest.raises(InputError, match="float16"):
        load_model(saved, precision="float16")


def test_the_record_can_be_read_by_people(model: Model, saved: Path) -> None:
    record = json.loads((saved / "model.json").read_text())
    assert record["network"]["kind"] == "unet"
    assert record["network"]["arguments"]["strides"] == [[2, 1, 2]]
    assert record["channels"] == ["flair", "mprage"]
    assert record["threshold"] == 0.35
    assert record["layers"] == {"model.0": "encoder.0"}
    assert record["source"]["sha256"] == "0123"
    assert record["parameters"]["count"] == model.parameter_count


def test_nothing_but_the_model_is_left_behind(saved: Path) -> None:
    assert [entry.name for entry in saved.parent.iterdir()] == ["saved"]
    assert sorted(entry.name for entry in saved.iterdir()) == ["model.json", "parameters"]


def test_an_empty_folder_is_used(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    assert load_model(tmp_path).channels == model.channels


def test_a_failed_write_leaves_nothing(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Any, folder: Path, **parameters: Any) -> None:
        folder.mkdir()
        raise OSError("disk full")

    monkeypatch.setattr("orbax.checkpoint.Checkpointer.save", fail)
    with pytest.raises(OutputError, match="disk full"):
        save_model(model, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_model_that_was_to_be_overwritten(
    model: Model, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("orbax.checkpoint.Checkpointer.save", fail)
    with pytest.raises(OutputError, match="disk full"):
        save_model(model, copy, overwrite=True)
    assert load_model(copy).threshold == model.threshold


SAVING = """
import resource, sys
from jaxsal.checkpoints import load_model, save_model
from jaxsal.errors import OutputError

model = load_model(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))  # bytes of a file
try:
    save_model(model, sys.argv[2])
except OutputError as error:
    print(error)
"""


@pytest.mark.thorough
def test_what_the_disk_refuses_orbax_is_told_as_the_disks_refusal(
    copy: Path, tmp_path: Path
) -> None:
    """TensorStore has words of its own for it, one of which JAX uses for want of memory.

    In a process of its own, as threads of Orbax's go on for a while.
    """
    folder = tmp_path / "models"
    folder.mkdir()
    command = [sys.executable, "-c", SAVING, copy, folder / "model"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "File too large" in ended.stdout, ended.stderr
    assert list(folder.iterdir()) == []


def test_a_model_directory_is_overwritten_only_when_asked_to(model: Model, copy: Path) -> None:
    other = Model(model.config, model.parameters, model.channels, 0.6)
    with pytest.raises(InputError, match=r"already holds a model; .*--overwrite.*overwrite=True"):
        save_model(other, copy)
    save_model(other, copy, overwrite=True)
    assert load_model(copy).threshold == 0.6
    assert [entry.name for entry in copy.parent.iterdir()] == ["copy"]


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("in_a_model", [True, False])
def test_files_of_the_users_are_never_overwritten(
    model: Model, copy: Path, tmp_path: Path, in_a_model: bool, overwrite: bool
) -> None:
    folder = copy if in_a_model else tmp_path / "mine"
    folder.mkdir(exist_ok=True)
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"thesis\.txt; choose another folder"):
        save_model(model, folder, overwrite=overwrite)
    assert (folder / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_file_is_not_replaced_by_a_folder(model: Model, tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        save_model(model, tmp_path / "file", overwrite=overwrite)
    assert (tmp_path / "file").read_text() == "mine"


def test_another_model_json_is_not_overwritten(model: Model, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text('{"weights": "mine"}')
    with pytest.raises(InputError, match="not overwritten"):
        save_model(model, tmp_path, overwrite=True)
    assert (tmp_path / "model.json").read_text() == '{"weights": "mine"}'


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent", "does not exist"),
        ("weights.pth", "PyTorch checkpoint.*jaxsal convert"),
        ("notes.txt", "is a file"),
        ("folder", "not a model directory.*jaxsal convert"),
    ],
)
def test_other_paths_are_no_models(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "weights.pth").write_bytes(b"PK")
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=message):
        load_model(tmp_path / name)


def test_a_record_need_not_tell_a_window(copy: Path) -> None:
    path = copy / "model.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in record.items() if k not in ("roi", "overlap")}))
    loaded = load_model(copy)
    assert (loaded.roi, loaded.overlap) == (None, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 99}, "99.*upgrade"),
        ({"format": "other"}, "format"),
        ({"network": {"kind": "vnet", "arguments": {}}}, "vnet"),
        ({"network": {"kind": "unet", "arguments": {"channels": 3}}}, "missing"),
        ({"network": None}, "incomplete"),
        ({"threshold": 2}, "threshold"),
        ({"roi": [8, 8]}, "roi must be three"),
        ({"overlap": 1}, "overlap must be in"),
        ({"channels": ["flair"]}, "channels"),
        ({"layers": 3}, "incomplete"),
        ({"parameters": {}}, "incomplete.*sha256"),
    ],
    ids=str,
)
def test_a_changed_record_is_refused(copy: Path, change: dict[str, Any], message: str) -> None:
    path = copy / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=message) as raised:
        load_model(copy)
    assert str(copy) in str(raised.value)


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"format":', "\x00"])
def test_a_broken_record_is_refused(copy: Path, content: str) -> None:
    (copy / "model.json").write_text(content)
    with pytest.raises(InputError, match=r"model\.json"):
        load_model(copy)


def test_missing_parameters_are_refused(copy: Path) -> None:
    shutil.rmtree(copy / "parameters")
    with pytest.raises(InputError, match="parameters/ is missing"):
        load_model(copy)


@pytest.mark.parametrize("damage", ["truncate", "delete", "flip"])
def test_damaged_parameters_are_refused(copy: Path, damage: str) -> None:
    files = [path for path in copy.glob("parameters/**/d/*") if path.is_file()]
    assert files
    for file in files:
        content = file.read_bytes()
        if damage == "truncate":
            file.write_bytes(content[: len(content) // 2])
        elif damage == "flip":
            middle = len(content) // 2
            file.write_bytes(content[:middle] + b"\x55\xaa" + content[middle + 2 :])
        else:
            file.unlink()
    with pytest.raises(InputError, match="parameters/ are damaged"):
        load_model(copy)


def test_a_device_without_memory_is_no_damage(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def restore(*_: Any) -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr("orbax.checkpoint.StandardCheckpointer.restore", restore)
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        load_model(saved)


def test_parameters_of_another_network_are_refused(copy: Path) -> None:
    path = copy / "model.json"
    record = json.loads(path.read_text())
    record["network"]["arguments"]["channels"] = [2, 4]
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"of another network: .*bottleneck\.conv\.bias \(3,\)"):
        load_model(copy)


def test_hidden_files_that_file_managers_add_do_no_harm(model: Model, copy: Path) -> None:
    (copy / "parameters" / ".DS_Store").write_text("icons")
    assert load_model(copy).threshold == model.threshold


def test_parameters_with_another_checksum_are_refused(copy: Path) -> None:
    path = copy / "model.json"
    record = json.loads(path.read_text())
    record["parameters"]["sha256"] = "0" * 64
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match="checksum"):
        load_model(copy)


_TWO_DEVICES = """
import os, sys
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
import jax
from jaxsal.checkpoints import load_inputs, load_model, save_model
first, second = jax.devices()
jax.config.update("jax_default_device", second)
model = load_model(sys.argv[1])
devices = {value.device for value in model.parameters.values()}
assert devices == {second}, devices
save_model(model, sys.argv[2])
jax.config.update("jax_default_device", first)
devices = {value.device for value in load_model(sys.argv[2]).parameters.values()}
assert devices == {first}, devices
"""


def test_parameters_go_to_the_default_device_and_nothing_is_printed(
    saved: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", _TWO_DEVICES, str(saved), str(tmp_path / "again")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_level_of_logging_is_left_as_it_was(saved: Path) -> None:
    logger = logging.getLogger("absl")
    before = logger.level
    load_model(saved)
    assert logger.level == before


def test_a_model_directory_tells_no_path_of_the_machine_it_was_made_on(model, tmp_path):
    save_model(model, tmp_path / "model")
    for path in (tmp_path / "model").rglob("*"):
        assert path.is_dir() or str(tmp_path).encode() not in path.read_bytes()
