"""What configurations of networks share: their fields are arguments of the source's constructor.

A configuration is a frozen dataclass whose every field says how the argument is checked, what it is
by default, and how it is written: ``act: Annotated[Setting | None, Argument(as_activation)]``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, NamedTuple, Self, get_type_hints

from jaxsal.errors import InputError
from jaxsal.nets.settings import (
    as_activation,
    as_count,
    as_norm,
    as_sequence,
    check_known,
    setting_as_json,
)
from jaxsal.types import Triple

_REQUIRED = object()
_MOST_BLOCKS = 1000  # of a network, by what its arguments repeat: a file may ask for any number


def as_json(value: Any) -> Any:
    """Tuples as lists."""
    return list(map(as_json, value)) if isinstance(value, tuple) else value


def setting_or_empty(value: Any) -> Any:
    """A layer's name and arguments as JSON holds them; "" for none, as MONAI has it."""
    return setting_as_json(value) or ""


class Argument(NamedTuple):
    """An argument of the source's constructor.

    Attributes:
        check: from its name and value to the value in a form that can be hashed; raises InputError.
        default: of the source, unchecked; without one the argument must be given.
        write: from the checked value to what JSON holds.
    """

    check: Callable[[str, Any], Any]
    default: Any = _REQUIRED
    write: Callable[[Any], Any] = as_json


def as_counts(name: str, value: Any) -> tuple[int, ...]:
    """A list of whole numbers of at least 1."""
    return tuple(as_count(name, entry) for entry in as_sequence(name, value))


def as_convolution_norm(name: str, value: Any) -> Any:
    """As `as_norm`, for networks that have no layer norm."""
    norm = as_norm(name, value)
    if norm is not None and norm[0] == "layer":
        raise InputError(f"{name} must be batch, instance or group, got layer")
    return norm


Count = Annotated[int, Argument(as_count)]
ACTIVATION = Argument(as_activation, None, setting_as_json)


@dataclass(frozen=True)
class Architecture:
    """The base of configurations; see `jaxsal.nets.registry.NetworkConfig`."""

    kind: ClassVar[str]
    source: ClassVar[str]  # whose constructor takes the arguments
    further: ClassVar[Mapping[str, Any]] = {}  # arguments that are no fields, with their defaults
    repeated: ClassVar[tuple[str, ...]] = ()  # arguments that say how often a block is repeated

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> Self:
        """From the keyword arguments of the source's constructor, as JSON gives them.

        Raises:
            InputError: an argument is missing, unknown or outside what is supported.
        """
        if not isinstance(arguments, Mapping):
            raise InputError(
                f"the configuration of {cls.source} is a mapping of arguments, got {arguments!r}"
            )
        known = _arguments_of(cls)
        optional = {n: a.default for n, a in known.items() if a.default is not _REQUIRED}
        optional |= cls.further
        check_known(cls.source, arguments, [n for n in known if n not in optional], optional)
        full = {**optional, **arguments}
        if full.get("spatial_dims", 3) != 3:
            raise InputError(f"spatial_dims must be 3, got {full['spatial_dims']!r}")
        full = cls.stated(full)
        checked = {name: argument.check(name, full[name]) for name, argument in known.items()}
        make: Callable[..., Self] = cls
        blocks = sum(_total(checked[name]) for name in cls.repeated)
        if blocks > _MOST_BLOCKS:
            raise InputError(
                f"{', '.join(cls.repeated)} must be at most {_MOST_BLOCKS} blocks together, got "
                f"{blocks}"
            )
        config = make(**checked)
        config.check(full)
        return config

    @classmethod
    def stated(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        """All arguments before each is checked, where some depend on others."""
        return arguments

    def check(self, arguments: Mapping[str, Any]) -> None:
        """Raises InputError if what each argument allows does not go together."""

    def to_arguments(self) -> dict[str, Any]:
        """The inverse of `from_arguments`, ready for JSON."""
        dimensions = {"spatial_dims": 3} if "spatial_dims" in self.further else {}
        known = _arguments_of(type(self))
        return dimensions | {n: a.write(getattr(self, n)) for n, a in known.items()}

    @property
    def fixed_size(self) -> tuple[int | None, int | None, int | None]:
        """The only size an input can have along each spatial axis; every size is free."""
        return None, None, None


def check_first_stride(strides: tuple[Triple, ...]) -> None:
    """Raises InputError unless the first level keeps the image's size."""
    if strides[0] != (1, 1, 1):
        raise InputError(
            "strides must begin with 1, else the logits are on a coarser grid than the image; got "
            f"{list(strides[0])}"
        )


def _total(counts: int | tuple[int, ...] | None) -> int:
    return counts if isinstance(counts, int) else sum(counts or ())


def _arguments_of(config: type[Architecture]) -> dict[str, Argument]:
    hints = get_type_hints(config, include_extras=True)
    return {field.name: hints[field.name].__metadata__[0] for field in fields(config)}
