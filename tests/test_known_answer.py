"""The check of a GPU's convolutions: on the CPU, on faked GPUs, and on faulty ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

import jaxsal
from jaxsal import known_answer
from jaxsal.errors import InputError
from jaxsal.known_answer import check_products, require_right_products, wrong_products
from jaxsal.model import Model
from jaxsal.nets.unet_config import UNetConfig

SMALL = ((8, 3, 1), (6, 2, 2))
NETWORK = UNetConfig.from_arguments(
    {
        "spatial_dims": 3,
        "in_channels": 2,
        "out_channels": 2,
        "channels": [2, 4],
        "strides": [2],
        "num_res_units": 0,
        "kernel_size": 3,
        "norm": "batch",
    }
)


@pytest.mark.parametrize("precision", ["bfloat16", "tf32"])
def test_the_known_answers_are_right(precision: str) -> None:
    assert wrong_products(precision, SMALL) == []


def test_a_single_wrong_voxel_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    convolve = jax.lax.conv_general_dilated

    def faulty(x: jax.Array, *arguments: Any, **options: Any) -> jax.Array:
        found = convolve(x, *arguments, **options)
        return found.at[0, -1, -1, -1, -1].add(1) if found.shape[1] == 8 else found

    monkeypatch.setattr(jax.lax, "conv_general_dilated", faulty)
    assert wrong_products("bfloat16", SMALL) == ["3 channels of 8³ voxels, stride 1"]


def test_a_wrong_gradient_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    convolve = jax.lax.conv_general_dilated

    def faulty(x: jax.Array, *arguments: Any, **options: Any) -> jax.Array:
        return convolve(x, *arguments, **options) + 2 * (x - jax.lax.stop_gradient(x)).sum()

    monkeypatch.setattr(jax.lax, "conv_general_dilated", faulty)
    found = wrong_products("tf32", SMALL)
    assert found == [
        "gradient of 3 channels of 8³ voxels, stride 1",
        "gradient of 2 channels of 6³ voxels, stride 2",
    ]


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A new process on a GPU; grows by each precision that is checked."""
    found: list[str] = []

    def wrong(precision: str) -> list[str]:
        found.append(precision)
        return []

    gpu(monkeypatch, cudnn="9.20.0")
    monkeypatch.setattr(known_answer, "wrong_products", wrong)
    monkeypatch.setattr(known_answer, "programs_folder", lambda: None)
    check_products.cache_clear()
    yield found
    check_products.cache_clear()


def gpu(monkeypatch: pytest.MonkeyPatch, cudnn: str, **plugins: str) -> None:
    device = SimpleNamespace(platform="gpu", device_kind="a GPU")
    monkeypatch.setattr(known_answer, "current_device", lambda: device)
    monkeypatch.setattr(known_answer, "accelerator", lambda: {"cudnn": cudnn, **plugins})


def test_only_reduced_precision_on_a_gpu_is_checked(
    checked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    require_right_products("float32")
    monkeypatch.setattr(known_answer, "current_device", lambda: jax.devices("cpu")[0])
    require_right_products("bfloat16")
    assert checked == []


def test_a_process_checks_once(checked: list[str]) -> None:
    for precision in ("bfloat16", "tf32", "bfloat16"):
        require_right_products(precision)
    assert checked == ["bfloat16", "tf32"]


def test_a_machine_checks_once_where_programs_are_kept(
    checked: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(known_answer, "programs_folder", lambda: str(tmp_path))
    counts = []
    for cudnn in ("9.20.0", "9.20.0", "9.20.1"):  # the last after an update
        gpu(monkeypatch, cudnn)
        check_products.cache_clear()  # another process
        require_right_products("bfloat16")
        counts.append(len(checked))
    assert counts == [1, 1, 2]
    for unreadable in (b"cut off", "é".encode()[:1]):  # by a full disk
        for note in tmp_path.iterdir():
            note.write_bytes(unreadable)
        check_products.cache_clear()
        require_right_products("bfloat16")
    assert len(checked) == 4


def test_a_note_that_may_not_be_read_is_none(
    checked: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refused(path: Path) -> bytes:
        raise PermissionError("another user's")

    monkeypatch.setattr(known_answer, "programs_folder", lambda: str(tmp_path))
    monkeypatch.setattr(Path, "read_bytes", refused)
    require_right_products("bfloat16")
    assert checked == ["bfloat16"]


def test_wrong_answers_are_refused_with_what_to_do(
    checked: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gpu(monkeypatch, "9.10.2")
    monkeypatch.setattr(known_answer, "wrong_products", lambda precision: ["16 channels"])
    monkeypatch.setattr(known_answer, "programs_folder", lambda: str(tmp_path))
    for _ in range(2):
        with pytest.raises(InputError) as refused:
            require_right_products("bfloat16")
    for part in ("a GPU computes", "wrongly in bfloat16 (16 channels)", "9.10.2", "float32"):
        assert part in str(refused.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("precision", "cudnn", "warned"),
    [
        ("bfloat16", "9.7.1", False),
        ("bfloat16", "9.8.0", True),
        ("bfloat16", "9.14.0", True),
        ("bfloat16", "9.15.0", False),
        ("tf32", "9.10.1", False),
        ("tf32", "9.10.2", True),
        ("tf32", "9.15.1", True),
        ("tf32", "9.16.0", False),
        ("tf32", "", False),
    ],
)
def test_versions_that_are_known_for_faults_are_warned_of(
    checked: list[str], monkeypatch: pytest.MonkeyPatch, precision: str, cudnn: str, warned: bool
) -> None:
    gpu(monkeypatch, cudnn)
    if not warned:
        require_right_products(precision)
        return
    with pytest.warns(UserWarning, match=f"cuDNN {cudnn} is known") as said:
        require_right_products(precision)
    assert "nvidia-cudnn-cu12>=" in str(said[0].message)


def test_the_package_to_install_is_that_of_the_plug_in(
    checked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu(monkeypatch, "9.8.0", **{"jax-cuda13-plugin": "0.10.2"})
    with pytest.warns(UserWarning, match="nvidia-cudnn-cu13>=9.15"):
        require_right_products("bfloat16")
    monkeypatch.setattr(known_answer, "wrong_products", lambda precision: ["16 channels"])
    with pytest.raises(InputError, match="another version of nvidia-cudnn-cu13"):
        require_right_products("tf32")


@pytest.mark.parametrize("explain", ["smoothgrad", "gradcam"])
def test_maps_in_python_are_refused_where_the_products_are_wrong(
    checked: list[str], monkeypatch: pytest.MonkeyPatch, explain: str
) -> None:
    monkeypatch.setattr(known_answer, "wrong_products", lambda precision: ["16 channels"])
    model = Model.initialise(NETWORK, ("flair", "t1")).with_precision("bfloat16")
    image = np.zeros((8, 8, 8, 2), np.float32)
    labels = np.ones((8, 8, 8), int)
    field = jaxsal.whole_volume(model)
    ways = {
        "smoothgrad": lambda: jaxsal.smoothgrad(field, image, labels, samples=1),
        "gradcam": lambda: jaxsal.gradcam(model, image, labels, layer=model.layers[-1]),
    }
    with pytest.raises(InputError, match="wrongly in bfloat16"):
        ways[explain]()


def test_maps_in_python_are_refused_a_precision_that_the_device_lacks() -> None:
    field = jaxsal.whole_volume(
        Model.initialise(NETWORK, ("flair", "t1")).with_precision("bfloat16x3")
    )
    image, labels = np.zeros((8, 8, 8, 2), np.float32), np.ones((8, 8, 8), int)
    with pytest.raises(InputError, match="bfloat16x3 is not for a"):
        jaxsal.smoothgrad(field, image, labels, samples=1)
