"""Instance-level saliency with the interface of Captum's ``captum.attr``, torch tensors in and out.

Every method takes MONAI's network itself, which is converted once, when the object is made:

======================================================  =========================================
Captum                                                  here
======================================================  =========================================
``Saliency(f).attribute(x, target=(1, i, j, k))``       the same, by `Saliency`
``NoiseTunnel(Saliency(f)).attribute(x, nt_samples=N,   `InstanceSmoothGrad`, the same arguments
stdevs=s, target=(1, i, j, k), abs=False)``             without ``nt_type``
a loop over the voxels of each lesion, and their        ``target=1, labels=lesions``
maximum
``LayerGradCam(f, layer).attribute(x, target=…)``       `InstanceGradCamPlusPlus`, on the image's
                                                        grid
======================================================  =========================================

Captum itself is not needed. Images of a batch are explained one by one, whatever else is in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from jaxsal import Model, SmoothGradSettings, gradcam_plus_plus, smoothgrad_stream
from jaxsal.errors import InputError
from jaxsal_converters.attribution import (
    Explained,
    LabelledMaps,
    Question,
    Target,
    attributions,
)


class Saliency:
    """Gradients of single logits, of lesions or of the class, as ``captum.attr.Saliency`` has them.

    Args:
        model: MONAI's ``UNet``, ``DynUNet`` or ``SwinUNETR`` in evaluation mode, or a
            `jaxsal.Model`.
        config: constructor arguments of the network that are others than it says of itself.
        roi: run the network as MONAI's sliding window of this size does, rather than once over the
            whole image.
        overlap: of the windows.

    Raises:
        InputError: the network cannot be converted, or the window does not fit it.
    """

    def __init__(
        self,
        model: torch.nn.Module | Model,
        *,
        config: Mapping[str, Any] | None = None,
        roi: int | Sequence[int] | None = None,
        overlap: float = 0.25,
    ) -> None:
        self._smoothgrad = InstanceSmoothGrad(model, config=config, roi=roi, overlap=overlap)

    def attribute(
        self,
        inputs: torch.Tensor,
        target: Target = 1,
        abs: bool = True,
        labels: torch.Tensor | None = None,
        **settings: Any,
    ) -> torch.Tensor:
        """As `InstanceSmoothGrad.attribute`, without noise; magnitudes unless ``abs=False``."""
        found = self._smoothgrad.attribute(
            inputs, target, labels, nt_samples=1, stdevs=0.0, **settings
        )
        return found.abs() if abs else found


class InstanceSmoothGrad:
    """SmoothGrad of lesions, of the class or of single logits (Spagnolo et al. 2026, Eqs. 1-3).

    Arguments and errors are those of `Saliency`.
    """

    def __init__(
        self,
        model: torch.nn.Module | Model,
        *,
        config: Mapping[str, Any] | None = None,
        roi: int | Sequence[int] | None = None,
        overlap: float = 0.25,
    ) -> None:
        self._explained = Explained.of(model, config, roi, overlap)

    def attribute(
        self,
        inputs: torch.Tensor,
        target: Target = 1,
        labels: torch.Tensor | None = None,
        *,
        nt_samples: int = 50,
        nt_samples_batch_size: int | None = None,
        stdevs: float | None = None,
        noise_samples: torch.Tensor | None = None,
        abs: bool = False,
        **settings: Any,
    ) -> torch.Tensor:
        """The signed maps, in logits per unit of each image channel, averaged over noisy images.

        Args:
            inputs: (B, C, X, Y, Z), normalised as the network expects.
            target: output channel; for networks with a single one, 0 and 1 both mean that one. As
                in Captum, (channel, x, y, z) is the logit of a single voxel; and a list has one
                target per image.
            labels: (B, X, Y, Z), one lesion domain per positive label; a mask is one lesion. None:
                class level, the sum over all voxels that the model segments.
            nt_samples: number N of noisy images.
            nt_samples_batch_size: noisy images computed at once; the result does not depend on it.
            stdevs: standard deviation of the noise; by default 0.05 of the range of channel 0.
            noise_samples: (N, C, X, Y, Z) noise to add to each image instead.
            abs: must be False: of Captum's arguments, the one that unsigns what is averaged.
            settings: any other of `jaxsal.SmoothGradSettings`: ``aggregate``, ``seed``, ….

        Returns:
            (B, C, X, Y, Z); with labels (B, L, C, X, Y, Z), L being the positive labels of the
            batch in increasing order (``labels.unique()`` without 0). Where an image has no such
            lesion, or no segmented voxel, zeros.

        Raises:
            InputError: an argument is out of its range, or shapes do not agree.
        """
        if abs:
            raise InputError(
                "abs=True averages magnitudes; these maps are signed: leave it out and take the "
                "map's .abs(), or use Saliency, which has no noise"
            )
        noise = None if noise_samples is None else _channels_last(noise_samples)
        chosen = _smoothgrad_settings(
            samples=nt_samples if noise is None else max(len(noise), 1),
            noise_batch=nt_samples_batch_size,
            **({} if stdevs is None else {"noise": stdevs, "noise_scale": "absolute"}),
            **settings,
        )

        def maps(image: np.ndarray, asked: Question) -> LabelledMaps:
            own = replace(chosen, target=asked.channel)
            field = self._explained.field
            return smoothgrad_stream(field, image, asked.labels, own, noise_samples=noise)

        return attributions(inputs, target, labels, maps)


class InstanceGradCamPlusPlus:
    """Grad-CAM++ of lesions, of the class or of single logits (Spagnolo et al. 2026, Eqs. 4-10).

    Args:
        model: as for `Saliency`.
        layer: whose activations are weighted: the module itself or its path in the network, or our
            name of the layer.
        config: as for `Saliency`.
        roi: as for `Saliency`.
        overlap: as for `Saliency`.

    Raises:
        InputError: the network cannot be converted, or has no such layer.
    """

    def __init__(
        self,
        model: torch.nn.Module | Model,
        layer: torch.nn.Module | str,
        *,
        config: Mapping[str, Any] | None = None,
        roi: int | Sequence[int] | None = None,
        overlap: float = 0.25,
    ) -> None:
        self._explained = Explained.of(model, config, roi, overlap)
        self._layer = self._explained.model.resolve_layer(_layer_path(model, layer))

    def attribute(
        self,
        inputs: torch.Tensor,
        target: Target = 1,
        labels: torch.Tensor | None = None,
        **settings: Any,
    ) -> torch.Tensor:
        """The heat maps, zero or positive, interpolated to the image's grid.

        Args:
            inputs: as for `InstanceSmoothGrad.attribute`.
            target: as there.
            labels: as there.
            settings: others of `jaxsal.gradcam_plus_plus`: ``derivatives``, ``denominator``, ….

        Returns:
            (B, 1, X, Y, Z); with labels (B, L, 1, X, Y, Z), as `InstanceSmoothGrad.attribute`.

        Raises:
            InputError: an argument is out of its range, or shapes do not agree.
        """

        def maps(image: np.ndarray, asked: Question) -> LabelledMaps:
            heat = gradcam_plus_plus(
                self._explained.model,
                image,
                asked.labels,
                layer=self._layer,
                target=asked.channel,
                field=self._explained.field,
                **settings,
            )
            return ((label, heat.crop(label)) for label in heat.labels)

        return attributions(inputs, target, labels, maps, channels=1)


def _smoothgrad_settings(**settings: Any) -> SmoothGradSettings:
    try:
        return SmoothGradSettings(**settings)
    except TypeError as error:
        known = ", ".join(SmoothGradSettings.__dataclass_fields__)
        raise InputError(f"unknown setting ({error}); there are {known}") from error


def _channels_last(noise: torch.Tensor) -> np.ndarray:
    if noise.ndim != 5:
        raise InputError(f"noise_samples must be (N, C, X, Y, Z), got {tuple(noise.shape)}")
    array: np.ndarray = noise.detach().to("cpu", torch.float32).movedim(1, -1).numpy()
    return array


def _layer_path(model: torch.nn.Module | Model, layer: torch.nn.Module | str) -> str:
    if isinstance(layer, str):
        return layer
    if isinstance(model, torch.nn.Module):
        for path, module in model.named_modules():
            if module is layer:
                return path.removeprefix("module.")  # of DataParallel
    raise InputError(
        f"the layer, a {type(layer).__name__}, is no module of the network: give one of its "
        "modules, or a name"
    )
