"""A trained network together with what is needed to apply it to scans."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxsal.box import Box
from jaxsal.compilation import bound_programs, compiled
from jaxsal.errors import InputError, require_one_of
from jaxsal.lesions import output_channel
from jaxsal.locality.boxes import receptive_field
from jaxsal.nets.registry import (
    NetworkConfig,
    NetworkFunction,
    build,
    layer_names,
    parameter_shapes,
    require_rematerialising,
    split,
    statistics_names,
)
from jaxsal.preprocessing import Outputs, Preprocessing, check_window
from jaxsal.resampling import Permit, Resampling
from jaxsal.settings import PRECISIONS
from jaxsal.types import Triple
from jaxsal.wording import counted

if TYPE_CHECKING:
    from jaxsal.arrays import BatchLogits, Images

NamedShapes = Mapping[str, tuple[int, ...]]

_SHOWN = 3  # names listed per kind of mismatch


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A network with its parameters; ``model(batch)`` gives logits.

    Attributes:
        config: the architecture.
        parameters: float32 arrays by name, as `jaxsal.nets.registry.parameter_shapes` lists them.
        channels: a name per input channel, in order; used in file names.
        threshold: lesion probability at and above which a voxel is lesion.
        aliases: layer names of the network that it was converted from -> our layer names.
        precision: arithmetic, one of `jaxsal.settings.PRECISIONS`.
        source: where the parameters come from (file name, checksum, converter), ready for JSON.
        members: number of networks in an ensemble, whose logits are averaged; its parameters have
            them as their leading axis. 1 for a single network.
        preprocessing: what the images must undergo; None if the source does not say.
        outputs: meaning of the output channels; None if the source does not say.
        roi: window size in voxels that its threshold was chosen with, before the preprocessing's;
            None if the source does not say.
        overlap: share of a window that the next one covers again, likewise.
        rematerialise: compute activations again rather than keep them for derivatives.
        mirror_axes: spatial axes, 0 … 2; logits are averaged over all ways to mirror the image
            along some of them.

    Raises:
        InputError: parameters, channels or outputs do not fit the architecture, channel names are
            not unique or unfit for file names, the threshold is not between 0 and 1, or the window
            is none.
    """

    config: NetworkConfig
    parameters: dict[str, jax.Array]
    channels: tuple[str, ...]
    threshold: float = 0.5
    aliases: Mapping[str, str] = field(default_factory=dict)
    precision: str = "float32"
    source: Mapping[str, Any] = field(default_factory=dict)
    members: int = 1
    preprocessing: Preprocessing | None = None
    outputs: Outputs | None = None
    roi: Triple | None = None
    overlap: float | None = None
    rematerialise: bool = False
    mirror_axes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require_one_of("precision", self.precision, PRECISIONS)
        check_threshold(self.threshold)
        channels = tuple(self.channels)
        _check_channels(channels, self.config.in_channels)
        found = {name: tuple(np.shape(value)) for name, value in self.parameters.items()}
        if not isinstance(self.members, int) or isinstance(self.members, bool) or self.members < 1:
            raise InputError(f"members is a whole number of at least 1, got {self.members!r}")
        check_window(self.roi, self.overlap)
        mismatch = describe_mismatch(parameter_shapes(self.config, self.members), found)
        if mismatch:
            raise InputError(f"the parameters do not fit the network: {mismatch}")
        schemes = self.preprocessing and self.preprocessing.normalisation
        if schemes and len(schemes) != len(channels):
            raise InputError(
                f"the preprocessing is for {len(schemes)} channels, the network has {len(channels)}"
            )
        if self.outputs and len(self.outputs.names) != self.config.out_channels:
            raise InputError(
                f"the network has {self.config.out_channels} outputs and each needs a name; got "
                f"{len(self.outputs.names)}: {', '.join(self.outputs.names)}"
            )
        parameters = {k: jnp.asarray(v, jnp.float32) for k, v in self.parameters.items()}
        object.__setattr__(self, "channels", channels)
        object.__setattr__(self, "parameters", parameters)

    def __repr__(self) -> str:
        members = f"{self.members} members, " if self.members > 1 else ""
        return (
            f"Model({self.function}, {members}channels {' '.join(self.channels)}, "
            f"threshold {self.threshold:g}, {counted(self.parameter_count, 'parameter')})"
        )

    @classmethod
    def initialise(
        cls,
        config: NetworkConfig,
        channels: tuple[str, ...],
        threshold: float = 0.5,
        seed: int = 0,
    ) -> Model:
        """A model with fresh random weights.

        Args:
            config: the architecture.
            channels: a name per input channel.
            threshold: as for `Model`.
            seed: of the initial weights.
        """
        return cls(config, _fresh_parameters(config, jax.random.key(seed)), channels, threshold)

    def __call__(self, batch: Images) -> BatchLogits:
        """Logits (B, X, Y, Z, K), float32, of images (B, X, Y, Z, C).

        Raises:
            InputError: wrong rank or number of channels, or spatial sizes that are not multiples
                of `divisor`.
        """
        return _logits(self.function, self.parameters, self._checked(batch))

    def activations(self, batch: Images) -> tuple[BatchLogits, dict[str, jax.Array]]:
        """Logits (B, X, Y, Z, K) and the activation (B, X', Y', Z', C') of every layer by name.

        Args:
            batch: images (B, X, Y, Z, C).

        Raises:
            InputError: as for calling the model.
        """
        logits, found = _logits_and_activations(
            self.function, self.parameters, self._checked(batch)
        )
        return logits, {name: found[name] for name in self.layers}

    @property
    def function(self) -> NetworkFunction:
        """The network as a pure function of parameters and a batch."""
        return NetworkFunction(
            self.config, self.precision, self.members, self.rematerialise, self.mirror_axes
        )

    @property
    def divisor(self) -> Triple:
        """What each spatial size of a batch must be a multiple of."""
        return self.config.divisor

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of all layers, in the order of the computation."""
        return layer_names(self.config)

    @property
    def parameter_count(self) -> int:
        """Number of learnt values; running statistics do not count."""
        measured = statistics_names(self.config)
        return sum(v.size for name, v in self.parameters.items() if name not in measured)

    @property
    def receptive_field(self) -> Triple | None:
        """The largest extent of the input, in voxels per axis, that one output voxel depends on.

        None where every output voxel depends on the whole input, as with instance norm.
        """
        extents = []
        for position in range(max(self.divisor)):  # strides make it differ within a period
            voxel = Box.at(3 * (position,), (1, 1, 1))
            reach = receptive_field(self.function, self.parameters, voxel)
            if reach is None:
                return None
            extents.append(reach.shape)
        x, y, z = np.max(extents, axis=0).tolist()
        return x, y, z

    @property
    def probability(self) -> str:
        """How probabilities come of logits: "softmax" over the channels, or "sigmoid" of each."""
        return self.outputs.probability if self.outputs else "softmax"

    def lesion_output(self, target: int | str | None = None) -> int:
        """The output channel of the lesion class.

        Args:
            target: its number or, where the model names its outputs, its name; None: the model's
                own, `jaxsal.preprocessing.Outputs.lesion`, else 1, or the only one.

        Raises:
            InputError: there is no such output, or the model does not say which one it is.
        """
        if isinstance(target, str):
            if self.outputs is None:
                raise InputError(
                    f"the model does not name its outputs, give a number; got {target!r}"
                )
            return self.outputs.index(target)
        if target is None and self.outputs is not None:
            target = self.outputs.lesion
            if target is None:
                raise InputError(
                    f"the network has the outputs {', '.join(self.outputs.names)}, which overlap: "
                    "name the one to find and explain with --target (that of `jaxsal convert` "
                    "stores it)"
                )
        return output_channel(1 if target is None else target, self.config.out_channels)

    def resolve_layer(self, name: str) -> str:
        """Our name of a layer, given that or the source's module path.

        Raises:
            InputError: there is no such layer; the message suggests similar names.
        """
        layer = self.aliases.get(name, name)
        if layer in self.layers:
            return layer
        similar = difflib.get_close_matches(name, [*self.layers, *self.aliases], cutoff=0.5)
        suggestion = f"; did you mean {' or '.join(similar)}?" if similar else ""
        raise InputError(
            f"the network has no layer {name!r}{suggestion} (`jaxsal info MODEL_DIR` lists them)"
        )

    def with_precision(self, name: str) -> Model:
        """The same model with another arithmetic, one of `jaxsal.settings.PRECISIONS`.

        Raises:
            InputError: unknown name.
        """
        return replace(self, precision=name)

    def with_rematerialisation(self) -> Model:
        """The same model needing less memory and more time for derivatives, which stay the same.

        Of the transformer's blocks only the inputs are kept. With 48 features, in float32, what is
        kept of a window of 96³ voxels decreases from 6.5 to 2.8 GiB. That helps where several
        windows are kept at once; the peak of a single pull-back on CPU hardly changes, since XLA's
        scheduler may compute everything again at once (kept and temporary arrays of XLA's own
        convolutions together, by its account: 8.1 and 7.8 GiB).

        Raises:
            InputError: networks of this kind keep too little for that to make a difference.
        """
        require_rematerialising(self.config.kind, "rematerialisation")
        return replace(self, rematerialise=True)

    def with_resampling(self, splines: str | None = None, *, any_size: bool = False) -> Model:
        """The same model with other rules for scans of another voxel size than its own.

        Args:
            splines: by which images are brought to its voxel size: "linear" or "cubic"; logits are
                brought back linearly. None: as they are.
            any_size: take scans, too, that would grow to more than 8 times as many voxels.

        Raises:
            InputError: the model does not say its voxel size, or there are no such splines.
        """
        known = self.preprocessing
        if known is None or known.spacing is None:
            raise InputError(
                "scans are resampled to the model's voxel size, and this model does not say it: "
                "convert it with `jaxsal convert ... --voxel-size 1 1 1`, or leave out --resample "
                "and --allow-upsampling"
            )
        rules = known.resampling if splines is None else Resampling.named(splines)
        permit: Permit = "any" if any_size else known.permit
        return replace(self, preprocessing=replace(known, resampling=rules, permit=permit))

    def with_any_voxel_size(self) -> Model:
        """The same model, which takes scans, too, with voxels outside of 0.05 to 20 mm."""
        known = self.preprocessing or Preprocessing()
        return replace(self, preprocessing=replace(known, any_voxel_size=True))

    def with_mirroring(self) -> Model:
        """The same model with its logits averaged over mirrored images.

        That is nnU-Net's test-time augmentation: all ways to mirror the image along the axes that
        training mirrored, two to the power of their number, the logits mirrored back.

        Raises:
            InputError: training mirrored along no axis, or the model's source does not say.
        """
        axes = self.preprocessing.mirror_axes if self.preprocessing else None
        if not axes:
            known = "was trained without" if axes is not None else "does not say along which axes"
            raise InputError(
                f"mirroring is for networks that were trained with it, and this model {known}: "
                "leave out --mirror"
            )
        return replace(self, mirror_axes=axes)

    def _checked(self, batch: Images) -> jax.Array:
        batch = jnp.asarray(batch, jnp.float32)
        if batch.ndim != 5 or batch.shape[-1] != len(self.channels):
            raise InputError(
                f"a batch has the shape (B, X, Y, Z, {len(self.channels)}), its last axis being "
                f"{', '.join(self.channels)}; got {batch.shape}"
            )
        size = batch.shape[1:4]
        if 0 in batch.shape or any(n % d for n, d in zip(size, self.divisor, strict=True)):
            raise InputError(
                f"the network takes sizes (X, Y, Z) that are multiples of {self.divisor}; "
                f"got {size}: pad the images with zeros"
            )
        bound_programs(self.function, batch)
        return batch


# Optimising code that runs once would take ten times as long as running it.
@partial(jax.jit, static_argnums=0, compiler_options={"xla_backend_optimization_level": 0})
def _fresh_parameters(config: NetworkConfig, key: jax.Array) -> dict[str, jax.Array]:
    return split(build(config, nnx.Rngs(key)))


@partial(compiled, static_argnums=0)
def _logits(
    function: NetworkFunction, parameters: dict[str, jax.Array], batch: jax.Array
) -> jax.Array:
    return function(parameters, batch)


@partial(compiled, static_argnums=0)
def _logits_and_activations(
    function: NetworkFunction, parameters: dict[str, jax.Array], batch: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    return function.with_activations(parameters, batch)


def describe_mismatch(expected: NamedShapes, found: NamedShapes) -> str:
    """What distinguishes two sets of named shapes: the first names of each kind and their number.

    Returns:
        "" if nothing does.
    """
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    misshapen = [
        f"{name} {found[name]} instead of {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    kinds = {"missing": missing, "extra": extra, "of another shape": misshapen}
    return "; ".join(
        f"{len(names)} {kind} ({', '.join(names[:_SHOWN])}{', …' * (len(names) > _SHOWN)})"
        for kind, names in kinds.items()
        if names
    )


def check_threshold(threshold: float) -> None:
    """Raises InputError unless this can be a model's threshold."""
    if isinstance(threshold, bool) or not isinstance(threshold, int | float | np.number):
        raise InputError(f"the threshold must be a number, got {threshold!r}")
    if not 0 < threshold < 1:
        raise InputError(
            f"the threshold is a probability, more than 0 and less than 1; got {threshold}"
        )


def _check_channels(channels: tuple[str, ...], in_channels: int) -> None:
    shown = " ".join(map(str, channels))
    if len(channels) != in_channels:
        raise InputError(
            f"the network has {in_channels} input channels and each needs a name; "
            f"got {len(channels)}: {shown}"
        )
    unfit = [c for c in channels if not isinstance(c, str) or not re.fullmatch(r"\w[\w.-]*", c)]
    if unfit:
        raise InputError(
            "channel names become parts of file names: letters, digits, '_', '-' and '.' only; "
            f"got {', '.join(map(repr, unfit))}"
        )
    if len({c.casefold() for c in channels}) != len(channels):
        raise InputError(f"channel names must differ, got {shown}")
