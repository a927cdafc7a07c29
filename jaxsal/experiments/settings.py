"""Settings of the experiments, with their defaults. Imports nothing heavy.

What a field's metadata tells becomes the help of the command line's option of its name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jaxsal.errors import InputError


def option(default: Any, text: str, metavar: str) -> Any:
    """A setting that the command line offers as an option.

    Args:
        default: of the type that the option has; a pair is given as LOW:HIGH.
        text: the option's help.
        metavar: what stands for its value.
    """
    return field(default=default, metadata={"help": text, "metavar": metavar})


@dataclass(frozen=True)
class GroupsSettings:
    """Peaks of the maps of found, false and missed lesions and of none (Fig. 11).

    Attributes:
        spheres: per scan, of tissue that is no lesion.
        volume: of a sphere, in mm³.
    """

    spheres: int = option(10, "spheres per scan of what is no lesion (TN)", "N")
    volume: float = option(93.0, "volume of a sphere", "MM3")

    def __post_init__(self) -> None:
        if self.spheres < 0:
            raise InputError(f"spheres must be zero or more, got {self.spheres}")
        if not self.volume > 0:
            raise InputError(f"volume must be more than zero, got {self.volume}")


SETTINGS: dict[str, type] = {
    "groups": GroupsSettings,
}
