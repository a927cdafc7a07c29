"""The paper's network, really trained, on a real patient: the same numbers as PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from monai.networks.nets import UNet
from scipy import ndimage

from jaxsal import read_image, sliding_window, smoothgrad
from jaxsal.lesions import label_lesions
from jaxsal.volumes import read_mask
from jaxsal_converters.unet import convert_unet

pytestmark = pytest.mark.thorough

ROI = (96, 96, 96)
CORNER = (60, 40, 50)  # of a window that holds several lesions of patient 07


@pytest.fixture(scope="module")
def scan(shared):
    folder = shared / "data" / "patient07"
    image, grid = read_image([folder / "FLAIR.nii.gz", folder / "T1.nii.gz"], ("flair", "t1"))
    reference = read_mask(folder / "GOLD.nii.gz", grid)
    box = tuple(slice(c, c + n) for c, n in zip(CORNER, ROI, strict=True))
    return image[box], reference[box], grid.crop(CORNER, ROI)


@pytest.fixture(scope="module")
def model(shared):
    checkpoint = shared / "models" / "unet_monai_ms.pth"
    return convert_unet(checkpoint, threshold=0.3, channels=("flair", "t1"))[0]


@pytest.fixture(scope="module")
def peer(shared):
    network = UNet(3, 2, 2, (32, 64, 128, 256, 512), (2, 2, 2, 2), norm="batch").eval()
    state = torch.load(shared / "models" / "unet_monai_ms.pth", weights_only=True)
    network.load_state_dict({k.removeprefix("module."): v for k, v in state.items()})
    return network.requires_grad_(False)


def peer_logits(peer, image):
    return torch.movedim(peer(torch.movedim(image, -1, 0)[None])[0], 0, -1)


def test_lesions_are_found_and_explained_as_by_pytorch(scan, model, peer):
    image, reference, grid = scan
    field = sliding_window(model, roi=ROI)
    logits = np.asarray(field(image))
    expected = peer_logits(peer, torch.tensor(image)).numpy()
    assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()

    probability = torch.tensor(expected).softmax(-1)[..., 1].numpy()
    labels, lesions = label_lesions(probability >= model.threshold, grid, reference)
    found = [lesion for lesion in lesions if lesion.kind == "TP"]
    assert len(found) >= 5
    smallest = min(found, key=lambda lesion: lesion.voxels)

    domain = labels == smallest.label
    noise = 0.5 * np.random.default_rng(0).normal(size=(2, *image.shape)).astype(np.float32)
    rows = []
    for sample in noise:
        x = torch.tensor(image + sample, requires_grad=True)
        logit = peer_logits(peer, x)[..., 1]
        voxels = np.argwhere(domain)
        rows.append(
            [torch.autograd.grad(logit[tuple(v)], x, retain_graph=True)[0].numpy() for v in voxels]
        )
    rows = np.array(rows)  # (N, V, X, Y, Z, C)
    largest = np.take_along_axis(rows, np.abs(rows).argmax(1, keepdims=True), 1)[:, 0]
    for aggregate, expected in (("max", largest.mean(0)), ("mean", rows.mean((0, 1)))):
        maps = smoothgrad(
            field, image, domain.astype(int), aggregate=aggregate, noise_samples=noise
        )
        assert np.abs(maps.dense(1) - expected).max() <= 1e-4 * np.abs(expected).max()


def published_count(lesion, reference):
    """TP, FP and FN as the published script counts them: of whole masks, sizes looked at last."""

    def overlaps(mask, other):
        labels, count = ndimage.label(mask, ndimage.generate_binary_structure(3, 2))
        sizes, met = (ndimage.sum_labels(of, labels, range(1, count + 1)) for of in (mask, other))
        return met[sizes > 5] > 0

    hits, found = overlaps(lesion, reference), overlaps(reference, lesion)
    return hits.sum(), (~hits).sum(), (~found).sum()


def test_lesions_are_counted_as_by_the_published_script(shared, peer):
    folder = shared / "data" / "patient19"
    image, grid = read_image([folder / "FLAIR.nii.gz", folder / "T1.nii.gz"], ("flair", "t1"))
    reference = read_mask(folder / "GOLD.nii.gz", grid)
    batch = torch.movedim(torch.from_numpy(image), -1, 0)[None]
    logits = sliding_window_inference(batch, ROI, 1, peer, overlap=0.25, mode="gaussian")
    probability = logits.softmax(1)[0, 1].numpy()
    kinds = [lesion.kind for lesion in label_lesions(probability >= 0.3, grid, reference)[1]]
    assert tuple(kinds.count(kind) for kind in ("TP", "FP", "FN")) == (40, 6, 12)
    assert published_count(probability >= 0.3, reference) == (40, 6, 12)
