"""Real or realistic lesions: a patient where the data are at hand, else the demo's phantom."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from scipy import ndimage

import jaxsal
from bench.case import Case, Job, make_model, make_noise
from jaxsal.types import Triple

_CONNECTIVITY = ndimage.generate_binary_structure(3, 2)  # 18 neighbours
CHECKPOINT = "models/unet_monai_ms.pth"


def patient_case(job: Job, shared: Path, patient: str, sizes: tuple[int, ...]) -> tuple[Case, str]:
    """A scan with those of its lesions whose numbers of voxels come closest to the given ones.

    Args:
        job: its model, if it names one, its precision, samples and seed.
        shared: folder with ``data/patient…`` and the checkpoint.
        patient: "07", say.
        sizes: wanted numbers of voxels.

    Returns:
        The case, and what it is.
    """
    folder = shared / "data" / f"patient{patient}"
    if folder.is_dir() and (job.model or (shared / CHECKPOINT).is_file()):
        model = make_model(replace(job, model=job.model or str(shared / CHECKPOINT)))
        image, grid = jaxsal.read_image(
            [folder / "FLAIR.nii.gz", folder / "T1.nii.gz"], model.channels
        )
        truth, name = jaxsal.read_labels(folder / "GOLD.nii.gz", grid) > 0, f"patient {patient}"
    else:
        from jaxsal.demo.phantom import make_phantom
        from jaxsal.volumes import z_score

        with as_file(files("jaxsal.demo") / "model") as path:
            model = make_model(replace(job, model=job.model or str(path)))
        phantom = make_phantom(2, lesions=8)
        image = np.stack([z_score(phantom.flair), z_score(phantom.t1)], axis=-1)
        truth, name = phantom.lesions > 0, "the demo's phantom"
    noise = make_noise(image, job.samples, job.seed)
    return Case(model, image, _closest(truth, sizes), noise), name


def cropped(case: Case, label: int, size: int | Triple) -> Case:
    """One lesion of a case, on a cube or box of this many voxels around it."""
    shape, sizes = np.array(case.image.shape[:3]), np.broadcast_to(size, 3)
    centre = case.lesions[label].mean(axis=0).round().astype(int)
    start = np.clip(centre - sizes // 2, 0, np.maximum(shape - sizes, 0))
    box = tuple(slice(s, s + n) for s, n in zip(start.tolist(), sizes.tolist(), strict=True))
    labels = np.where(case.labels[box] == label, label, 0)
    return Case(case.model, case.image[box], labels, case.noise[(slice(None), *box)])


def _closest(truth: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Labels (X, Y, Z) int32 of a component for each wanted size, none taken twice."""
    components, _ = ndimage.label(truth, _CONNECTIVITY)
    counts = np.bincount(components.ravel()).astype(float)
    counts[0] = -np.inf
    labels = np.zeros(truth.shape, np.int32)
    for label, size in enumerate(sizes[: len(counts) - 1], 1):
        chosen = int(np.argmin(np.abs(counts - size)))
        labels[components == chosen] = label
        counts[chosen] = -np.inf
    return labels
