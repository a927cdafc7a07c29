"""Captum's inputs and targets -> images, lesion domains, and tensors of maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike

from jaxsal import Model, sliding_window, whole_volume
from jaxsal.errors import InputError
from jaxsal.voxels import OF_LABELS, whole_numbers
from jaxsal_converters.modules import is_native, model_from_module
from jaxsal_converters.torch_module import from_torch

Target = int | tuple[int, ...] | torch.Tensor | np.ndarray | Sequence[int | tuple[int, ...]] | None
Images = TypeVar("Images", torch.Tensor, tuple[torch.Tensor])
Labels = torch.Tensor | ArrayLike
LabelledMaps = Iterable[tuple[int, Any]]  # label and `jaxsal.saliency.maps.Crop`

_WHOLE_CLASS = 0  # the label of a map for all segmented voxels
_SINGLE = 1  # and of the one for a single logit
_ONE_ROW = {_WHOLE_CLASS: 0, _SINGLE: 0}


class Question(NamedTuple):
    """What to explain of one image: an output channel, and lesions (X, Y, Z) or the class.

    Without a channel, the model's own.
    """

    channel: int | None
    labels: np.ndarray | None


class ExplainedNetwork:
    """A network in JAX, and the field of its logits over an image.

    That is over the whole image as it is, or with a ``roi`` by MONAI's sliding window. A module
    that is not one of MONAI's own is exported when the first image of a size is known.

    Args:
        model: a PyTorch module, or a `jaxsal.Model`.
        config: constructor arguments of MONAI's network that go before what it says of itself.
        roi: window of the field; None: the whole image.
        overlap: of the windows.

    Raises:
        InputError: the network cannot be converted, or the window does not fit it.
    """

    def __init__(
        self,
        model: torch.nn.Module | Model,
        config: Mapping[str, Any] | None,
        roi: int | Sequence[int] | None,
        overlap: float,
    ) -> None:
        self._roi, self._overlap = roi, overlap
        self._known: dict[tuple[int, ...], tuple[Model, Any]] = {}
        self._module: torch.nn.Module | None = None
        self._own: tuple[Model, Any] | None = None
        if isinstance(model, torch.nn.Module) and config is None and not is_native(model):
            self._module = model
        else:
            self._own = self._with_field(_converted(model, config))

    @property
    def model(self) -> Model | None:
        """The conversion; None if it depends on the image."""
        return self._own and self._own[0]

    def on(self, batch: torch.Tensor) -> tuple[Model, Any]:
        """The conversion and the field for images (B, C, X, Y, Z).

        Raises:
            InputError: as when it is made.
        """
        if self._own is not None or self._module is None:
            assert self._own is not None
            return self._own
        size = self._example_size(batch)
        if size not in self._known:
            parameter = next(self._module.parameters(), batch)
            random = torch.randn((1, *size), generator=torch.Generator().manual_seed(0))
            model = from_torch(self._module, random.to(parameter.device, parameter.dtype))
            self._known[size] = self._with_field(model)
        return self._known[size]

    def _example_size(self, batch: torch.Tensor) -> tuple[int, ...]:
        """C, X, Y, Z of what the network is given at once."""
        channels, *size = batch.shape[1:]
        if self._roi is not None:
            size = [self._roi] * 3 if isinstance(self._roi, int) else [*self._roi]
        return channels, *size

    def _with_field(self, model: Model) -> tuple[Model, Any]:
        if self._roi is None:
            return model, whole_volume(model)
        return model, sliding_window(model, self._roi, self._overlap)


def _converted(model: torch.nn.Module | Model, config: Mapping[str, Any] | None) -> Model:
    if isinstance(model, torch.nn.Module):
        return model_from_module(model, config=config)
    if not isinstance(model, Model):
        raise InputError(
            f"the model must be a torch.nn.Module or a jaxsal.Model, got {type(model)}"
        )
    if config is not None:
        raise InputError("config describes a torch.nn.Module; a jaxsal.Model has its own")
    return model


def image_batch(inputs: torch.Tensor | tuple[torch.Tensor]) -> torch.Tensor:
    """The batch (B, C, X, Y, Z) of images that is given, alone or as a tuple's only entry.

    Raises:
        InputError: it is something else.
    """
    if isinstance(inputs, tuple) and len(inputs) == 1:
        (inputs,) = inputs
    expected = "inputs must be one tensor (B, C, X, Y, Z) of real numbers"
    if not isinstance(inputs, torch.Tensor):
        raise InputError(f"{expected}, got a {type(inputs).__name__}")
    if inputs.ndim != 5 or inputs.is_complex():
        raise InputError(f"{expected}, got {tuple(inputs.shape)} of {inputs.dtype}")
    return inputs


def attributions(
    inputs: torch.Tensor,
    target: Target,
    labels: Labels | None,
    maps: Callable[[np.ndarray, Question], LabelledMaps],
    channels: int | None = None,
) -> torch.Tensor:
    """Maps of every image, on the inputs' device, in their dtype or, for whole numbers, float32.

    Args:
        inputs: (B, C, X, Y, Z).
        target: output channel, or (channel, x, y, z) for that single logit; or a list of one of
            these per image. None: the model's own channel.
        labels: (B, X, Y, Z) or (B, 1, X, Y, Z), one lesion domain per positive label; a tensor or
            an array.
        maps: label and map for all that is asked of an image (X, Y, Z, C).
        channels: of the maps; by default those of the inputs.

    Returns:
        (B, channels, X, Y, Z); with labels (B, L, channels, X, Y, Z), L being the positive labels
        of the batch in increasing order. Where an image has no such lesion, zeros.

    Raises:
        InputError: shapes or targets do not fit.
    """
    batch, own, *shape = inputs.shape
    questions = _questions(target, labels, batch, tuple(shape))
    rows = _rows(questions) if labels is not None else _ONE_ROW
    dtype = inputs.dtype if inputs.is_floating_point() else torch.float32
    size = 1 + max(rows.values(), default=-1)
    found = torch.zeros((batch, size, channels or own, *shape), dtype=dtype)
    for image, question, into in zip(inputs, questions, found, strict=True):
        array = image.detach().to("cpu", torch.float32).movedim(0, -1).numpy()
        for label, crop in maps(array, question):
            part = np.moveaxis(crop.values, -1, 0)
            into[rows[label], :, *crop.box.slices] = torch.tensor(part, dtype=dtype)
    found = found.to(inputs.device)
    return found[:, 0] if labels is None else found


def _questions(
    target: Target, labels: Labels | None, batch: int, shape: tuple[int, ...]
) -> list[Question]:
    targets = _per_image(target, batch)
    if labels is None:
        return [_unlabelled(t, shape) for t in targets]
    if any(isinstance(t, tuple) for t in targets):
        raise InputError(
            "a target (channel, x, y, z) is a single logit; with labels, whose voxels say what is "
            f"explained, it is the channel alone; got {target!r}"
        )
    array = _label_array(labels)
    if array.shape != (batch, *shape):
        raise InputError(
            f"labels must be (B, X, Y, Z) = {(batch, *shape)} as the inputs, got {array.shape}"
        )
    return [Question(_channel(t), lesions) for t, lesions in zip(targets, array, strict=True)]


def _label_array(labels: Labels) -> np.ndarray:
    """Whole numbers (B, X, Y, Z)."""
    given = labels
    if isinstance(labels, torch.Tensor):
        given = labels.detach().cpu()
        if given.is_floating_point():
            given = given.double()  # NumPy has no bfloat16
    try:
        array = np.asarray(given)
    except (TypeError, ValueError) as error:
        raise InputError(f"labels must be an array (B, X, Y, Z): {error}") from error
    if array.dtype.kind not in "biuf":
        raise InputError(f"labels must be whole numbers, got an array of {array.dtype}")
    array = whole_numbers(array, "labels", OF_LABELS)
    return array[:, 0] if array.ndim == 5 and array.shape[1] == 1 else array


def _per_image(target: Target, batch: int) -> list[Any]:
    """An output channel, or indices of a single logit, for each image."""
    if isinstance(target, torch.Tensor | np.ndarray):
        values = target.reshape(-1).tolist()
        target = values[0] if len(values) == 1 else values
    if not isinstance(target, list):
        return [target] * batch
    if len(target) != batch:
        raise InputError(f"a list of targets needs one per image, {batch}; got {len(target)}")
    return target


def _unlabelled(target: Any, shape: tuple[int, ...]) -> Question:
    if not isinstance(target, tuple):
        return Question(_channel(target), None)
    channel, *voxel = target
    whole = all(isinstance(i, Integral) for i in voxel)
    fits = whole and len(voxel) == 3 and all(0 <= i < n for i, n in zip(voxel, shape, strict=True))
    if not fits:
        raise InputError(
            f"a single logit's target is (channel, x, y, z) within the image {shape}, counted from "
            f"0; got {target}"
        )
    single = np.zeros(shape, np.int32)
    single[tuple(voxel)] = _SINGLE
    return Question(_channel(channel), single)


def _channel(target: Any) -> int | None:
    if target is None:
        return None
    if isinstance(target, bool) or not isinstance(target, Integral):
        raise InputError(
            f"a target is an output channel or (channel, x, y, z), whole numbers; got {target!r}"
        )
    return int(target)


def _rows(questions: Sequence[Question]) -> dict[int, int]:
    """The place of each label in the result, in increasing order."""
    maps = (question.labels for question in questions if question.labels is not None)
    labels = {int(v) for array in maps for v in np.unique(array) if v > 0}
    return {label: row for row, label in enumerate(sorted(labels))}
