"""Public functions whose arrays are checked, at every call, against their annotations.

A call that returns has accepted its arguments: these must then have the axes and dtypes that the
function promises to take, and so must its result. What a function refuses it refuses by itself.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache, wraps
from types import UnionType
from typing import Any, Union, get_args, get_origin

import jaxtyping

import jaxsal
from jaxsal import arrays

NAMES = {name: value for name, value in vars(arrays).items() if name[0].isupper()}
_CHECKED = re.compile(rf"\b({'|'.join(NAMES)})\b")
_SEEN: set[type] = set()


def check_public_functions() -> None:
    """Has all that is taken from ``jaxsal`` checked from now on."""
    load = jaxsal.__getattr__

    def load_checked(name: str) -> Any:
        found = load(name)
        if inspect.isclass(found):
            return check_methods(found)
        return checked(found) if inspect.isfunction(found) else found

    jaxsal.__getattr__ = load_checked


def array_hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function that speak of arrays, by names known to checkers only."""
    own = vars(sys.modules[function.__module__])
    hints = {}
    for name, text in getattr(function, "__annotations__", {}).items():
        known = _CHECKED.findall(text) if isinstance(text, str) else []
        if any(each not in own for each in known):
            hints[name] = eval(text, {**NAMES, **own})
    return hints


@cache
def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its arrays checked, and the methods of what it returns."""
    module = sys.modules[function.__module__]
    returned = vars(module).get(function.__annotations__.get("return", ""))
    if inspect.isclass(returned) and returned.__module__.startswith("jaxsal."):
        check_methods(returned)
    hints = array_hints(function)
    if not hints:
        return function
    signature = inspect.signature(function)

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        values = {**signature.bind(*args, **kwargs).arguments, "return": result}
        with jaxtyping.jaxtyped("context"):  # a letter is one size within the call
            wrong = [
                f"{name} of {function.__qualname__}{place}"
                for name, hint in hints.items()
                if name in values
                for place in _wrong(values[name], hint)
            ]
        if wrong:
            raise TypeError("; ".join(wrong))
        return result

    return call


def check_methods(cls: type) -> type:
    """The class, with what is public in it, and its fields, checked."""
    if cls in _SEEN:
        return cls
    _SEEN.add(cls)
    for name, member in list(vars(cls).items()):
        if name.startswith("_") and name not in ("__call__", "__init__"):
            continue
        if inspect.isfunction(member):
            setattr(cls, name, checked(member))
        elif isinstance(member, property) and member.fget is not None:
            setattr(cls, name, property(checked(member.fget)))
    return cls


def _wrong(value: Any, hint: Any) -> Iterator[str]:
    """What of a value is not as annotated."""
    if get_origin(hint) is tuple:
        for place, (each, part) in enumerate(zip(value, get_args(hint), strict=True)):
            yield from (f" [{place}]{what}" for what in _wrong(each, part))
    elif _is_array_type(hint) and not _fits(value, hint):
        found = f"{value.dtype} {value.shape}" if hasattr(value, "shape") else repr(value)
        yield f" must be {hint}, got {found}"


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, each) for each in get_args(hint))
    return isinstance(value, get_origin(hint) or hint)


def _is_array_type(hint: Any) -> bool:
    if get_origin(hint) in (Union, UnionType):
        return any(map(_is_array_type, get_args(hint)))
    return isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray)
