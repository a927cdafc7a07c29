"""Configurations: what is read, and each mistake named with its place and rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from jaxsal.errors import InputError
from jaxsal.losses import DICE_AND_FOCAL
from jaxsal.training.config import read_config

GOOD = """
[data]
cohort = "scans.tsv"
channels = ["flair", "t1"]
validation = ["p1"]

[network]
kind = "unet"
channels = [4, 6]
strides = [2]

[patches]
size = 16
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "train.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_is_given_and_what_is_not(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, GOOD + '[loss]\npreset = "dice-and-focal"\n'))
    assert config.data.cohort == tmp_path / "scans.tsv"
    assert config.data.validation == ("p1",)
    assert config.network is not None
    assert (config.network.in_channels, config.network.divisor) == (2, (2, 2, 2))
    assert config.patches.size == (16, 16, 16)
    assert config.loss.weights == DICE_AND_FOCAL.weights
    assert config.loss.smooth > 0  # patches without lesions are learnt from
    assert config.augmentation is not None
    assert config.with_steps(101).run.steps == 101
    with pytest.raises(
        InputError, match=r"warm_up must be less .*100, and \[run\] steps = 100 make"
    ):
        config.with_steps(100)


def test_what_may_be_left_out_or_replaced(tmp_path: Path) -> None:
    text = GOOD + "[augmentation]\nenabled = false\n[loss]\nfocal = 1\nsmooth = 0\n"
    config = read_config(written(tmp_path, text))
    assert config.augmentation is None
    assert config.loss.weights == {"normalised_dice": 0.0, "blob": 0.0, "focal": 1.0}
    assert config.loss.smooth == 0
    tuned = read_config(written(tmp_path, '[data]\ncohort = "/c"\n[network]\nfrom = "model"\n'))
    assert (tuned.network, tuned.start) == (None, tmp_path / "model")
    assert tuned.data.cohort == Path("/c")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("[patches]", "[patchs]", r"unknown section patchs; did you mean patches\?"),
        ("size = 16", "sise = 16", r"\[patches\]: unknown key sise; did you mean size\?"),
        ("size = 16", "size = 1.5", r"\[patches\] size must be a list of 3 whole numbers; got 1.5"),
        ("size = 16", "size = [16, 16]", r"size must be a list of 3 whole numbers"),
        ("size = 16", "size = 15", r"\[patches\] size must be a multiple of .*stride \[2, 2, 2\]"),
        ("size = 16", "lesion_share = 2", r"\[patches\] lesion_share must be from 0 to 1; got 2"),
        ('cohort = "scans.tsv"', "", r"\[data\] needs the key cohort"),
        ('cohort = "scans.tsv"', "cohort = 3", r"\[data\] cohort must be a path in quotes; got 3"),
        ('channels = ["flair", "t1"]', "", r"\[data\] needs the key channels"),
        ('["p1"]', "true", r"\[data\] validation must be a number or a list of texts; got True"),
        ('["p1"]', "1.5", r"\[data\] validation must be a share from 0 to below 1"),
        ('kind = "unet"', "", r"\[network\] needs the key kind, one of unet, dynunet"),
        ('kind = "unet"', 'kind = "resnet"', r"\[network\] unknown network 'resnet'; known: unet"),
        ("strides = [2]", "stride = [2]", r"\[network\] .*missing: strides. unknown: stride\."),
        ("strides = [2]", "strides = [2]\nin_channels = 3", r"number of \[data\] channels, 2"),
        ("strides = [2]", "strides = [2]\ndrop_rate = 0.1", r"drop_rate is not supported in"),
        ("strides = [2]", 'strides = [2]\nfrom = "m"', r"takes the architecture of `from`"),
        ("[patches]", "[patches", r"train.toml is no valid TOML"),
        ("[patches]", "[run]\nsteps = 0\n[patches]", r"\[run\] steps must be 1 or more; got 0"),
        ("[patches]", "[run]\nsteps = true\n[patches]", r"\[run\] steps must be a whole number"),
        ("[patches]", '[run]\nprecision = "f16"\n[patches]', r"one of float32, tf32, bfloat16"),
        (
            "[patches]",
            "[run]\nthresholds = [0.5, 0.1, 0.1]\n[patches]",
            r"\[run\] thresholds are prob",
        ),
        (
            "[patches]",
            "[optimiser]\nrate = nan\n[patches]",
            r"\[optimiser\] rate must be more than",
        ),
        ("[patches]", "[optimiser]\nacumulate = 2\n[patches]", r"did you mean accumulate\?"),
        ("[patches]", '[loss]\npreset = "dice"\n[patches]', r"preset must be one of dice-and-blob"),
        ("[patches]", "[loss]\nblob = -1\n[patches]", r"\[loss\] weights of losses must be 0 or"),
        (
            "[patches]",
            "[optimiser]\nwarm_up = 5\naccumulate = 4\n[run]\nsteps = 20\n[patches]",
            r"got 5, and \[run\] steps = 20 make 5 updates at every 4 steps: set a warm_up",
        ),
        (
            "[patches]",
            "[optimiser]\nwarm_up = 0\naccumulate = 4\n[run]\nsteps = 3\n[patches]",
            r"got 0, and \[run\] steps = 3 make 0 updates at every 4 steps",
        ),
        ("[patches]", "[run]\nthresholds = [0.1, 0.5, 1e-9]\n[patches]", r"too many"),
        ("[patches]", "[run]\nthresholds = [0.1, 0.5, inf]\n[patches]", r"a positive step"),
        ("[patches]", "[loss]\nsmooth = -2\n[patches]", r"\[loss\] smooth of a loss must be 0 or"),
        (
            "[patches]",
            '[loss]\nprobability = "sigmoid"\n[patches]',
            r"\[loss\] probability follows from the network: .*leave it out; got 'sigmoid'",
        ),
        ("[patches]", "[loss]\ntarget = 0\n[patches]", r"target is the network's output 1.*got 0"),
        (
            "[patches]",
            "[loss]\nmaximum_instances = 9\n[patches]",
            r"maximum_instances is the largest number of lesions in a scan: leave it out",
        ),
        (
            "[patches]",
            '[loss]\npreset = "dice-and-blob"\nfocal = 1\n[patches]',
            r"takes a preset or weights, not both; got focal",
        ),
        (
            "[patches]",
            "[augmentation]\nscale = [2, 1]\n[patches]",
            r"\[augmentation\] scale must be a range",
        ),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in GOOD
    path = written(tmp_path, GOOD.replace(old, new))
    with pytest.raises(InputError, match=told) as raised:
        read_config(path)
    assert str(path) in str(raised.value)


def test_what_no_number_depends_on_may_change(tmp_path: Path) -> None:
    first = read_config(written(tmp_path, GOOD)).identity()
    free = GOOD.replace('"scans.tsv"', '"other.tsv"') + "workers = 0\n[run]\nkeep = 5\n"
    assert read_config(written(tmp_path, free)).identity() == first
    assert read_config(written(tmp_path, GOOD + "[run]\nseed = 1\n")).identity() != first


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.toml cannot be read: No such file"):
        read_config(tmp_path / "none.toml")
