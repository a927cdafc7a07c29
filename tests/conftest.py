"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from copy import copy
from importlib.metadata import version
from pathlib import Path

# Read when JAX is imported. Compiling is most of the tests' time, and optimising most of that:
# it is left out but for tests within `helpers.optimised`. The numbers are the same. Four devices
# to share work between, of which the first is the default.
_FLAGS = ["--xla_backend_optimization_level=1", "--xla_force_host_platform_device_count=4"]
if version("jaxlib").startswith("0.10."):  # newer ones can do no other
    _FLAGS.append("--xla_cpu_use_fusion_emitters=false")  # which take twice as long to compile
    _FLAGS.append("--xla_cpu_parallel_codegen_split_count=1")  # parts, each with costs of its own
os.environ.setdefault("XLA_FLAGS", " ".join(_FLAGS))
# Of PyTorch: its threads wait for each other by spinning, on cores that other workers compute on.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import jax
import pytest
from helpers.checked import check_public_functions
from helpers.optimised import optimise
from helpers.tiny import TinyScan, make_model, make_scan
from hypothesis import settings

import jaxsal.nets.convolution
import jaxsal.nets.fastest_form
from jaxsal.checkpoints import save_model
from jaxsal.model import Model
from jaxsal.registry import METHODS, NETWORKS

check_public_functions()
optimise(False)
settings.register_profile("any machine", deadline=None)  # no test depends on the time it takes
settings.load_profile("any machine")
os.environ["JAXSAL_CACHE"] = "off"  # no test writes to the user's folder, nor do its programs
os.environ["JAXSAL_PROGRESS"] = "off"  # nor shows a bar, whatever looks at the tests' output


@pytest.fixture(scope="session", autouse=True)
def interrupts_are_heeded() -> None:
    """Ctrl-C raises KeyboardInterrupt, also where a shell ignores it for what runs behind."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real scans and a trained checkpoint; tests that need it skip without it."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("JAXSAL_SHARED", beside))
    if not (folder / "data").is_dir():
        pytest.skip("needs real data: set JAXSAL_SHARED to the folder holding data/ and models/")
    return folder


@pytest.fixture(autouse=True)
def _registries() -> Iterator[None]:
    """What a test registers is known to that test only."""
    before = [
        (registry, {name: copy(value) for name, value in vars(registry).items()})
        for registry in (METHODS, NETWORKS)
    ]
    yield
    for registry, known in before:
        vars(registry).update(known)


@pytest.fixture(scope="module")
def xla_convolutions() -> Iterator[None]:
    """XLA's own form of convolution, which compiles soonest, in place of the fastest one.

    Of float64 it is slow beyond use, so there a single matrix product takes its place. That all
    forms are equal is tested in nets/test_convolution.py.
    """

    def form(*_: object, **__: object) -> str:
        return "columns" if jax.config.jax_enable_x64 else "xla"

    with pytest.MonkeyPatch.context() as patch:
        for module in (jaxsal.nets.convolution, jaxsal.nets.fastest_form):
            patch.setattr(module, "fastest_form", form)
        yield


@pytest.fixture(scope="module")
def one_device() -> Iterator[None]:
    """Work is done by the first device alone, unless a test names others.

    Shared between four, a few voxels cost each device the same portion, most of it of nothing.
    That maps do not depend on the devices is tested in saliency/test_devices.py.
    """
    with jax.default_device(jax.devices()[0]):
        yield


@pytest.fixture(scope="session")
def scan(tmp_path_factory: pytest.TempPathFactory) -> TinyScan:
    """The files of a tiny scan; not to be changed."""
    return make_scan(tmp_path_factory.mktemp("scan"))


@pytest.fixture(scope="session")
def tiny_model(scan: TinyScan) -> Model:
    """A tiny model that finds a few lesions in the tiny scan."""
    return make_model(scan)


@pytest.fixture(scope="session")
def model_folder(tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model directory of the tiny model; not to be changed."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(tiny_model, folder)
    return folder


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where processes that tests start keep what they compile, for those that other tests start."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # the session's, which its workers share
    return folder / "programs"
