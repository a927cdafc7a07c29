"""Options are declared by the fields of settings, and documented by their docstring."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from typing import Literal

import pytest

from jaxsal.options import option, options_of
from jaxsal.saliency.methods.gradcam import GradCamSettings
from jaxsal.saliency.methods.smoothgrad import SmoothGradSettings
from jaxsal.settings import ExplainSettings, PredictSettings


@dataclass(frozen=True)
class Common:
    """What all share.

    Attributes:
        seed: of the noise,
            in any batch.
    """

    seed: int = option(0, "N")


@dataclass(frozen=True, kw_only=True)
class Own(Common):
    """What one has.

    Attributes:
        name: of the layer; the first counts.
        size: in mm. None: that of the image.
        hidden: of no interest to a command line.
        mode: how it is done.
        kinds: of lesions.
        plain: drawn, too.

    Raises:
        InputError: never.
    """

    name: str = option()
    size: float | None = option(None, "MM")
    hidden: int = 3
    mode: Literal["a", "b"] = option("a")
    kinds: tuple[Literal["TP", "FP"], ...] | None = option(None, flag="kind", shown="any")
    plain: bool = option(True, help="draw nothing")
    odd: None | int = option(None, help="turned round")  # noqa: RUF036
    large: float = option(1234567.0, help="large")
    mirrored: bool = option(False, help="mirror")


EVERY = ["seed", *Own.__annotations__]
OPTIONS = {each.name: each for each in options_of(Own)}


def test_only_what_is_declared_is_an_option_and_what_is_inherited_is() -> None:
    assert list(OPTIONS) == [name for name in EVERY if name != "hidden"]


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("seed", {"kind": int, "default": 0, "help": "of the noise, in any batch", "shown": ""}),
        ("name", {"default": MISSING, "help": "of the layer; the first counts"}),
        ("size", {"kind": float, "help": "in mm", "shown": "that of the image", "metavar": "MM"}),
        ("mode", {"choices": ("a", "b"), "flag": "mode"}),
        ("kinds", {"choices": ("TP", "FP"), "flag": "kind", "shown": "any"}),
        ("plain", {"kind": bool, "help": "draw nothing", "default_shown": ""}),
        ("odd", {"kind": int}),
        ("large", {"default_shown": "1234567"}),
        ("mirrored", {"default_shown": "off"}),
    ],
)
def test_an_option_is_what_the_field_and_the_docstring_say(
    name: str, facts: dict[str, object]
) -> None:
    assert {fact: getattr(OPTIONS[name], fact) for fact in facts} == facts


@pytest.mark.parametrize(
    "settings", [PredictSettings, SmoothGradSettings, GradCamSettings, ExplainSettings]
)
def test_every_option_has_a_help(settings: type) -> None:
    options = options_of(settings)
    assert options
    assert all(each.help for each in options)
