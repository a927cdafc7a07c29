"""What is known by name and can be added from outside: saliency methods and networks.

A registry names modules by strings and imports one when it is asked for, so that listing the names
costs nothing. Another package adds to it in either of two ways:

- an entry point in its ``pyproject.toml``, known wherever that package is installed::

    [project.entry-points."jaxsal.methods"]
    gradient-input = "my_package.gradient_input:METHOD"

    [project.entry-points."jaxsal.networks"]
    my-net = "my_package.my_net:MyNet"

- a call of `register_method` or `register_network`, known to this process only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
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


@lru_cache
def _installed(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """The entry points of the packages on a path; reading them takes some 20 ms."""
    return tuple(entry_points(group=group))


class Registry(Generic[T]):
    """Objects by name, each imported when it is asked for.

    Args:
        kind: what they are, for messages.
        group: of the entry points by which other packages add theirs.
        own: "module:name" of jaxsal's own, by name.
        name_of: the name that an object has itself, if it has one.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        own: Mapping[str, str],
        name_of: Callable[[T], str] | None = None,
    ) -> None:
        self._kind, self._group, self._name_of = kind, group, name_of
        self._known: dict[str, T | str] = dict(own)

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys([*self._known, *(point.name for point in self._points())])

    def __getitem__(self, name: str) -> T:
        """The object of this name.

        Raises:
            InputError: there is none, several packages add one, or the one that does is broken.
        """
        sources = self._sources(name)
        if not sources:
            raise InputError(
                f"unknown {self._kind} {name!r}; known: {', '.join(self)}; processes on other "
                "machines know those of entry points only"
            )
        if len(sources) > 1:
            raise InputError(
                f"there are several {self._kind}s {name!r}, of {' and '.join(sources)}; uninstall "
                "all but one"
            )
        ((package, reference),) = sources.items()
        try:
            return self._checked(name, load(reference))
        except Exception as error:  # a package's module may raise anything when it is imported
            raise InputError(
                f"the {self._kind} {name!r} of {package} cannot be loaded from {reference}: "
                f"{type(error).__name__}: {error}; mend that package, or uninstall it"
            ) from error

    def register(self, name: str, entry: T | str) -> None:
        """Adds an object, or "module:name" of one.

        Raises:
            InputError: the name is taken by another one, or is not the object's own.
        """
        if not self._sources(name):
            self._known[name] = entry if isinstance(entry, str) else self._checked(name, entry)
        elif self[name] != load(entry):
            owner = " and ".join(self._sources(name))
            raise InputError(
                f"there is a {self._kind} {name!r} already, of {owner}; choose another name"
            )

    def _points(self) -> tuple[EntryPoint, ...]:
        return _installed(self._group, tuple(sys.path))

    def _sources(self, name: str) -> dict[str, T | str]:
        """What has this name, by the package that adds it."""
        own = {"jaxsal": self._known[name]} if name in self._known else {}
        named = (point for point in self._points() if point.name == name)
        return own | {point.dist.name: point.value for point in named if point.dist}

    def _checked(self, name: str, found: T) -> T:
        if self._name_of is not None and self._name_of(found) != name:
            raise InputError(f"its own name is {self._name_of(found)!r}")
        return found


METHODS: Registry[Method[Any]] = Registry(
    "saliency method",
    "jaxsal.methods",
    {
        "smoothgrad": "jaxsal.saliency.methods.smoothgrad:METHOD",
        "gradcam++": "jaxsal.saliency.methods.gradcam:GRADCAM_PLUS_PLUS",
        "gradcam": "jaxsal.saliency.methods.gradcam:GRADCAM",
        "hirescam": "jaxsal.saliency.methods.hirescam:METHOD",
        "layercam": "jaxsal.saliency.methods.layercam:METHOD",
        "gradient": "jaxsal.saliency.methods.gradient:METHOD",
        "vargrad": "jaxsal.saliency.methods.vargrad:METHOD",
        "occlusion": "jaxsal.saliency.methods.occlusion:METHOD",
        "integrated-gradients": "jaxsal.saliency.methods.integrated_gradients:METHOD",
    },
    lambda method: method.name,
)

NETWORKS: Registry[NetworkClass] = Registry(
    "network",
    "jaxsal.networks",
    {
        "unet": "jaxsal.nets.unet:UNet",
        "dynunet": "jaxsal.nets.dynunet:DynUNet",
        "nnunet": "jaxsal.nets.nnunet:NNUNet",
        "swin-unetr": "jaxsal.nets.swin_unetr:SwinUNETR",
        "segresnet": "jaxsal.nets.segresnet:SegResNet",
        "segresnet-ds": "jaxsal.nets.segresnet:SegResNetDS",
        "mednext": "jaxsal.nets.mednext:MedNeXt",
        "graph": "jaxsal.graph.network:GraphNetwork",
    },
    lambda network: network.Config.kind,
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
