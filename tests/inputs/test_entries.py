"""Scans of a cohort are called by what can be names of files, and no two alike."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jaxsal.cohort.run import run_cohort
from jaxsal.errors import InputError
from jaxsal.inputs.entries import Entry, Scan
from jaxsal.model import Model


@pytest.mark.parametrize(
    ("entities", "reason"),
    [
        ({"subject": "../../../etc/x"}, r"got subject: '\.\./"),
        ({"subject": "01", "session": ""}, "got session: ''"),
        ({"subject": "01", "site": "a"}, "got site: 'a'"),
        ({"session": "01"}, "no subject"),
        ({"subject": 230 * "a"}, "234 characters and may be 100"),
    ],
)
def test_what_cannot_be_names_of_files_is_refused(entities: dict[str, str], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Entry("one", Scan(()), entities)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"entities": {"subject": "02"}}, "'a' is there twice"),
        ({"id": "b"}, "'a' and 'b' would both be called sub-01"),
        ({"id": "b", "entities": {"subject": "01", "session": "1"}}, None),
    ],
)
def test_two_scans_of_one_name_are_refused(
    other: dict[str, object], reason: str | None, tiny_model: Model
) -> None:
    one = Entry("a", Scan(()), {"subject": "01"})
    cohort = [one, replace(one, **other)]  # type: ignore[arg-type]
    if reason is None:
        assert run_cohort(tiny_model, cohort).entries == cohort
    else:
        with pytest.raises(InputError, match=reason):
            run_cohort(tiny_model, cohort)
