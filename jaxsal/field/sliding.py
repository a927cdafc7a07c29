"""Overlapping windows, blended as MONAI's ``SlidingWindowInferer`` or nnU-Net v2 blends them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from jaxsal.box import Box
from jaxsal.errors import InputError, require_one_of
from jaxsal.field.network import ModelParts, model_parts, window_logits
from jaxsal.field.plan import WindowPlan, image_shape, pad, unpad, zeros_before
from jaxsal.locality.boxes import receptive_field
from jaxsal.preprocessing import check_window
from jaxsal.settings import WINDOWS, Windows
from jaxsal.types import Triple

if TYPE_CHECKING:
    from jaxsal.arrays import Image, Logits


Blend = Literal["gaussian", "constant"]


def sliding_window(
    model: Any,
    roi: int | Sequence[int] = (96, 96, 96),
    overlap: float = 0.25,
    blend: Blend = "gaussian",
    windows: Windows = "monai",
) -> SlidingWindow:
    """The network run over overlapping windows whose logits are blended.

    Args:
        model: a `jaxsal.Model`, or any callable from images (B, X, Y, Z, C) to logits
            (B, X, Y, Z, K). A callable must be pure: it is compiled once, with the weights that
            it holds then.
        roi: window size in voxels; smaller volumes are padded with zeros on both sides.
        overlap: share of a window that the next one covers again, in [0, 1).
        blend: "gaussian" gives voxels near a window's centre more weight (sigma = 0.125 of the
            window), "constant" gives all the same.
        windows: whose rules place the windows and shape the Gaussian: "monai" for those of MONAI's
            ``SlidingWindowInferer``, "nnunet" for those of nnU-Net v2's ``nnUNetPredictor``.
            nnU-Net also crops images before that; see `jaxsal.preprocessing.Preprocessing.box`.

    Raises:
        InputError: the window does not fit the network's stride, or an argument is out of range.
    """
    parts = model_parts(model)
    sizes = (roi,) * 3 if isinstance(roi, int) else tuple(int(r) for r in roi)
    if len(sizes) != 3 or any(r < 1 for r in sizes):
        raise InputError(f"roi must be one positive size or one per axis (3), got {roi!r}")
    if any(r % d for r, d in zip(sizes, parts.function.divisor, strict=True)):
        raise InputError(
            "roi must be a multiple of the network's total stride "
            f"{parts.function.divisor}, got {roi!r}"
        )
    check_window(None, overlap)
    if blend not in ("gaussian", "constant"):
        raise InputError(f'blend must be "gaussian" or "constant", got {blend!r}')
    require_one_of("windows", windows, WINDOWS)
    return SlidingWindow(**vars(parts), roi=sizes, overlap=overlap, blend=blend, windows=windows)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SlidingWindow(ModelParts):
    """See `sliding_window`."""

    roi: Triple
    overlap: float
    blend: Blend
    windows: Windows
    _counts: dict[Triple, np.ndarray] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"SlidingWindow({self.function}, roi {self.roi}, overlap {self.overlap:g})"

    def __call__(self, image: Image) -> Logits:
        shape = image_shape(self.function, image)
        before, padded = self._padding(shape)
        image = pad(jnp.asarray(image), before, padded)
        importance = jnp.asarray(self.importance)[..., None]
        total: jax.Array | None = None
        for start in self.starts(padded):
            logits = window_logits(self.function, self.parameters, image, tuple(start), self.roi)
            if total is None:
                total = jnp.zeros((*padded, logits.shape[-1]), logits.dtype)
            total = _add_window(total, logits * importance, jnp.asarray(start))
        assert total is not None  # there is at least one window
        logits = total / jnp.asarray(self._count(padded))[..., None]
        return unpad(logits, before, shape)

    def plan(self, shape: Triple, voxels: np.ndarray) -> WindowPlan:
        before, padded = self._padding(shape)
        starts, voxels = self.starts(padded), np.asarray(voxels) + before
        inside = voxels[:, None] - starts[None]  # (V, W, 3)
        reached = ((inside >= 0) & (inside < self.roi)).all(-1)
        x, y, z = np.where(reached[..., None], inside, 0).transpose(2, 0, 1)
        count = self._count(padded)[tuple(voxels.T)][:, None]
        weights = np.where(reached, self.importance[x, y, z] / count, 0).astype(np.float32)
        used = weights.any(axis=0)
        return WindowPlan(
            shape,
            before,
            padded,
            self.roi,
            starts[used],
            weights[:, used],
            partial(receptive_field, self.function, self.parameters),
        )

    def layer_plan(self, shape: Triple, voxels: np.ndarray) -> WindowPlan:
        return self.plan(shape, voxels)

    def share(self, plan: WindowPlan, window: int) -> np.ndarray:
        box = Box.at(plan.starts[window], self.roi)
        share: np.ndarray = self.importance / box.cut(self._count(plan.padded))
        return share

    @cached_property
    def importance(self) -> np.ndarray:
        """Weight of each voxel of a window in the blend: (X, Y, Z) of the roi, float32."""
        if self.blend == "constant":
            return np.ones(self.roi, np.float32)
        return gaussian_importance(self.windows, self.roi)

    def starts(self, padded: Triple) -> np.ndarray:
        """(W, 3) first position of every window."""
        axes = [
            axis_starts(self.windows, n, r, self.overlap)
            for n, r in zip(padded, self.roi, strict=True)
        ]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)

    def _padding(self, shape: Triple) -> tuple[Triple, Triple]:
        x, y, z = (max(n, r) for n, r in zip(shape, self.roi, strict=True))
        return zeros_before(shape, (x, y, z)), (x, y, z)

    def _count(self, padded: Triple) -> np.ndarray:
        """Sum of the importance of all windows at every voxel."""
        count = self._counts.get(padded)
        if count is None:
            count = np.zeros(padded, np.float32)
            for start in self.starts(padded):
                count[Box.at(start, self.roi).slices] += self.importance
            self._counts.clear()  # scans come one after the other, and of many shapes
            self._counts[padded] = count
        return count


@jax.jit
def _add_window(total: jax.Array, logits: jax.Array, start: jax.Array) -> jax.Array:
    corner = (start[0], start[1], start[2], 0)
    current = jax.lax.dynamic_slice(total, corner, logits.shape)
    return jax.lax.dynamic_update_slice(total, current + logits, corner)


_SIGMA_SCALE = 0.125  # of the Gaussian importance, relative to the window: the default of both
_LEAST_IMPORTANCE = 1e-3  # MONAI's lower bound
_PEAK = 10  # nnU-Net's, which makes the most of its half precision


def axis_starts(windows: Windows, size: int, roi: int, overlap: float) -> np.ndarray:
    """First positions (W,) of the windows along one axis.

    "monai": a fixed step apart, the last one moved inside (``dense_patch_slices``). "nnunet": as
    many as that step takes, evenly spaced (``compute_steps_for_sliding_window``).

    Args:
        windows: whose rule.
        size: of the padded volume, at least that of a window.
        roi: size of a window.
        overlap: share of a window that the next one covers again, at least.
    """
    if windows == "nnunet":
        count = int(np.ceil((size - roi) / (roi * (1 - overlap)))) + 1
        return np.round(np.linspace(0, size - roi, count)).astype(int)
    step = roi if size == roi else max(int(roi * (1 - overlap)), 1)
    count = -(-(size - roi) // step) + 1
    return np.minimum(np.arange(count) * step, size - roi)


def gaussian_importance(windows: Windows, roi: Triple) -> np.ndarray:
    """Weight of each voxel of a window, largest in the middle: (X, Y, Z) float32.

    "monai": centred between the edges, at least 0.001 of 1 (``compute_importance_map``).
    "nnunet": centred on voxel n // 2 and rounded to half precision, where what would be 0 becomes
    the smallest that is not (``compute_gaussian``). Up to a factor the two differ near edges.
    """
    along = _nnunet_gaussian if windows == "nnunet" else _monai_gaussian
    x, y, z = (along(n) for n in roi)
    product: np.ndarray = x[:, None, None] * y[:, None] * z
    if windows == "nnunet":
        scaled = product / (product.max() / _PEAK)
        half = scaled.astype(np.float32).astype(np.float16)
        return np.maximum(half, half[half > 0].min()).astype(np.float32)
    return np.maximum(product, max(float(product.min()), _LEAST_IMPORTANCE))


def _monai_gaussian(size: int) -> np.ndarray:
    x = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
    weights: np.ndarray = np.exp(x**2 / np.float32(-2 * (_SIGMA_SCALE * size) ** 2))
    return weights


def _nnunet_gaussian(size: int) -> np.ndarray:
    centre = (np.arange(size) == size // 2).astype(float)
    weights: np.ndarray = ndimage.gaussian_filter1d(centre, size * _SIGMA_SCALE, mode="constant")
    return weights
