"""The pages' templates: filled with values, all of them escaped."""

from __future__ import annotations

from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined

from jaxsal.wording import fact, number


def fill(name: str, **values: object) -> str:
    """Fill a template of this package; what it extends and includes is found beside it."""
    environment = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"fact": fact, "number": number}
    return environment.get_template(name).render(**values)


def _source(name: str) -> str:
    return files("jaxsal.report").joinpath(name).read_text(encoding="utf-8")
