"""Settings in TOML, and detectors in JSON."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

from fuzz.judging import Files, Kind, Link, Pipe
from fuzz.values import OUTSIDE, TEXTS, as_json, damaged, json_files
from hypothesis import strategies as st

from jaxsal.cli.building import build
from jaxsal.cli.main import COMMAND
from jaxsal.cli.parser import Parser
from jaxsal.detector.detector import read_detector
from jaxsal.detector.features import AROUND_MM, feature_columns
from jaxsal.detector.ibsi import BINS
from jaxsal.errors import InputError
from jaxsal.training.config import read_config

TRAINING = """\
[data]
cohort = "scans.tsv"
channels = ["flair", "t1"]
validation = 0.2
[network]
kind = "unet"
channels = [4, 6]
strides = [2]
[patches]
size = 16
batch = 2
[augmentation]
enabled = true
[loss]
preset = "dice-and-blob"
smooth = 1.0
[optimiser]
rate = 1e-3
warm_up = 5
clip = 1.0
[run]
steps = 100
log_every = 5
thresholds = [0.1, 0.5, 0.05]
precision = "float32"
tensorboard = false
"""
OPTIONS = """\
image = ["flair.nii", "t1.nii"]
threshold = 0.5
roi = [16, 16, 16]
mirror = false
samples = 3
"""
_VALUES = (
    *("true", "nan", "-inf", "1e30", "0", "-1", "9223372036854775808", "1e999", "[]", "{}"),
    *("[[1]]", "1979-05-27", '"x"', "'''\na'''", "[1, 'a']", "0x7fffffffffffffffffff", "{a = 1}"),
    *(f'"{text}"' for text in ("../x", "/dev/zero", "~nobody/x", "a\\u0000b", "", "\\u001b[2J")),
)


@st.composite
def _toml(draw: st.DrawFn, text: str) -> bytes:
    """Lines of settings with values, keys and sections replaced."""
    lines = text.splitlines()
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(lines) - 1))
        key, equals, _ = lines[place].partition(" = ")
        change = draw(st.sampled_from(["value", "value", "value", "key", "cut", "twice", "text"]))
        if change == "value" and equals:
            lines[place] = f"{key} = {draw(st.sampled_from(_VALUES))}"
        elif change == "key":
            lines[place] = f"unknown = {draw(st.sampled_from(_VALUES))}"
        elif change == "twice":
            lines.insert(place, lines[place])
        elif change == "text":
            lines[place] = draw(st.sampled_from([*TEXTS, *OUTSIDE, "[a.b.c]", "[[data]]", "[run]"]))
        elif len(lines) > 1:
            del lines[place]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _tomls(name: str, text: str) -> st.SearchStrategy[Files]:
    odd = st.sampled_from([Pipe(), Link("/dev/zero"), Link("x"), b"[" * 10**5, b"\xff\xfe"])
    return st.one_of(*[_toml(text)] * 8, damaged(text.encode()), odd).map(lambda new: {name: new})


CONFIG = Kind(
    "TOML of a training",
    lambda: {"training.toml": TRAINING.encode()},
    lambda sound: _tomls("training.toml", TRAINING),
    lambda folder: read_config(folder / "training.toml"),
    (
        lambda _: {"training.toml": TRAINING.replace("[2]", "[1e30]").encode()},
        lambda _: {"training.toml": TRAINING.replace('"dice-and-blob"', "[[1]]").encode()},
        lambda _: {"training.toml": TRAINING.replace("[0.1, 0.5, 0.05]", "[0, 1, 1e-9]").encode()},
    ),
)


def _options(folder: Path) -> None:
    words = ["explain", "model", "--out", "out", "--config", str(folder / "options.toml")]
    parser, said = Parser(prog="jaxsal"), io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            build(parser, COMMAND, words)
            parser.parse_args(words)
        except SystemExit as error:
            raise InputError(said.getvalue()) from error


COMMAND_OPTIONS = Kind(
    "TOML of options",
    lambda: {"options.toml": OPTIONS.encode()},
    lambda sound: _tomls("options.toml", OPTIONS),
    _options,
)

_FEATURES = list(feature_columns(("flair",)))
_DETECTOR: dict[str, Any] = {
    **{"jaxsal": "0.1.0", "method": "smoothgrad-max", "maps": ["flair"], "identity": {"model": {}}},
    **{"bins": BINS, "around_mm": AROUND_MM, "features": _FEATURES, "intercept": 0.5},
    **{name: [1.0] * len(_FEATURES) for name in ("coefficients", "means", "scales")},
    **{"threshold": 0.5, "lost": 0.01, "true_lesions": 9, "false_lesions": 9, "patients": 3},
}


def _detect(folder: Path) -> None:
    found = read_detector(folder / "detector.json")
    found.probability([dict.fromkeys(found.features, 1.0)])


DETECTOR = Kind(
    "detector",
    lambda: {"detector.json": as_json(_DETECTOR)},
    lambda sound: json_files("detector.json", _DETECTOR),
    _detect,
    (lambda _: {"detector.json": as_json({**_DETECTOR, "identity": "a text"})},),
)
