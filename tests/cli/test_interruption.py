"""What an interruption says."""

from __future__ import annotations

from jaxsal.cli.interruption import scans_finished


def test_the_same_command_resumes() -> None:
    said = scans_finished(3, 7, overwrite=False)
    assert said == "3 of 7 scans are finished, the same command goes on from there"


def test_overwrite_given_again_would_remove_what_is_done() -> None:
    assert "the same command without --overwrite" in scans_finished(3, 7, overwrite=True)
