"""Quantus on a segmentation network of PyTorch's: as a classifier of lesions, explained by jaxsal.

``metric(model=LesionScores(network, labels), explain_func=explain, x_batch=…, y_batch=…,
channel_first=True)``, with a lesion's label for every image as its class; see `jaxsal.quantus`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike

from jaxsal import quantus_explain, sliding_window, whole_volume
from jaxsal.errors import InputError
from jaxsal_converters.modules import model_from_module

Score = Literal["logit", "probability"]


class LesionScores(torch.nn.Module):
    """The mean over each lesion of a segmentation network's logit, as a classifier's output.

    From images (B, C, X, Y, Z) to scores (B, 1 + largest label): at a lesion's label its own score,
    at 0 that of all lesions together, and at labels without a lesion 0.

    Args:
        network: from images (B, C, X, Y, Z) to logits (B, K, X, Y, Z).
        labels: (X, Y, Z) whole numbers, one lesion domain per positive label.
        channel: output channel of the lesion class; for networks with a single one, 0 and 1 both
            mean that one.
        score: "logit", or "probability" for the mean of softmax, or of the sigmoid of a single
            output.

    Raises:
        InputError: there is no lesion, or the score is another.
    """

    voxels: torch.Tensor
    owners: torch.Tensor
    sizes: torch.Tensor

    def __init__(
        self,
        network: torch.nn.Module,
        labels: ArrayLike,
        *,
        channel: int = 1,
        score: Score = "logit",
    ) -> None:
        super().__init__()
        flat = np.asarray(labels).reshape(-1).astype(np.int64)
        voxels = np.flatnonzero(flat > 0)
        if not len(voxels):
            raise InputError("labels must have a lesion, a positive label; they have none")
        if score not in ("logit", "probability"):
            raise InputError(f'score must be "logit" or "probability", got {score!r}')
        self.network, self.channel, self.score = network, channel, score
        self.labels = np.asarray(labels)
        sizes = np.bincount(flat[voxels]).astype(np.float32)
        sizes[0] = len(voxels)
        for name, array in (("voxels", voxels), ("owners", flat[voxels]), ("sizes", sizes)):
            self.register_buffer(name, torch.from_numpy(array), persistent=False)
        self.train(network.training)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores (B, 1 + largest label)."""
        values = self._evidence(self.network(images)).flatten(1)[:, self.voxels]
        sums = values.new_zeros(len(values), len(self.sizes)).index_add(1, self.owners, values)
        totals = torch.cat([values.sum(1, keepdim=True), sums[:, 1:]], 1)
        return totals / self.sizes.clamp(min=1)

    def _evidence(self, logits: torch.Tensor) -> torch.Tensor:
        """What is averaged, (B, X, Y, Z)."""
        single = logits.shape[1] == 1
        channel = 0 if single and self.channel == 1 else self.channel
        if self.score == "probability":
            logits = logits.sigmoid() if single else logits.softmax(1)
        return logits[:, channel]


def explain(
    model: LesionScores,
    inputs: ArrayLike,
    targets: ArrayLike,
    *,
    roi: int | Sequence[int] | None = None,
    overlap: float = 0.25,
    **settings: Any,
) -> np.ndarray:
    """`jaxsal.quantus_explain` of the network inside the model, as it is at this call.

    So metrics that randomise parameters are served, too. Logits are explained, whatever the score.

    Args:
        model: of one of MONAI's networks that can be converted, in evaluation mode.
        inputs: (B, C, X, Y, Z).
        targets: (B,) labels of lesions, or 0.
        roi: run the network as MONAI's sliding window of this size does; by default once over the
            whole image.
        overlap: of the windows.
        settings: of `jaxsal.quantus_explain`: ``aggregate``, ``samples``, ``noise``, ….

    Returns:
        Maps (B, C, X, Y, Z), float32.

    Raises:
        InputError: as `jaxsal.quantus_explain`, or the network cannot be converted.
    """
    if not isinstance(model, LesionScores):
        raise InputError(f"the model must be a LesionScores, got a {type(model).__name__}")
    own = model_from_module(model.network, verify=False)
    field = whole_volume(own) if roi is None else sliding_window(own, roi, overlap)
    labels, channel = model.labels, model.channel
    return quantus_explain(
        model,
        np.asarray(inputs),
        np.asarray(targets),
        field=field,
        labels=labels,
        channel=channel,
        **settings,
    )
