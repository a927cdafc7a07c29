"""Several benchmarks in a row: one that fails is reported, and the others go on."""

from __future__ import annotations

import argparse
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.options import add_common, results_folder
from bench.origin import commit_of
from bench.record import describe_machine, device_slug, read_results
from jaxsal.errors import JaxsalError

Answer = Callable[[str, Sequence[str]], Sequence[str]]


def run_series(
    name: str, questions: Mapping[str, Sequence[str]], answer: Answer, arguments: Sequence[str]
) -> list[str]:
    """Answers one question after the other.

    Args:
        name: of the series.
        questions: the arguments of each.
        answer: answers a question with these arguments; returns what it found to be wrong.
        arguments: further ones, for all.

    Returns:
        What failed: a line each, which begins with the question.
    """
    options = _parser(name).parse_known_args(arguments)[0]
    answered = _answered(results_folder(options)) if options.resume else set()
    rest = [argument for argument in arguments if argument != "--resume"]
    failures = []
    for question, chosen in questions.items():
        if question in answered:
            print(f"{question} is answered\n")
        else:
            found = _failures(answer, question, [*chosen, *rest])
            failures += [f"{question}: {failure}" for failure in found]
    return failures


def _parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m bench {name}",
        description="Other options are for the questions that have them; each lists its own.",
        allow_abbrev=False,
    )
    add_common(parser)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="leave out questions whose results of this commit and device are there",
    )
    return parser


def _answered(folder: Path) -> set[str]:
    """Questions with a result of this commit on this device; none if the code was changed."""
    current = commit_of()
    if not current or current["changed"]:
        return set()
    here = read_results(folder).get(device_slug(describe_machine()), {})
    return {question for question, found in here.items() if found.get("repository") == current}


def _failures(answer: Answer, question: str, arguments: Sequence[str]) -> Sequence[str]:
    try:
        return answer(question, arguments)
    except JaxsalError as error:
        return [str(error)]
    except SystemExit as end:  # of the parser, which has said why
        return [f"exit status {end.code}"]
    except Exception as error:
        traceback.print_exc()
        return [f"{type(error).__name__}: {error}"]
