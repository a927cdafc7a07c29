"""nnU-Net v2's sliding window in PyTorch, written after its published source; differentiable."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

Network = Callable[[torch.Tensor], torch.Tensor]


def steps(size: int, tile: int, step: float = 0.5) -> list[int]:
    """As ``compute_steps_for_sliding_window``, along one axis."""
    count = int(np.ceil((size - tile) / (tile * step))) + 1
    distance = (size - tile) / (count - 1) if count > 1 else 0
    return [int(np.round(distance * i)) for i in range(count)]


def gaussian(tile: Sequence[int]) -> torch.Tensor:
    """As ``compute_gaussian`` with the predictor's scaling, in half precision as there."""
    point = np.zeros(tile)
    point[tuple(n // 2 for n in tile)] = 1
    sigmas = [n / 8 for n in tile]
    weights = torch.from_numpy(ndimage.gaussian_filter(point, sigmas, mode="constant"))
    half = (weights / (weights.max() / 10)).to(torch.float16)
    half[half == 0] = half[half != 0].min()
    return half.float()


def mirrored(network: Network, batch: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
    """Logits averaged over all combinations of mirrored spatial axes, none included."""
    chosen = [
        [2 + a for a in some]
        for n in range(len(axes) + 1)
        for some in itertools.combinations(axes, n)
    ]
    return torch.stack([network(batch.flip(some)).flip(some) for some in chosen]).mean(0)


def sliding_window_logits(
    network: Network, batch: torch.Tensor, tile: Sequence[int], mirror_axes: Sequence[int] = ()
) -> torch.Tensor:
    """Logits (1, K, ...) of a batch of one (1, C, ...), summed in float32."""
    shape = batch.shape[2:]
    missing = [max(t - n, 0) for n, t in zip(shape, tile, strict=True)]
    before = [m // 2 for m in missing]
    edges = [e for m, b in zip(missing[::-1], before[::-1], strict=True) for e in (b, m - b)]
    padded = torch.nn.functional.pad(batch, edges)
    weights, total, count = gaussian(tile), 0, 0
    for start in itertools.product(*map(steps, padded.shape[2:], tile)):
        where = tuple(slice(s, s + t) for s, t in zip(start, tile, strict=True))
        around = [
            e
            for s, t, n in list(zip(start, tile, padded.shape[2:], strict=True))[::-1]
            for e in (s, n - s - t)
        ]
        logits = mirrored(network, padded[(..., *where)], mirror_axes)
        total = total + torch.nn.functional.pad(logits * weights, around)
        count = count + torch.nn.functional.pad(weights, around)
    inside = tuple(slice(b, b + n) for b, n in zip(before, shape, strict=True))
    return (total / count)[(..., *inside)]


def predictors_probability(results: Path, files: Sequence[Path]) -> np.ndarray:
    """Probability (X, Y, Z) of label 1 by nnU-Net's own predictor, where nnunetv2 is installed."""
    from nnunetv2.inference.export_prediction import (
        convert_predicted_logits_to_segmentation_with_correct_shape as exported,
    )
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        use_mirroring=False,
        perform_everything_on_device=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    predictor.initialize_from_trained_model_folder(str(results), (0,), "checkpoint_final.pth")
    managers = predictor.plans_manager, predictor.configuration_manager
    preprocessor = predictor.configuration_manager.preprocessor_class(verbose=False)
    data, _, facts = preprocessor.run_case(
        list(map(str, files)), None, *managers, predictor.dataset_json
    )
    batch = torch.from_numpy(np.ascontiguousarray(data)).float()
    logits = predictor.predict_logits_from_preprocessed_data(batch).float()
    probability = exported(
        logits, *managers, predictor.label_manager, facts, return_probabilities=True
    )[1]
    found: np.ndarray = probability[1].transpose(2, 1, 0)
    return found
