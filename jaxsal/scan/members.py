"""The members whose differences say how uncertain a network is: copies of the image, or networks.

Each is made when it is asked for. All members of a kind share one compiled
program: what distinguishes them are its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsal.errors import InputError
from jaxsal.field.plan import LogitField
from jaxsal.inputs.images import LoadedScan
from jaxsal.model import Model
from jaxsal.nets.dropout import DropoutFunction, has_dropout
from jaxsal.saliency.noise import add_noise, standard_deviation
from jaxsal.settings import PredictSettings, UncertaintySettings
from jaxsal.types import LogitFunction, Triple

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, eq=False)
class Member:
    """A member: what predicts, and what it is given.

    Attributes:
        model: the network.
        scan: the scan, with the member's image.
        variant: what makes the member's field of the network's, without mirrored windows; None: it
            is the network's, as the settings ask for it.
    """

    model: Model
    scan: LoadedScan
    variant: Callable[[Any], LogitField] | None = None


@dataclass(frozen=True, eq=False)
class _Call:
    """What members are made of."""

    model: Model
    loaded: LoadedScan
    settings: UncertaintySettings


def members_of(
    model: Model, loaded: LoadedScan, finding: PredictSettings, settings: UncertaintySettings
) -> Iterator[Member]:
    """The members of a scan, one by one; always the same ones.

    Raises:
        InputError: the network has no such members.
    """
    call = _Call(model, loaded, settings)
    make = _KINDS[settings.uncertainty].make
    return (make(call, n) for n in range(count_members(model, finding, settings)))


def count_members(model: Model, finding: PredictSettings, settings: UncertaintySettings) -> int:
    """How many members there are.

    Raises:
        InputError: the network has no such members.
    """
    return _KINDS[settings.uncertainty].count(model, finding, settings)


def require_members(
    model: Model, finding: PredictSettings, settings: UncertaintySettings | None
) -> None:
    """Refuses settings whose members the network does not have; None asks for none.

    Raises:
        InputError: it has no such members.
    """
    if settings is not None:
        count_members(model, finding, settings)


def mirrored_axes(model: Model) -> tuple[int, ...]:
    """The axes that members are mirrored along: those of the training if it is known, else all.

    Raises:
        InputError: it is known that training mirrored along none.
    """
    axes = model.preprocessing.mirror_axes if model.preprocessing else None
    if axes == ():
        raise InputError(
            "the uncertainty mirror is for networks that were trained with mirrored images, and "
            "this one was not: choose another --uncertainty"
        )
    return (0, 1, 2) if axes is None else axes


@dataclass(frozen=True)
class MirroredFunction:
    """A network on mirrored images, its logits mirrored back, as a pure function; hashable.

    Attributes:
        network: the network.
    """

    network: LogitFunction

    def __call__(self, parameters: tuple[Any, jax.Array], batch: jax.Array) -> jax.Array:
        """Logits (B, X, Y, Z, K) of images, by the network's parameters and (3,) bool, the axes."""
        own, along = parameters

        def mirror(x: jax.Array) -> jax.Array:
            for axis in range(3):
                x = jnp.where(along[axis], jnp.flip(x, 1 + axis), x)
            return x

        return mirror(self.network(own, mirror(batch)))

    @property
    def divisor(self) -> Triple:
        """What each spatial size of a batch must be a multiple of."""
        return self.network.divisor

    @property
    def channels(self) -> int | None:
        """Number of image channels."""
        return self.network.channels

    @property
    def smallest_size(self) -> Triple:
        """The smallest spatial size of a batch."""
        return self.network.smallest_size


def _noisy(call: _Call, number: int) -> Member:
    """The scan with the noise of SmoothGrad's sample of that number."""
    part, settings = call.loaded.box.cut(call.loaded.image), call.settings
    assert settings.member_noise is not None  # the settings put a default in
    assert settings.member_noise_scale is not None
    deviation = standard_deviation(part, settings.member_noise, settings.member_noise_scale)
    image = call.loaded.image.copy()
    noisy = add_noise(jnp.asarray(part), deviation, settings.member_seed or 0, np.array([number]))
    image[call.loaded.box.slices] = np.asarray(noisy[0])
    return Member(call.model, replace(call.loaded, image=image))


def _mirrored(call: _Call, number: int) -> Member:
    axes = mirrored_axes(call.model)
    chosen = list(product((False, True), repeat=len(axes)))[number]
    along = np.zeros(3, bool)
    along[list(axes)] = chosen

    def variant(field: Any) -> LogitField:
        parameters = field.parameters, jnp.asarray(along)
        own: LogitField = replace(
            field, function=MirroredFunction(field.function), parameters=parameters
        )
        return own

    return Member(call.model, call.loaded, variant)


def _fold(call: _Call, number: int) -> Member:
    parameters = {name: value[number] for name, value in call.model.parameters.items()}
    model = replace(call.model, members=1, parameters=parameters)
    return Member(model, call.loaded)


def _dropped(call: _Call, number: int) -> Member:
    key = jax.random.key(call.settings.member_seed or 0, impl="threefry2x32")
    function = DropoutFunction(call.model.config, call.model.precision)

    def variant(field: Any) -> LogitField:
        parameters = field.parameters, jax.random.fold_in(key, number)
        own: LogitField = replace(field, function=function, parameters=parameters)
        return own

    return Member(call.model, call.loaded, variant)


def _number_of_ways(model: Model, finding: PredictSettings, settings: UncertaintySettings) -> int:
    return 2 ** len(mirrored_axes(model))


def _number_asked_for(model: Model, finding: PredictSettings, settings: UncertaintySettings) -> int:
    assert settings.members is not None  # the settings put a default in
    return settings.members


def _number_of_folds(model: Model, finding: PredictSettings, settings: UncertaintySettings) -> int:
    if model.members == 1:
        raise InputError(
            "folds are the networks of an ensemble, and this model is a single network: convert "
            "several folds of an nnU-Net training into one model, or take noise or mirror for the "
            "uncertainty"
        )
    return model.members


def _number_of_draws(model: Model, finding: PredictSettings, settings: UncertaintySettings) -> int:
    if not has_dropout(model.config):
        raise InputError(
            f"the uncertainty dropout is for networks with dropout at a rate above 0, which unet, "
            f"dynunet, segresnet and segresnet-ds may have; this {model.config.kind} has none: "
            "take noise or mirror"
        )
    if model.members > 1 or finding.mirror:
        what = "an ensemble" if model.members > 1 else "mirrored windows"
        raise InputError(
            f"each draw of the dropout is one pass of one network, which does not go with {what}: "
            "take folds, noise or mirror for the uncertainty, or leave out --mirror"
        )
    return _number_asked_for(model, finding, settings)


@dataclass(frozen=True)
class _Kind:
    """A kind of members: how many there are, which may be an error, and each by its number."""

    count: Callable[[Model, PredictSettings, UncertaintySettings], int]
    make: Callable[[_Call, int], Member]


_KINDS: Mapping[str, _Kind] = {
    "noise": _Kind(_number_asked_for, _noisy),
    "mirror": _Kind(_number_of_ways, _mirrored),
    "folds": _Kind(_number_of_folds, _fold),
    "dropout": _Kind(_number_of_draws, _dropped),
}
