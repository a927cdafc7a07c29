# %% [markdown]
"""A cohort and its statistics: synthetic patients, explained, and what their peaks say together.

Needs no file of yours, and some two minutes on two CPU cores. The cells run one after the other
in every editor that knows percent cells (VS Code, PyCharm, Spyder; Jupyter with Jupytext), and
all of them by `python -m jaxsal.cohort.cohort_notebook`.
"""

# %%
import subprocess
import sys
from importlib.resources import as_file, files

import numpy as np
from matplotlib import pyplot as plt
from pyarrow import parquet
from scipy import stats

import jaxsal

# %% tags=["parameters"]
PATIENTS = 3
LESIONS = 4  # of each
VOXEL_SIZE = 1.5  # mm, as in the network's training
WINDOW = 48  # voxels along each axis
SMALLEST = 10.0  # mm³, of a lesion
SAMPLES = 2  # noisy images per map; the paper takes 50

# %% [markdown]
# Patients: `scans.tsv` lists images and true lesions, a row per scan. Of your own patients, write
# such a table; a BIDS folder does as well.

# %%
phantoms = ["phantoms", "--scans", PATIENTS, "--lesions", LESIONS, "--spacing", VOXEL_SIZE]
phantoms += ["--seed", 100, "--out", "patients"]
subprocess.run([sys.executable, "-m", "jaxsal", *map(str, phantoms)], check=True)

# %% [markdown]
# Explained: all lesions of all scans. Results are recorded as they are done. If this is
# interrupted, run the cell again: it goes on where it ended.

# %%
with as_file(files("jaxsal.demo") / "model") as folder:
    model = jaxsal.load_model(folder)
finding = jaxsal.PredictSettings(roi=(WINDOW, WINDOW, WINDOW), minimum_volume=SMALLEST)
how = jaxsal.CohortSettings((jaxsal.SmoothGradSettings(samples=SAMPLES),))
run = jaxsal.run_cohort(model, "patients/scans.tsv", "results", prediction=finding, settings=how)
with run:
    for scan in run:
        print(f"{scan.id}: {scan.status}, {len(scan.rows)} lesions, {scan.seconds:.0f} s")

# %% [markdown]
# One table of all lesions, for pandas, R, or as here.

# %%
table = parquet.read_table("results/lesions.parquet")
lesions = {name: np.array(table[name].to_pylist()) for name in ("kind", "volume_mm3")}
peaks = {name: np.array(table[name].to_pylist()) for name in ("flair_max", "t1_min")}
for kind in ("TP", "FN", "FP"):
    own = lesions["kind"] == kind
    medians = {name: round(float(np.median(v[own])), 3) for name, v in peaks.items() if own.any()}
    print(f"{kind}: {own.sum()} lesions, medians {medians}")

# %% [markdown]
# Do larger lesions have larger peaks? Lesions of one patient are alike, so that a p-value over all
# of them would be too small; the correlation itself is no less a description. `jaxsal experiment`
# asks such questions with intervals that respect patients.

# %%
correlation = stats.spearmanr(lesions["volume_mm3"], peaks["flair_max"]).statistic
print(f"Spearman's correlation of volume and FLAIR peak: {correlation:.2f}")

# %%
figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
for kind in ("TP", "FN", "FP"):
    own = lesions["kind"] == kind
    axes.scatter(lesions["volume_mm3"][own], peaks["flair_max"][own], label=kind)
axes.set(xlabel="volume, mm³", ylabel="largest value of the FLAIR map", xscale="log")
axes.legend()
figure.savefig("peaks.png")

# %% [markdown]
# `jaxsal report results` makes a page of them: a table to sort and filter, a picture of each
# lesion.
