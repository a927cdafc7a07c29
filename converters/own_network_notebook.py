# %% [markdown]
"""Your own PyTorch network: converted in memory, explained, and its gradients beside PyTorch's.

Trains a tiny network on blobs in noise, in some seconds; put your own in its place. Needs
`pip install "jaxsal[convert]"`. The cells run one after the other in every editor that knows
percent cells (VS Code, PyCharm, Spyder; Jupyter with Jupytext), and all of them by
`python -m jaxsal_converters.own_network_notebook`.
"""

# %%
import numpy as np
import torch

import jaxsal
from jaxsal_converters import from_torch

# %% tags=["parameters"]
SIZE = 32  # voxels along each axis of the image
STEPS = 150  # of the training
SAMPLES = 10  # noisy images per map

# %% [markdown]
# Images of blobs, which are the lesions, in noise.


# %%
def blobs(seed: int, count: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """An image (X, Y, Z) and the mask of its blobs."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 1, (SIZE,) * 3).astype(np.float32)
    axes = np.indices(image.shape)
    mask = np.zeros(image.shape, bool)
    for centre in rng.integers(4, SIZE - 4, (count, 3)):
        mask |= ((axes - centre[:, None, None, None]) ** 2).sum(0) <= 5
    return image + np.float32(3) * mask, mask


# %% [markdown]
# The network: any module from (B, C, X, Y, Z) to logits (B, K, X, Y, Z).

# %%
torch.manual_seed(0)
network = torch.nn.Sequential(
    torch.nn.Conv3d(1, 8, 3, padding=1),
    torch.nn.ReLU(),
    torch.nn.Conv3d(8, 8, 3, padding=1),
    torch.nn.ReLU(),
    torch.nn.Conv3d(8, 1, 1),
)
optimizer = torch.optim.Adam(network.parameters(), 0.01)
loss = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(20.0))
for step in range(STEPS):
    image, mask = blobs(step)
    logits = network(torch.tensor(image)[None, None])
    optimizer.zero_grad()
    loss(logits[0, 0], torch.tensor(mask, dtype=torch.float32)).backward()
    optimizer.step()

# %% [markdown]
# Converted: exported by `torch.export`, and its logits compared with PyTorch's. `save_model` keeps
# it as a model directory for all commands, which need no PyTorch from here on.

# %%
model = from_torch(network, torch.zeros(1, 1, SIZE, SIZE, SIZE), channels=("image",), threshold=0.8)
jaxsal.save_model(model, "own-network", overwrite=True)
print("receptive field:", model.receptive_field)

# %% [markdown]
# Explained. The mask says that all of the image is brain, over which it is z-scored. With the
# truth, lesions have a kind: found (TP), missed (FN), false alarm (FP).
# `jaxsal.explain(network, …)` would do without the conversion above, too.

# %%
image, mask = blobs(1_000)
affine = np.eye(4)  # voxel -> mm
brain = np.ones(image.shape, bool)
result = jaxsal.explain(
    model,
    [(image, affine)],
    reference=(mask, affine),
    mask=(brain, affine),
    roi=SIZE,
    samples=SAMPLES,
)
for row in result.table.to_pylist():
    print(f"lesion {row['label']} ({row['kind']}): {row['image_max']:.3g}, {row['image_min']:.3g}")

# %% [markdown]
# Are these PyTorch's gradients? One voxel's, without noise, by both.

# %%
x = torch.tensor((image - image.mean()) / image.std())[None, None].requires_grad_()
voxel = tuple(np.argwhere(mask)[0])
(expected,) = torch.autograd.grad(network(x)[0, 0][voxel], x)
one = np.zeros(image.shape, np.int32)
one[voxel] = 1
field = jaxsal.whole_volume(model)
ours = jaxsal.gradient(field, x[0, 0, ..., None].detach().numpy(), one).dense(1)[..., 0]
difference = np.abs(ours - expected[0, 0].numpy()).max() / np.abs(ours).max()
print(f"largest difference from autograd: {difference:.1e} of the peak")

# %%
result.save("own-maps", overwrite=True)
