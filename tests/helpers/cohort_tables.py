"""Tables of synthetic cohorts: as many lesions as one likes, with plausible numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jaxsal.tables import Column

DISTANCES = (3, 6, 12, 24, 48)
# Medians of the largest and smallest value that the paper found in FLAIR, per kind of lesion.
PEAKS = {"TP": (2.0, -0.64), "FP": (1.63, -0.52), "FN": (1.2, -0.36), "TN": (0.47, -0.25)}
SHARES = {"TP": 0.52, "FP": 0.25, "FN": 0.13, "TN": 0.1}


def cohort_columns(channels: tuple[str, ...] = ("flair", "t1")) -> list[Column]:
    """The columns of a cohort's table: what a lesion is, and per channel 20 statistics."""
    shells = [f"to_{distance}mm" for distance in DISTANCES] + ["beyond_48mm"]
    signed = [
        f"{sign}_{place}" for place in ("inside", *shells) for sign in ("positive", "negative")
    ]
    statistics = ["max", "min", "mean_inside", "positive_share", *signed]
    return [
        Column("scan", "scan", "what the scan is called"),
        Column("subject", "subject", "whose scan"),
        Column("session", "session", "of which visit"),
        Column("label", "label", "value of the lesion in the label map", 0),
        Column("kind", "kind", "TP, FP or FN against the reference"),
        Column("voxels", "voxels", "size in voxels", 0),
        Column("volume_mm3", "volume (mm³)", "volume in mm³", 1),
        *(Column(f"{axis}_mm", f"{axis} (mm)", "centroid in mm", 1) for axis in "xyz"),
        Column("samples", "samples", "noisy images", 0),
        Column("seconds", "seconds", "computing time", 1),
        *(
            Column(f"{channel}_{key}", key.replace("_", " "), f"{key} of the map", group=channel)
            for channel in channels
            for key in statistics
        ),
    ]


def cohort_rows(scans: int, lesions: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows for `cohort_columns`, of this many scans with this many lesions each."""
    random = np.random.default_rng(seed)
    columns = cohort_columns()
    rows = []
    for scan in range(scans):
        subject, session = f"{scan // 2:03d}", f"{scan % 2 + 1:02d}"
        name = f"sub-{subject}_ses-{session}"
        for label in range(1, lesions + 1):
            kind = str(random.choice(list(SHARES), p=list(SHARES.values())))
            volume = float(np.exp(random.normal(4.0, 1.0))) + 5
            row = dict.fromkeys((column.key for column in columns), None) | {
                **{"scan": name, "subject": subject, "session": session, "label": label},
                **{"kind": kind, "voxels": round(volume), "volume_mm3": round(volume)},
                **dict(
                    zip(("x_mm", "y_mm", "z_mm"), random.normal(0, 35, 3).tolist(), strict=True)
                ),
                **{"samples": 50, "seconds": 0.1 * volume},
                **_statistics(columns, kind, random),
                "picture": f"sub-{subject}/ses-{session}/anat/{name}_desc-{label:04d}.png",
            }
            rows.append(row)
    return rows


def _statistics(columns: list[Column], kind: str, random: np.random.Generator) -> dict[str, Any]:
    row = {column.key: float(random.lognormal(3, 1)) for column in columns if column.group}
    high, low = (peak * random.lognormal(0, 0.35) for peak in PEAKS[kind])
    row |= {"flair_max": high, "flair_min": low, "t1_max": -0.5 * low, "t1_min": -0.3 * high}
    for channel in ("flair", "t1"):
        row[f"{channel}_positive_share"] = float(random.beta(6, 3))
        row[f"{channel}_mean_inside"] = float(random.normal(0.1, 0.05))
    return row


def cohort_scans(scans: int, lesions: int) -> list[dict[str, Any]]:
    """Rows of the list of scans, the last of which failed."""
    names = [f"sub-{scan // 2:03d}_ses-{scan % 2 + 1:02d}" for scan in range(scans)]
    finished = [
        {"id": name, "status": "finished", "reason": None, "lesions": lesions, "seconds": 181.3}
        for name in names
    ]
    reason = "t1.nii.gz: the file is cut short after 1,024 of 7,340,032 bytes; copy it again"
    failed = {"id": "sub-bad", "status": "failed", "reason": reason}
    waiting = {"id": "sub-later", "status": "unfinished", "reason": None}
    nothing = {"lesions": None, "seconds": None}
    return [*finished, waiting | nothing, failed | nothing]


COHORT_FACTS: dict[str, dict[str, object]] = {
    "Settings": {"method": "smoothgrad", "aggregate": "max", "samples": 50, "noise": 0.05},
    "Model": {"network": "unet", "channels": ["flair", "t1"], "threshold": 0.3},
    "Versions": {"jaxsal": "0.3.0", "jax": "0.10.2"},
    "Devices": {"0": "NVIDIA H200"},
}


def picture(path: Path, colour: str) -> None:
    """A picture of the usual size, in one colour."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (1702, 762), colour).save(path)
