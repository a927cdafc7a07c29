"""``--config FILE``: options in a TOML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jaxsal.cli.building import build
from jaxsal.cli.explain import COMMAND
from jaxsal.cli.parser import Parser

FILE = """\
image = ["flair.nii", "/t1.nii"]
samples = 20
noise_scale = "absolute"
minimum-volume = 3
roi = [16, 16, 32]
labels = [3, 7]
kind = ["TP", "FN"]
memory = 1.5
mirror = true
pictures = false
"""


def parsed(line: str) -> dict[str, Any]:
    """The options that a command line gives."""
    parser = Parser(prog="jaxsal explain")
    build(parser, COMMAND, [])
    return vars(parser.parse_args(line.split()))


def given(tmp_path: Path, text: str, line: str) -> dict[str, Any]:
    """The options that a command line and a file give."""
    file = tmp_path / "options.toml"
    file.write_text(text, encoding="utf-8")
    return parsed(line.format(file=file))


def test_a_file_gives_options_as_a_command_line_does(tmp_path: Path) -> None:
    found = given(tmp_path, FILE, "MODEL --out D --config {file}")
    line = f"MODEL --out D --image {tmp_path}/flair.nii /t1.nii --samples 20 --noise-scale absolute"
    line += " --minimum-volume 3 --roi 16 16 32 --labels 3,7 --kind TP FN --memory 1.5 --mirror"
    expected = parsed(f"{line} --no-pictures")
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize("line", ["MODEL {}", "{} -- MODEL"])
def test_the_command_line_wins(tmp_path: Path, line: str) -> None:
    own = "--config={file} --out D --image A --no-mirror --samples=5 --pictures --roi 8"
    found = given(tmp_path, FILE, line.replace("{}", own))
    assert found["image"] == [Path("A")]
    assert (found["samples"], found["roi"]) == (5, [8, 8, 8])
    assert (found["mirror"], found["pictures"]) == (False, True)
    assert found["labels"] == (3, 7)


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("threshold = 7.0", "--domain threshold", {"threshold": 7.0}),
        ("pictures = false", "--out pictures", {"pictures": False}),
        ("pictures = false", "-- --pictures", {"pictures": False}),
        ("instances = 'i.nii'", "--reference r.nii", {"reference": Path("r.nii")}),
        ("mask = '~/m.nii'", "", {"mask": Path.home() / "m.nii"}),
    ],
)
def test_an_option_of_the_file_yields_to_an_option_and_not_to_a_value(
    tmp_path: Path, text: str, line: str, expected: dict[str, Any]
) -> None:
    model = [] if line.startswith("-- ") else ["MODEL"]
    found = given(tmp_path, text, " ".join([*model, "--image A --out D --config {file}", line]))
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mask = 3", "mask must be a path in quotes; got 3"),
        ("mask = [['b']]", "mask must be a path in quotes; got [['b']]"),
        ("sampels = 3", "options.toml: unknown option sampels; did you mean samples?"),
        ("config = 'a.toml'", "unknown option config; `--help` describes"),
        ("model = 'm'", "what has no -- there is given on the command line"),
        ("samples = 'many'", "--samples: must be a whole number; got 'many'"),
        ("samples = true", "samples must be a value or a list of values; got True"),
        ("mirror = 1", "mirror must be true or false; got 1"),
        ("[saliency]\nsamples = 3", "unknown option saliency"),
        ("samples = {a = 1}", "samples must be a value or a list of values"),
        ("aggregate = 'median'", "--aggregate: there is no 'median'"),
        ("samples = ", "is no valid TOML"),
    ],
)
def test_mistakes_in_a_file_are_named(
    tmp_path: Path, text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        given(tmp_path, text, "MODEL --image A --out D --config {file}")
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_a_second_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        given(tmp_path, "samples = 3", "MODEL --image A --out D --config {file} --config=b.toml")
    assert "give --config once; got " in capsys.readouterr().err


def test_a_file_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parsed("MODEL --image A --out D --config none.toml")
    assert end.value.code == 2
    assert "none.toml cannot be read: No such file" in capsys.readouterr().err
