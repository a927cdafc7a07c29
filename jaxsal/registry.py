"""What is known by name and can be added from outside: saliency methods and networks.

A registry names modules by strings and imports one when it is asked for, so that listing the names
costs nothing. Another package adds to it in either of two ways:

- an entry point in its ``pyproject.toml``, known wherever that package is installed::

    [project.entry-points."jaxsal.methods"]
    input-gradient = "my_package.input_gradient:METHOD"

    [project.entry-points."jaxsal.networks"]
    my-net = "my_package.my_net:MyNet"

- a call of `register_method` or `register_network`, known to this process only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from jaxsal.errors import InputError

if TYPE_CHECKING:
    from jaxsal.nets.registry import NetworkClass
    from jaxsal.saliency.methods.method import Method

T = TypeVar("T")


def load(reference: Any) -> Any:
    """An object named by a string, "module:name"; anything but a string is returned as it is."""
    if not isinstance(reference, str):
        return reference
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)


class Registry(Generic[T]):
    """Objects by name, each imported when it is asked for.

    Args:
        kind: what they are, for messages.
        group: of the entry points by which other packages add theirs.
        own: "module:name" of jaxsal's own, by name.
    """

    def __init__(self, kind: str, group: str, own: Mapping[str, str]) -> None:
        self._kind, self._group = kind, group
        self._known: dict[str, T | str] = dict(own)

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys([*self._known, *self._installed()])

    def __getitem__(self, name: str) -> T:
        """The object of this name.

        Raises:
            InputError: there is none, or the package that adds it is broken.
        """
        reference = self._known.get(name) or self._installed().get(name)
        if reference is None:
            raise InputError(f"unknown {self._kind} {name!r}; known: {', '.join(self)}")
        try:
            found: T = load(reference)
        except (ImportError, AttributeError) as error:
            raise InputError(
                f"the {self._kind} {name!r} cannot be loaded from {reference}: {error}; mend the "
                "package that adds it, or uninstall that"
            ) from error
        return found

    def register(self, name: str, entry: T | str) -> None:
        """Adds an object, or "module:name" of one.

        Raises:
            InputError: the name is taken by another one.
        """
        if self._known.get(name, entry) != entry:
            raise InputError(f"there is a {self._kind} {name!r} already; choose another name")
        self._known[name] = entry

    def _installed(self) -> dict[str, str]:
        return {point.name: point.value for point in entry_points(group=self._group)}


METHODS: Registry[Method[Any]] = Registry(
    "saliency method",
    "jaxsal.methods",
    {
        "smoothgrad": "jaxsal.saliency.methods.smoothgrad:METHOD",
        "gradcam++": "jaxsal.saliency.methods.gradcam:GRADCAM_PLUS_PLUS",
        "gradcam": "jaxsal.saliency.methods.gradcam:GRADCAM",
    },
)

NETWORKS: Registry[NetworkClass] = Registry(
    "network",
    "jaxsal.networks",
    {
        "unet": "jaxsal.nets.unet:UNet",
        "dynunet": "jaxsal.nets.dynunet:DynUNet",
        "nnunet": "jaxsal.nets.nnunet:NNUNet",
        "swin-unetr": "jaxsal.nets.swin_unetr:SwinUNETR",
    },
)


def register_method(method: Method[Any]) -> None:
    """Adds a saliency method to those of the command line, of cohorts and of reports.

    Args:
        method: known by its name from now on, in this process.

    Raises:
        InputError: its name is taken.
    """
    METHODS.register(method.name, method)


def register_network(network: NetworkClass) -> None:
    """Adds a network to those that models are made of: built, trained, saved and loaded.

    Args:
        network: a Flax module whose attribute ``Config`` is the class of its architecture; it is
            known by ``Config.kind`` from now on, in this process.

    Raises:
        InputError: its name is taken.
    """
    NETWORKS.register(network.Config.kind, network)
