"""Options of the saliency methods, and the refusal of those that do not go with the chosen ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, replace
from typing import TYPE_CHECKING, Any

from jaxsal.cli import options as shared
from jaxsal.cli.command import Given, Group, group
from jaxsal.errors import InputError, warn
from jaxsal.options import Option, option, options_of
from jaxsal.registry import METHODS
from jaxsal.settings import CohortSettings, ExplainSettings, MethodSettings

if TYPE_CHECKING:
    from jaxsal.saliency.methods.method import Method

DEFAULT = "smoothgrad"


@dataclass(frozen=True)
class OneMethod:
    """A method, of those in the registry."""

    method: str = option(DEFAULT)


@dataclass(frozen=True)
class SeveralMethods:
    """Methods, of those in the registry."""

    method: tuple[str, ...] = option((DEFAULT,))


def of_method(name: str, without: Sequence[str] = ()) -> tuple[Group, ...]:
    """The options of a single method."""
    offered = (each for each in METHODS[name].offered() if each.name not in without)
    return (Group("saliency", tuple(offered)), group(ExplainSettings, "saliency", only=("field",)))


def of_methods(choice: type) -> tuple[Group, ...]:
    """The choice of one or more methods, and the options of all of them."""
    families = _families()
    several = _of_several(families)
    return (
        Group("saliency", tuple(map(_described, options_of(choice)))),
        group(ExplainSettings, "saliency", only=("field",)),
        Group("saliency", tuple(map(_of_one, several.values()))),
        *(
            Group(
                f"for --method {names}",
                tuple(_of_one(each) for each in family.values() if each.name not in several),
            )
            for names, family in families.items()
            if not family.keys() <= several.keys()
        ),
    )


def _described(choice: Option) -> Option:
    meanings = "; ".join(f"{name}: {each.summary}" for name, each in _working().items())
    number = "one or more: " if choice.default == (DEFAULT,) else ""
    return replace(choice, choices=tuple(METHODS), help=f"{number}{meanings}")


def _families() -> dict[str, dict[str, Option]]:
    """The options by name, by the methods that take them and have them from the same class."""
    takers: dict[tuple[type, str], list[str]] = {}
    options: dict[tuple[type, str], Option] = {}
    for name, method in _working().items():
        for each in method.offered():
            key = _declared_in(method.settings, each.name), each.name
            takers.setdefault(key, []).append(name)
            options[key] = each
    families: dict[str, dict[str, Option]] = {}
    for key, names in takers.items():
        families.setdefault(" and ".join(names), {})[options[key].name] = options[key]
    return families


def _declared_in(settings: type, name: str) -> type:
    """The class, of some settings and those they extend, that declares an option."""
    return next(base for base in settings.__mro__ if name in vars(base).get("__annotations__", {}))


def _working() -> dict[str, Method[Any]]:
    """The methods by name, but for those of broken packages, of which it warns."""
    found = {}
    for name in METHODS:
        try:
            found[name] = METHODS[name]
        except InputError as error:
            warn(str(error))
    return found


def _of_several(families: dict[str, dict[str, Option]]) -> dict[str, Option]:
    """The options that several families have, by name."""
    found: dict[str, Option] = {}
    for name in {name: None for family in families.values() for name in family}:
        alike = {names: family[name] for names, family in families.items() if name in family}
        first = next(iter(alike.values()))
        if len({each.kind for each in alike.values()}) > 1:
            raise InputError(f"methods declare --{first.flag} with different types; rename one")
        if len({each.default for each in alike.values()}) > 1:
            own = (f"{each.default_shown or 'none'} ({names})" for names, each in alike.items())
            first = replace(first, shown=", ".join(own))
        if len(alike) > 1:
            found[name] = first
    return found


def _of_one(declared: Option) -> Option:
    """An option of a method that may not be chosen: it need not be given."""
    if declared.default is not MISSING:
        return declared
    return replace(declared, default=None, help=f"{declared.help}; required")


def settings(
    given: Given, methods: Sequence[str], level: str = "instance"
) -> tuple[MethodSettings, ...]:
    """How maps are computed, by each of the methods.

    Raises:
        InputError: an option does not go with another one, or one is missing.
    """
    known = {**_working(), **{name: METHODS[name] for name in methods}}
    offered = {name: {each.name for each in method.offered()} for name, method in known.items()}
    _refuse_others(given, methods, offered)
    return tuple(_settings(given, name, methods, level, offered) for name in methods)


def _refuse_others(given: Given, methods: Sequence[str], offered: dict[str, set[str]]) -> None:
    """Options of methods that are not chosen have no effect."""
    taken = {option for name in methods for option in offered[name]}
    for family in _families().values():
        for each in family.values():
            if each.name in given and each.name not in taken:
                takers = " and ".join(name for name in offered if each.name in offered[name])
                raise InputError(
                    f"--{each.flag} is for {takers}; it does not go with --method "
                    f"{' '.join(methods)}"
                )


def _settings(
    given: Given, name: str, methods: Sequence[str], level: str, offered: dict[str, set[str]]
) -> MethodSettings:
    method = METHODS[name]
    for each in method.offered():
        if each.default is MISSING and each.name not in given:
            raise InputError(
                f"--method {name} needs --{each.flag} {each.metavar or 'VALUE'}: {each.help}"
            )
    own: dict[str, Any] = {option: given[option] for option in offered[name] & given.keys()}
    found: MethodSettings = method.make(**own)
    others = {option for other in methods if other != name for option in offered[other]}
    method.refuse(found, level, own.keys() - others)
    return found


def of_cohort() -> tuple[Group, ...]:
    """The options of how a cohort is explained, which planning and running share."""
    return (
        *of_methods(SeveralMethods),
        group(CohortSettings, "what is kept"),
        *(shared.FINDING, shared.RESAMPLE, shared.COMPUTING, shared.REMATERIALISE),
    )


def cohort_settings(given: Given) -> CohortSettings:
    """How a cohort is explained.

    Raises:
        InputError: as `settings`, or an option is out of range.
    """
    chosen = settings(given, given.of(SeveralMethods).method)
    field, uncertainty = given.get("field", "sliding"), shared.uncertainty_settings(given)
    return given.of(CohortSettings, saliency=chosen, field=field, uncertainty=uncertainty)
