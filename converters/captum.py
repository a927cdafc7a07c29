"""Instance-level saliency with the interface of Captum's ``captum.attr``, torch tensors in and out.

Every method takes the PyTorch network itself. Those of MONAI's that `jaxsal convert` knows are
converted once, when the object is made; any other by `jaxsal_converters.from_torch`, for each size
of image:

======================================================  =========================================
Captum                                                  here
======================================================  =========================================
``Saliency(f).attribute(x, target=(1, i, j, k))``       the same, by `Saliency`
``NoiseTunnel(Saliency(f)).attribute(x, nt_type=…,      `InstanceSmoothGrad`, the same arguments
nt_samples=N, stdevs=s, target=(1, i, j, k),
abs=False)``
a loop over the voxels of each lesion, and their        ``target=1, labels=lesions``
maximum
``LayerGradCam(f, layer).attribute(x, target=…,         `InstanceGradCam`, on the image's grid
relu_attributions=True)``
======================================================  =========================================

Captum itself is not needed. Images of a batch are explained one by one, whatever else is in it.
Its other arguments are taken where they change nothing, such as ``additional_forward_args=None``;
an `InputError` names those that would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch

from jaxsal import Model, gradcam_plus_plus, smoothgrad_stream
from jaxsal.errors import InputError
from jaxsal.settings import DomainRule
from jaxsal_converters.attribution import (
    ExplainedNetwork,
    Images,
    LabelledMaps,
    Labels,
    Question,
    Target,
    attributions,
    image_batch,
)
from jaxsal_converters.captum_arguments import (
    Stdevs,
    channels_last,
    checked_settings,
    refuse_noise,
    smoothgrad_settings,
    statistic,
    without_idle,
)


class Saliency:
    """Gradients of single logits, of lesions or of the class, as ``captum.attr.Saliency`` has them.

    Args:
        model: a PyTorch network, or a `jaxsal.Model`. Those of MONAI's that
            `jaxsal convert` knows must be in evaluation mode; any other is run in it.
        config: constructor arguments of MONAI's that are others than the network says of itself.
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
        inputs: Images,
        target: Target = None,
        abs: bool = True,
        labels: Labels | None = None,
        **settings: Any,
    ) -> Images:
        """As `InstanceSmoothGrad.attribute`, without noise; magnitudes unless ``abs=False``.

        Raises:
            InputError: as there, or an argument of the noise is given.
        """
        refuse_noise(settings)
        batch = image_batch(inputs)
        found = self._smoothgrad.attribute(
            batch, target, labels, nt_samples=1, stdevs=0.0, **settings
        )
        return _like(inputs, found.abs() if abs else found)


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
        self._network = ExplainedNetwork(model, config, roi, overlap)

    def attribute(
        self,
        inputs: Images,
        target: Target = None,
        labels: Labels | None = None,
        *,
        domain: DomainRule = "threshold",
        nt_type: str = "smoothgrad",
        nt_samples: int = 50,
        nt_samples_batch_size: int | None = None,
        stdevs: Stdevs | None = None,
        noise_samples: torch.Tensor | None = None,
        abs: bool = False,
        **settings: Any,
    ) -> Images:
        """The signed maps, in logits per unit of each image channel, averaged over noisy images.

        Args:
            inputs: (B, C, X, Y, Z), normalised as the network expects; or a tuple of that alone.
            target: output channel, by default the model's; for networks with a single one, 0 and 1
                both mean that one. As in Captum, (channel, x, y, z) is the logit of a single
                voxel; and a list has one target per image.
            labels: (B, X, Y, Z), one lesion domain per positive label; a mask is one lesion. None:
                class level, the sum over all voxels that the model segments.
            domain: which voxels are segmented, as in `jaxsal.smoothgrad`.
            nt_type: "smoothgrad"; or, of the same maps of single noisy images, "smoothgrad_sq" for
                the mean of their squares and "vargrad" for their variance (that of the population).
            nt_samples: number N of noisy images.
            nt_samples_batch_size: noisy images computed at once; the result does not depend on it.
            stdevs: standard deviation of the noise, or a tensor of one per channel; Captum's tuple
                with one entry, too. By default 0.05 of the range of channel 0.
            noise_samples: (N, C, X, Y, Z) noise to add to each image instead.
            abs: must be False: of Captum's arguments, the one that unsigns what is averaged.
            settings: any other of `jaxsal.SmoothGradSettings`: ``aggregate``, ``seed``, ….

        Returns:
            (B, C, X, Y, Z); with labels (B, L, C, X, Y, Z), L being the positive labels of the
            batch in increasing order (``labels.unique()`` without 0). Where an image has no such
            lesion, or no segmented voxel, zeros. In the inputs' dtype, float32 for whole numbers;
            in a tuple if they are.

        Raises:
            InputError: an argument is unknown or out of its range, or shapes do not agree.
        """
        if abs:
            raise InputError(
                "abs=True averages magnitudes; these maps are signed: leave it out and take the "
                "map's .abs(), or use Saliency, which has no noise"
            )
        batch = image_batch(inputs)
        _, field = self._network.on(batch)
        noise = None if noise_samples is None else channels_last(noise_samples)
        chosen = smoothgrad_settings(
            without_idle(settings),
            batch.shape[1],
            nt_type=nt_type,
            nt_samples=nt_samples if noise is None else max(len(noise), 1),
            nt_samples_batch_size=nt_samples_batch_size,
            stdevs=stdevs,
        )

        def maps(image: np.ndarray, asked: Question) -> LabelledMaps:
            own = replace(chosen, target=asked.channel)
            found = smoothgrad_stream(
                field, image, asked.labels, own, domain=domain, noise_samples=noise
            )
            return ((n, replace(crop, values=statistic(nt_type, crop))) for n, crop in found)

        return _like(inputs, attributions(batch, target, labels, maps))


class _HeatMaps:
    """What `InstanceGradCam` and `InstanceGradCamPlusPlus` share."""

    _method: ClassVar[str]  # one of `jaxsal.registry.METHODS`

    def __init__(
        self,
        model: torch.nn.Module | Model,
        layer: torch.nn.Module | str,
        *,
        config: Mapping[str, Any] | None = None,
        roi: int | Sequence[int] | None = None,
        overlap: float = 0.25,
    ) -> None:
        self._network = ExplainedNetwork(model, config, roi, overlap)
        self._layer = _layer_path(model, layer)
        if self._network.model is not None:
            self._network.model.resolve_layer(self._layer)  # raises if there is none

    def attribute(
        self,
        inputs: Images,
        target: Target = None,
        labels: Labels | None = None,
        **settings: Any,
    ) -> Images:
        """The heat maps, zero or positive, interpolated to the image's grid.

        Args:
            inputs: as for `InstanceSmoothGrad.attribute`.
            target: as there.
            labels: as there.
            settings: others of `jaxsal.gradcam_plus_plus`, such as ``derivatives`` and
                ``denominator``, or of `jaxsal.gradcam`; ``alignment="half-pixel"`` interpolates as
                Captum's ``LayerAttribution.interpolate`` with ``interpolate_mode="trilinear"``.

        Returns:
            (B, 1, X, Y, Z); with labels (B, L, 1, X, Y, Z), as `InstanceSmoothGrad.attribute`.

        Raises:
            InputError: an argument is unknown or out of its range, or shapes do not agree.
        """
        own = checked_settings(without_idle(settings), self._method)
        batch = image_batch(inputs)
        model, field = self._network.on(batch)
        layer = model.resolve_layer(self._layer)

        def maps(image: np.ndarray, asked: Question) -> LabelledMaps:
            heat = gradcam_plus_plus(
                model,
                image,
                asked.labels,
                layer=layer,
                target=asked.channel,
                field=field,
                method=self._method,
                **own,
            )
            return ((label, heat.crop(label)) for label in heat.labels)

        found = attributions(batch, target, labels, maps, channels=1)
        return _like(inputs, found)


class InstanceGradCamPlusPlus(_HeatMaps):
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

    _method = "gradcam++"


class InstanceGradCam(_HeatMaps):
    """Grad-CAM (Selvaraju et al. 2017) of lesions, of the class or of single logits.

    Arguments and errors are those of `InstanceGradCamPlusPlus`.
    """

    _method = "gradcam"


def _like(inputs: Images, found: torch.Tensor) -> Images:
    """Maps in a tuple where the inputs are."""
    return (found,) if isinstance(inputs, tuple) else found


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
