"""Identities of runs: each change is named, and anything else than before refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from jaxsal.errors import InputError
from jaxsal.store.identity import OtherResultsError, digest, require_same

EARLIER = {"run": {"steps": 6, "seed": 0}, "start": "fresh"}


def test_changes_are_named_by_where_they_are() -> None:
    now = {"run": {"steps": 7, "seed": 0, "more": 1}}
    told = (
        r"out holds results of other settings: run\.more was not there, is 1; "
        r"run\.steps was 6, is 7; start was fresh, is not there\. Choose another folder"
    )
    with pytest.raises(InputError, match=told):
        require_same(Path("out"), EARLIER, now, "results of {}")
    require_same(Path("out"), EARLIER, dict(EARLIER), "results of {}")


def test_of_another_model_nothing_else_is_said() -> None:
    before, now = ({"model": {"parameters_sha256": name}, "seed": name} for name in "ab")
    with pytest.raises(OtherResultsError, match=r"^out holds maps of another model\. Take it$"):
        require_same(Path("out"), before, now, "maps of {}", "Take it")


def test_what_is_ignored_may_differ() -> None:
    require_same(Path("out"), EARLIER, {**EARLIER, "start": "other"}, "", ignored=["start"])


def test_not_all_of_many_changes_are_told() -> None:
    with pytest.raises(InputError, match=r"e was not there, is 4; and more\. Choose"):
        require_same(
            Path("out"), {}, {name: i for i, name in enumerate("abcdefg")}, "results of {}"
        )


def test_an_error_of_other_results_can_be_sent_to_another_process() -> None:
    error = OtherResultsError("out holds others", "Choose another folder")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == "out holds others. Choose another folder"


def test_a_digest_is_of_the_content_whatever_its_order() -> None:
    turned = {"start": "fresh", "run": {"seed": 0, "steps": 6}}
    assert digest(turned) == digest(EARLIER)
    assert digest({**turned, "start": "other"}) != digest(EARLIER)
