"""A channel's name is a word of a file's name, not some of its letters."""

from __future__ import annotations

from pathlib import Path

import pytest

from jaxsal.experiments.regions import flair_and_t1
from jaxsal.inputs.channel_names import is_named_after, named_after_others


@pytest.mark.parametrize(
    ("text", "channel", "named"),
    [
        ("sub-07_T1w.nii.gz", "t1", True),
        ("patient07_T1.nii.gz", "T1", True),
        ("t1_mprage.nii", "t1", True),
        ("3DFLAIR.nii", "flair", True),
        ("FLAIR2.nii", "flair", True),
        ("T1-post.nii", "t1-post", True),
        ("patient12.nii.gz", "t1", False),
        ("patient1_t2.nii.gz", "t1", False),
        ("unflaired.nii", "flair", False),
        ("t12.nii", "t1", False),
        ("rest-1.nii", "t1", False),
    ],
)
def test_a_channel_is_found_as_a_whole_word(text, channel, named):
    assert is_named_after(text, channel) is named


@pytest.mark.parametrize(
    ("names", "channels"),
    [
        (("patient12.nii.gz", "patient12_b.nii.gz"), []),  # were taken for t1
        (("patient12_FLAIR.nii.gz", "patient12_T1w.nii.gz"), []),
        (("patient12_T1w.nii.gz", "patient12_FLAIR.nii.gz"), ["flair", "t1"]),
        (("x.nii.gz", "patient12_FLAIR.nii.gz"), ["t1"]),
    ],
)
def test_images_named_after_other_channels_are_found(names, channels):
    images = tuple(map(Path, names))
    assert [channel for channel, _ in named_after_others(images, ("flair", "t1"))] == channels


def test_channels_of_a_model_are_found_by_words():
    assert flair_and_t1(("rest1", "t1n", "3DFLAIR")) == (2, 1)
