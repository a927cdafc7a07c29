# %% [markdown]
"""First maps: a bundled network, a synthetic head, and what its lesions rest on.

Needs no file of yours, and a minute or two on two CPU cores. The cells run one after the other in
every editor that knows percent cells (VS Code, PyCharm, Spyder; Jupyter with Jupytext), and all
of them by `python -m jaxsal.demo.first_maps_notebook`.
"""

# %%
from importlib.resources import as_file, files

import numpy as np

import jaxsal
from jaxsal.demo.phantom import field_of_view, make_phantom

# %% tags=["parameters"]
VOXEL_SIZE = 1.5  # mm, as in the network's training
LESIONS = 6
WINDOW = 48  # voxels along each axis
SAMPLES = 8  # noisy images per map; the paper takes 50
LARGEST = 60  # voxels of a lesion that is explained: time grows with them

# %% [markdown]
# A head with lesions, of which FLAIR and T1 are known, and where the lesions are. Of your own
# scan, give the paths of its NIfTI files instead of arrays.

# %%
head = make_phantom(2, field_of_view(VOXEL_SIZE), VOXEL_SIZE, LESIONS)
images = [(head.flair, head.affine), (head.t1, head.affine)]
truth = (head.lesions, head.affine)

# %% [markdown]
# The network. Yours comes from `jaxsal convert`, see `converters/README.md`; then
# `jaxsal.load_model("my-model")`, or just the folder's name, takes this cell's place.

# %%
with as_file(files("jaxsal.demo") / "model") as folder:
    model = jaxsal.load_model(folder)
print("channels:", ", ".join(model.channels), "· threshold:", model.threshold)

# %% [markdown]
# One call finds the lesions and maps each of them. The map says at every voxel how much the
# lesion's logits would change if that voxel were brighter by one standard deviation of the image:
# the strongest gradient over the lesion's voxels, with its sign.

# %%
result = jaxsal.explain(
    model, images, reference=truth, roi=WINDOW, samples=SAMPLES, max_voxels=LARGEST
)
result  # in a notebook: a picture and the table

# %% [markdown]
# The table: a row per lesion, true ones (TP) first, then missed ones (FN) and false alarms (FP).

# %%
columns = ["label", "kind", "volume_mm3", "flair_max", "flair_min", "t1_max", "t1_min"]
for row in result.table.select(columns).to_pylist():
    print({name: round(v, 2) if isinstance(v, float) else v for name, v in row.items()})

# %% [markdown]
# A map by itself is an array on the image's grid, one channel per MR sequence. Where does it peak,
# in mm?

# %%
label = int(result.table["label"][0].as_py())
crop = result.maps.crop(label)
peak = np.unravel_index(np.argmax(crop.values[..., 0]), crop.values.shape[:3])
place = result.grid.world(np.add(crop.origin, peak))
print(f"lesion {label}: its FLAIR map peaks at {np.round(place, 1).tolist()} mm")

# %% [markdown]
# `result.plot(label)` is a picture, `result.view(label)` a viewer to move through
# (`pip install "jaxsal[view]"`), and `save` writes what `jaxsal explain` writes: maps as
# NIfTI, tables, pictures, and `index.html` over them.

# %%
figure = result.plot(label)
print("open", result.save("first-maps", overwrite=True) / "index.html")
