"""The demo: files of a synthetic scan in, files of its explanation out."""

from __future__ import annotations

import shutil
from importlib.resources import as_file, files
from pathlib import Path

from jaxsal.checkpoints import load_model
from jaxsal.demo.phantom import make_phantom, write_phantom
from jaxsal.errors import InputError
from jaxsal.inputs.entries import Scan
from jaxsal.progress import OnNote, OnProgress, OnStage
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.scan.explain import explain
from jaxsal.settings import ExplainSettings, PredictSettings
from jaxsal.store.output_folder import holds_results

SEED, LESIONS = 2, 8  # of a head that the network was not trained on
WINDOW = 48  # voxels: of the windows that the network was trained on
SAMPLES = 8


def run_demo(
    out: Path,
    *,
    precision: str = "float32",
    overwrite: bool = False,
    on_stage: OnStage = lambda stage: None,
    on_progress: OnProgress | None = None,
    on_note: OnNote = lambda note: None,
) -> Path:
    """Writes a synthetic scan and explains its lesions with the bundled network.

    Returns:
        The folder with the results.

    Raises:
        InputError: the folder holds other files, or an earlier demo that is not to be overwritten.
        OutputError: a file cannot be written.
    """
    scan_folder, results = out / "scan", out / "results"
    _check_unused(scan_folder, results, overwrite)
    on_stage("making a synthetic brain")
    with as_file(files("jaxsal.demo") / "model") as folder:
        model = load_model(folder, precision)
    scan = Scan(
        images=(scan_folder / "FLAIR.nii.gz", scan_folder / "T1.nii.gz"),
        reference=scan_folder / "lesions.nii.gz",
    )
    is_new = not scan_folder.exists()
    try:
        write_phantom(make_phantom(SEED, lesions=LESIONS), scan_folder)
        explain(
            model,
            scan,
            results,
            PredictSettings(roi=(WINDOW, WINDOW, WINDOW)),
            # as the paper explains its U-Net
            ExplainSettings(SmoothGradSettings(samples=SAMPLES), field="whole"),
            overwrite=overwrite,
            on_stage=on_stage,
            on_progress=on_progress,
            on_note=on_note,
        )
    except BaseException:
        if is_new:  # leave nothing that a second try would stumble over
            shutil.rmtree(scan_folder, ignore_errors=True)
        raise
    return results


def _check_unused(scan_folder: Path, results: Path, overwrite: bool) -> None:
    """A demo's scan may be replaced, a user's not: a demo's has results of jaxsal beside it."""
    if not scan_folder.exists():
        return
    if scan_folder.is_dir() and not any(scan_folder.iterdir()):
        return
    if not holds_results(results):
        raise InputError(
            f"{scan_folder} is not overwritten, because {results} holds no results of an earlier "
            "demo; choose another folder"
        )
    if not overwrite:
        raise InputError(
            f"{scan_folder.parent} already holds a demo; choose another folder, or replace it with "
            "--overwrite"
        )
