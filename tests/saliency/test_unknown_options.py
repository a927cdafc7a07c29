"""An option that a function does not have is named, with the one that may be meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import jaxsal
from jaxsal import InputError

# Each with what must be given, none of which is looked at.
FUNCTIONS: dict[Callable[..., Any], dict[str, Any]] = {
    jaxsal.smoothgrad: {},
    jaxsal.gradient: {},
    jaxsal.vargrad: {},
    jaxsal.occlusion: {"spacing": (1, 1, 1)},
    jaxsal.integrated_gradients: {"spacing": (1, 1, 1)},
    jaxsal.gradcam_plus_plus: {"layer": "encoder.0"},
    jaxsal.gradcam: {"layer": "encoder.0"},
    jaxsal.hirescam: {"layer": "encoder.0"},
    jaxsal.layercam: {"layer": "encoder.0"},
    jaxsal.quantus_explain: {"field": None, "labels": None},
}


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_a_misspelt_option_is_named_with_the_one_that_is_meant(
    function: Callable[..., Any],
) -> None:
    name = function.__name__
    said = rf"^{name}: unknown option memry; did you mean memory\? It has .*memory"
    with pytest.raises(InputError, match=said):
        function(None, None, None, memry=1, **FUNCTIONS[function])


@pytest.mark.parametrize("name", ["on_progress", "devices", "noise_samples", "group_size"])
def test_options_that_are_handed_on_are_known(name: str) -> None:
    with pytest.raises(InputError, match=f"unknown option nowhere; It has .*{name}"):
        jaxsal.vargrad(None, None, None, nowhere=1)


def test_the_gradient_offers_no_option_of_noise() -> None:
    with pytest.raises(InputError) as raised:
        jaxsal.gradient(None, None, None, nowhere=1)
    assert "group_size" in str(raised.value)
    assert "noise" not in str(raised.value)
    assert "samples" not in str(raised.value)
