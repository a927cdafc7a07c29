"""What a saliency method is to the rest of jaxsal."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from jaxsal.errors import InputError
from jaxsal.options import Option, options_of
from jaxsal.registry import load
from jaxsal.saliency.methods.appearance import Appearance
from jaxsal.settings import MethodSettings

if TYPE_CHECKING:  # for annotations only: they import what is heavy
    import numpy as np

    from jaxsal.field.plan import LogitField
    from jaxsal.progress import OnProgress
    from jaxsal.saliency.infill import Scene
    from jaxsal.saliency.maps import Crop

S = TypeVar("S", bound=MethodSettings)
S_contra = TypeVar("S_contra", bound=MethodSettings, contravariant=True)


class Maps(Protocol[S_contra]):
    """Computes the maps of some domains."""

    def __call__(
        self,
        model: Any,
        field: LogitField,
        image: np.ndarray,
        labels: np.ndarray,
        settings: S_contra,
        *,
        level: str,
        on_progress: OnProgress | None,
    ) -> Iterator[tuple[int, Crop]]:
        """Yields each label with its map, as soon as that is known.

        Args:
            model: a `jaxsal.Model`.
            field: the logits as a function of the image, by that model.
            image: (X, Y, Z, C), normalised as the network expects.
            labels: (X, Y, Z) int32, one domain per positive label; at class level a single one.
            settings: which maps, as they take effect; see `Method.resolved`.
            level: "instance" or "class".
            on_progress: called as lesions are done.
        """
        ...


class MapsInScene(Protocol[S_contra]):
    """Computes the maps of some domains, of a method that is ``in_scene``."""

    def __call__(
        self,
        model: Any,
        field: LogitField,
        image: np.ndarray,
        labels: np.ndarray,
        settings: S_contra,
        *,
        level: str,
        on_progress: OnProgress | None,
        scene: Scene,
    ) -> Iterator[tuple[int, Crop]]:
        """As `Maps`; the scene has the voxel size, and all lesions, of which some are labelled."""
        ...


@dataclass(frozen=True)
class Cost:
    """What the maps of some settings take, in gradients, known before any is computed.

    Attributes:
        gradients: from a lesion's number of voxels to its gradients of one image.
        images: how many gradients are computed of, such as noisy ones.
        per: what a gradient is of: "voxel" or "lesion".
        at_most: whether a lesion may need fewer images.
        of: what these images are called.
    """

    gradients: Callable[[int], int]
    images: int
    per: str
    at_most: bool
    of: str = "noisy image"


def _as_given(settings: S, *_: Any) -> S:
    return settings


def _nothing(*_: Any) -> None:
    return None


@dataclass(frozen=True)
class Method(Generic[S]):
    """A saliency method: all that the command line, scans, cohorts and reports know of it.

    A settings class, a function that computes maps, and this record make a method; `registry.py`
    says how it becomes known::

        METHOD = jaxsal.Method(
            name="gradient-input",
            summary="the image times its gradient",
            settings=GradientInputSettings,
            maps="my_package.gradient_input:maps",
        )

    Attributes:
        name: by which users choose it, and its maps' files are named.
        summary: what its maps are, for the command line's help.
        settings: class of its settings.
        maps: computes maps, or "module:name" of what does.
        fixed: values of the settings that choosing this method decides.
        options: names of the settings that users set; None: all made by `jaxsal.option`.
        appearance: how maps of some settings and level look, for an image with these channels. By
            default one per channel, of negative and positive values.
        variant: from settings and level to the name in files and tables, where maps of the method
            differ in kind; by default its name.
        resolved: from settings, model and level to the settings as they take effect.
        refuse: from settings, level and the names of the options that a user gave; raises
            `jaxsal.InputError` if the settings do not go with the level, or a given one has no
            effect.
        cost: what can be forecast of them. None, the default: nothing can, and the maps of all of
            a scan's lesions are computed together, since they share what is slow.
        count: from a field, labels (X, Y, Z) and settings to the gradients that each label takes
            in all, or "module:name" of it; required where there is a cost.
        quick: settings of the same work at less cost, for maps whose size alone is of interest.
        in_scene: whether `maps` takes the keyword ``scene``, and `count` a fourth argument, which
            say what the image does not: the voxel size in mm, and where all lesions are.
        apart: whether maps share nothing that is slow, so that each is recorded as soon as it is
            done, also where nothing can be forecast.

    Raises:
        InputError: a part is not as said here.
    """

    name: str
    summary: str
    settings: type[S]
    maps: Maps[S] | MapsInScene[S] | str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    options: Sequence[str] | None = None
    appearance: Callable[[S, str, Sequence[str]], Appearance] | None = None
    variant: Callable[[S, str], str] = lambda settings, level: settings.method
    resolved: Callable[[S, Any, str], S] = _as_given
    refuse: Callable[[S, str, Collection[str]], None] = _nothing
    cost: Callable[[S], Cost | None] = _nothing
    count: Callable[..., dict[int, int]] | str | None = None
    quick: Callable[[S], S] = _as_given
    in_scene: bool = False
    apart: bool = False

    def __post_init__(self) -> None:
        for right, rule in self._rules():
            if not right:
                raise InputError(f"the saliency method {self.name!r}: {rule}")

    def _rules(self) -> Iterator[tuple[bool, str]]:
        """What must hold, each in words; a rule may take those before it for granted."""
        made, own = self.settings, f"its settings, {self.settings.__name__},"
        frozen = is_dataclass(made) and made.__dataclass_params__.frozen  # type: ignore[attr-defined]
        yield frozen, f"{own} must be a frozen dataclass"
        names = {each.name for each in fields(made)}
        yield {"target", "memory"} <= names, f"{own} must have the fields target and memory"
        method = self.fixed.get("method", getattr(made, "method", None))
        yield method == self.name, f"{own} must have its name as method; got {method!r}"
        others = {*self.fixed, *(self.options or ())} - names
        yield not others, f"{own} have no {', '.join(sorted(others))}, of fixed or options"
        yield self.cost is _nothing or self.count is not None, "a cost needs a count"
        for each in self.offered():
            yield bool(each.help), f"{each.name} has no help; say in {own} docstring what it is"
            taken = each.flag in ("help", "config") or each.flag.startswith("no-")
            yield not taken, f"--{each.flag} has another meaning; rename it"

    def offered(self) -> tuple[Option, ...]:
        """The settings that users set, with their help."""
        every = options_of(self.settings)
        return tuple(each for each in every if self.options is None or each.name in self.options)

    def make(self, **given: Any) -> S:
        """The settings with these values, for the rest with their defaults."""
        return self.settings(**self.fixed, **given)

    def shown(self, settings: S, level: str, channels: Sequence[str]) -> Appearance:
        """How maps of some settings and level look, for an image with these channels."""
        if self.appearance is not None:
            return self.appearance(settings, level, channels)
        return Appearance.of_channels(self.variant(settings, level), channels)

    def compute(
        self, *arguments: Any, scene: Scene | None = None, **options: Any
    ) -> Iterator[tuple[int, Crop]]:
        """As `Maps`. The scene may be left out for methods that are not ``in_scene``.

        Raises:
            InputError: it is missing.
        """
        if self.in_scene:
            if scene is None:
                raise InputError(f"the saliency method {self.name!r} needs the scene; got none")
            options["scene"] = scene
        found: Iterator[tuple[int, Crop]] = load(self.maps)(*arguments, **options)
        return found

    def gradients(
        self, field: LogitField, labels: np.ndarray, settings: S, scene: Scene | None = None
    ) -> dict[int, int]:
        """How many gradients each label's map takes; empty where that is not known."""
        if self.count is None:
            return {}
        arguments = (field, labels, settings, *((scene,) if self.in_scene else ()))
        found: dict[int, int] = load(self.count)(*arguments)
        return found
