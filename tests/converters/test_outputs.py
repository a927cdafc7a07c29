"""Names of outputs and the lesion's, from what the user gives or by custom."""

from __future__ import annotations

import pytest

from jaxsal.errors import InputError
from jaxsal.preprocessing import Outputs
from jaxsal_converters.outputs import name_outputs, with_target


def test_one_or_two_outputs_are_the_lesions_by_custom() -> None:
    said: list[str] = []
    assert name_outputs(1, None, None, said) == Outputs(("lesion",), "sigmoid", 0)
    assert name_outputs(1, None, 1, said) == Outputs(("lesion",), "sigmoid", 0)
    assert name_outputs(2, None, None, said) == Outputs(("background", "lesion"), "softmax", 1)
    assert name_outputs(2, None, 0, said) == Outputs(("output0", "output1"), "softmax", 0)
    assert said == []


def test_of_more_outputs_the_target_is_a_guess_that_is_said() -> None:
    said: list[str] = []
    assert name_outputs(20, None, 18, said).target == 18
    assert [sentence.partition(":")[0] for sentence in said] == ["output names"]
    assert name_outputs(3, ["rest", "vessel", "lesion"], None, said).target == 1
    assert "target: vessel, output 1 of 3" in said[-1]


def test_overlapping_outputs_have_no_target_but_a_given_one() -> None:
    said: list[str] = []
    regions = Outputs(("whole", "core"), "sigmoid")
    assert with_target(regions, "core", said).target == 1
    assert said == []
    assert with_target(regions, None, said).target is None
    assert "--target" in said[0]


def test_what_is_no_output_is_refused() -> None:
    with pytest.raises(InputError, match="2 outputs and each needs a name; got 3: a b c"):
        name_outputs(2, ["a", "b", "c"], None, [])
    with pytest.raises(InputError, match="one of the network's 2 outputs, got 2"):
        name_outputs(2, None, 2, [])
    with pytest.raises(InputError, match="no output 'cyst'"):
        name_outputs(2, None, "cyst", [])
