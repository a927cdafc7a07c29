"""The progress of parts becomes that of the whole."""

from __future__ import annotations

from jaxsal.progress import InParts, Progress, by_share


def test_parts_are_added_up() -> None:
    seen: list[Progress] = []
    whole = InParts(5, 30, seen.append)
    for lesions, gradients in ((2, 10), (3, 20)):
        whole.begin()
        whole(Progress(1, lesions, gradients // 2, gradients))
        whole(Progress(lesions, lesions, gradients, gradients))
    assert seen == [
        *(Progress(1, 5, 5, 30), Progress(2, 5, 10, 30)),
        *(Progress(3, 5, 20, 30), Progress(5, 5, 30, 30)),
    ]


def test_gradients_that_are_known_only_when_a_part_begins_are_added() -> None:
    seen: list[Progress] = []
    whole = InParts(2, 0, seen.append)
    for _ in range(2):
        whole.begin()
        whole(Progress(0, 1, 0, 10))
        whole(Progress(1, 1, 10, 10))
    assert [each.gradients for each in seen] == [10, 10, 20, 20]


def test_lesions_that_are_done_together_are_counted_by_their_gradients() -> None:
    seen: list[Progress] = []
    progress = by_share(4, seen.append)
    for done in (0, 49, 50, 100):
        progress(Progress(0, 3, done, 100))
    assert [each.lesions_done for each in seen] == [0, 1, 2, 3]  # the last one is not complete
    assert {each.lesions for each in seen} == {4}


def test_it_finishes_between_the_last_gradient_and_the_last_map() -> None:
    assert Progress(3, 4, 100, 100).is_finishing
    assert not Progress(3, 4, 99, 100).is_finishing
    assert not Progress(4, 4, 100, 100).is_finishing
    assert not Progress(0, 4, 0, 0).is_finishing  # it is not known yet how many there are


def test_all_lesions_are_done_once_they_are_complete() -> None:
    seen: list[Progress] = []
    progress = by_share(4, seen.append)
    for gradients in (100, 60):  # or fewer than there were at most
        progress(Progress(3, 3, gradients, 100))
    assert [each.lesions_done for each in seen] == [4, 4]
