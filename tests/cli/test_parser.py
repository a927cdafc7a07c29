"""Command lines as they are typed: misspelt names, no abbreviations, values that follow."""

from __future__ import annotations

import pytest

from jaxsal.cli.main import main
from jaxsal.cli.parser import Parser, Several


@pytest.mark.parametrize(
    ("line", "command", "said"),
    [
        ("predit", "jaxsal", "no 'predit': did you mean predict?"),
        ("--vresion", "jaxsal", "no option --vresion: did you mean --version?"),
        ("cohort plna", "jaxsal cohort", "no 'plna': did you mean plan?"),
        ("experiment contxt", "jaxsal experiment", "did you mean context?"),
        ("convert u-net", "jaxsal convert", "did you mean unet?"),
        ("predict M --imge A B --out D", "jaxsal predict", "did you mean --image?"),
        ("predict M --image A B --out D --refernce=R", "jaxsal predict", "--reference?"),
        ("cohort plan M C --samlpes 9", "jaxsal cohort plan", "did you mean --samples?"),
        ("cohort status D --nonsense", "jaxsal cohort status", "no option --nonsense"),
        ("explain M --image A --out D --method smoothgrd", "jaxsal explain", "smoothgrad?"),
        (
            "predict M --image A -out D",
            "jaxsal predict",
            "no option -out: did you mean --out?",
        ),
        ("info M N", "jaxsal info", "not expected: N"),
    ],
)
def test_what_is_not_known_is_answered_in_two_lines_with_the_nearest_name(
    line, command, said, capsys
):
    with pytest.raises(SystemExit) as end:
        main(line.split())
    assert end.value.code == 2
    wrong, advice = capsys.readouterr().err.splitlines()
    assert wrong.startswith(f"{command}: error: ")
    assert said in wrong
    assert advice == f"`{command} --help` describes the options"


@pytest.mark.parametrize("option", ["--vers", "--versio"])
def test_options_are_not_abbreviated(option, capsys):
    with pytest.raises(SystemExit) as end:
        main([option])
    assert end.value.code == 2
    assert f"no option {option}: did you mean --version?" in capsys.readouterr().err


def test_an_abbreviation_of_several_options_names_them_all(capsys):
    with pytest.raises(SystemExit):
        main(["predict", "M", "--image", "A", "--out", "D", "--ov", "3"])
    assert "no option --ov: did you mean --overwrite or --overlap?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "images"),
    [
        ("MODEL --image A B --out D", ["A", "B"]),
        ("MODEL --image A --image B --out D", ["A", "B"]),
        ("MODEL --image A B --image C --out D", ["A", "B", "C"]),
        ("--image A B MODEL --out D", ["A", "B"]),
        ("--image A --image B MODEL --out D", ["A", "B"]),
        ("--image A B --out D MODEL", ["A", "B"]),
        ("--image=A B --out D MODEL", ["A", "B"]),
        ("--out D --roi 9 9 9 --image A B MODEL", ["A", "B"]),
        ("--out D MODEL --seed -1 --image A B", ["A", "B"]),
        ("--seed -1 MODEL --image A B --out D", ["A", "B"]),
        ("--image A B --out D -- MODEL", ["A", "B"]),
        ("--whole --image A B MODEL --out D", ["A", "B"]),
    ],
)
def test_values_of_an_option_that_may_be_repeated_may_follow_each_other(line, images):
    parser = Parser()
    parser.add_argument("model")
    parser.add_argument("--image", action="append")
    parser.add_argument("--out")
    parser.add_argument("--roi", nargs="+", type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--whole", action="store_true")
    options = parser.parse_args(line.split())
    assert (options.model, options.image, options.out) == ("MODEL", images, "D")


@pytest.mark.parametrize(
    "line",
    [
        "--roi 16 17 18 MODEL COHORT --image A",
        "MODEL --roi 16 17 18 COHORT --image A",
        "--image A --roi 16 17 18 MODEL COHORT",
        "--roi 16 17 18 MODEL --image A COHORT",
    ],
)
def test_what_is_beyond_the_values_of_an_option_is_an_argument(line):
    parser = Parser()
    parser.add_argument("model")
    parser.add_argument("cohort")
    parser.add_argument("--image", action="append")
    parser.add_argument("--roi", nargs="+", action=Several, count=3, type=int)
    options = parser.parse_args(line.split())
    assert (options.model, options.cohort) == ("MODEL", "COHORT")
    assert (options.image, options.roi) == (["A"], [16, 17, 18])
