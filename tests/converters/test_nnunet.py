"""nnU-Net: logits kept, folds averaged, what the plans say carried over, mistakes named."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from helpers.network_cases.case import randomised
from helpers.nnunet_folders import (
    OLDER,
    PLAIN,
    RESIDUAL,
    architecture_of,
    checkpoint,
    dataset,
    plans,
    weights,
    write_results,
)
from helpers.nnunet_inference import sliding_window_logits
from helpers.peers import aggregated, gradients

import jaxsal
from jaxsal.checkpoints import load_model, save_model
from jaxsal.cli.main import main
from jaxsal.errors import InputError
from jaxsal.nets.registry import parameter_shapes
from jaxsal.preprocessing import Normalisation
from jaxsal_converters.nnunet import convert_nnunet
from jaxsal_converters.nnunet_architecture import read_architecture
from jaxsal_converters.nnunet_folder import choose_checkpoints, training_folder
from jaxsal_converters.nnunet_keys import REVERSED, parameter_rules
from jaxsal_converters.nnunet_plans import read_outputs, select_configuration
from jaxsal_converters.nnunet_source import torch_network, verify_nnunet

pytestmark = pytest.mark.usefixtures("xla_convolutions", "one_device")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nnUNet_results") / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    return write_results(folder, plans(), dataset(), folds=(0, 1, 3))


def changed(original: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with the entry under a dotted path replaced."""
    copied = copy.deepcopy(original)
    *parents, last = path.split(".")
    inner = copied
    for name in parents:
        inner = inner[name]
    inner[last] = value
    return copied


@pytest.mark.parametrize(
    ("architecture", "order"),
    [(PLAIN, [0, 1, 2]), (RESIDUAL, [1, 0, 2]), (OLDER, [2, 0, 1])],
    ids=["plain", "residual, transposed", "older schema, transposed"],
)
def test_logits_are_kept(tmp_path: Path, architecture: dict[str, Any], order: list[int]) -> None:
    folder = write_results(tmp_path, plans(architecture, transpose_forward=order), dataset())
    model, _ = convert_nnunet(folder)
    assert model.members == 1
    assert verify_nnunet(model, folder, None, None) < 1e-5


def test_an_ensemble_averages_the_logits_of_its_folds(results: Path, tmp_path: Path) -> None:
    model, _ = convert_nnunet(results)
    assert model.members == 3
    assert verify_nnunet(model, results, None, None) < 1e-5
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert (loaded.members, loaded.preprocessing, loaded.outputs) == (
        *(model.members, model.preprocessing, model.outputs),
    )
    batch = jnp.ones((1, *model.divisor, 2))
    np.testing.assert_array_equal(loaded(batch), model(batch))


def test_an_ensembles_gradient_is_that_of_pytorchs_mean(results: Path) -> None:
    model, _ = convert_nnunet(results, ["0", "3"])
    image = np.random.default_rng(0).standard_normal((1, 12, 8, 4, 2), "f4")
    found = jax.jit(jax.grad(lambda x: model.function(model.parameters, x)[..., 1].sum()))(image)
    x = torch.from_numpy(image.transpose(0, 4, 3, 2, 1).copy()).requires_grad_()
    members = [source_of(results, fold)(x) for fold in (0, 3)]
    torch.stack(members).mean(0)[:, 1].sum().backward()
    expected = x.grad.numpy().transpose(0, 4, 3, 2, 1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_an_ensembles_activations_lie_side_by_side_and_can_be_perturbed(results: Path) -> None:
    ensemble, _ = convert_nnunet(results, ["0", "1"])
    single, _ = convert_nnunet(results, ["1"])
    batch = jax.random.normal(jax.random.key(0), (1, *single.divisor, 2))
    _, both = ensemble.activations(batch)
    _, own = single.activations(batch)
    name = "encoder.1.units.0.conv"
    np.testing.assert_allclose(both[name][..., -own[name].shape[-1] :], own[name], atol=1e-5)
    moved = jnp.zeros_like(both["head"]).at[..., 2].set(6.0)  # the second member's background
    perturbed, _ = ensemble.function.with_activations(ensemble.parameters, batch, {"head": moved})
    difference = np.asarray(perturbed - ensemble(batch))
    np.testing.assert_allclose(difference[..., 0], 3, atol=1e-4)  # half of it in the mean
    np.testing.assert_allclose(difference[..., 1], 0, atol=1e-4)


def test_what_the_plans_say_is_carried_over(results: Path) -> None:
    model, assumptions = convert_nnunet(results, threshold=0.4)
    assert model.channels == ("FLAIR", "CT")
    assert model.threshold == 0.4
    assert model.outputs is not None
    assert (model.outputs.names, model.outputs.probability) == (
        *(("background", "lesion"), "softmax"),
    )
    preparation = model.preprocessing
    assert preparation is not None
    assert preparation.roi == (24, 12, 8)  # nnU-Net's are (Z, Y, X)
    assert preparation.spacing == (0.75, 0.5, 3.0)
    assert preparation.overlap == 0.5
    assert preparation.mirror_axes == (1, 2)
    assert (preparation.windows, preparation.crop) == ("nnunet", True)
    assert preparation.normalisation == (
        Normalisation("zscore", masked=True),
        Normalisation("ct", mean=50.0, std=20.0, lower=-10.0, upper=90.0),
    )
    assert model.divisor == (6, 4, 2)
    assert len(assumptions) == 1
    assert "mirroring" in assumptions[0]
    assert set(model.source["folds"]) == {"fold_0", "fold_1", "fold_3"}


@pytest.mark.parametrize("function", ["no_resampling_hack", "no_resampling_data_or_seg_to_shape"])
def test_plans_that_never_resample_take_voxels_of_any_size(
    results: Path, tmp_path: Path, function: str
) -> None:
    told = changed(plans(), "configurations.3d_fullres.resampling_fn_data", function)
    (tmp_path / "fold_0").symlink_to(results / "fold_0")
    (tmp_path / "plans.json").write_text(json.dumps(told))
    (tmp_path / "dataset.json").write_text(json.dumps(dataset()))
    save_model(convert_nnunet(tmp_path)[0], tmp_path / "model")
    preparation = load_model(tmp_path / "model").preprocessing
    assert preparation is not None
    assert preparation.spacing is None
    assert preparation.resampling is None


@pytest.mark.parametrize(
    ("labels", "names", "probability"),
    [
        ({"background": 0, "b": 2, "a": 1}, ("background", "a", "b"), "softmax"),
        ({"background": 0, "a": 1, "ignore": 2}, ("background", "a"), "softmax"),
        ({"background": "0", "b": "10", "a": ["9"]}, ("background", "a", "b"), "softmax"),
        ({"background": 0, "whole": [1, 2], "core": 2}, ("whole", "core"), "sigmoid"),
        ({"background": 0, "whole": [1, 2], "ignore": 3}, ("whole",), "sigmoid"),
        ({"background": "0", "whole": ["1", "2"], "core": "2"}, ("whole", "core"), "sigmoid"),
    ],
)
def test_outputs_are_labels_or_regions(
    labels: dict[str, Any], names: tuple[str, ...], probability: str
) -> None:
    outputs = read_outputs({"labels": labels})
    assert (outputs.names, outputs.probability) == (names, probability)
    assert outputs.index(names[-1]) == len(names) - 1
    with pytest.raises(InputError, match="no output 'cyst'"):
        outputs.index("cyst")


def test_regions_have_one_logit_each(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [1, 2], "core": [2], "rim": [1, 2]}
    described = dataset(labels=labels, regions_class_order=[1, 2, 1])
    model, _ = convert_nnunet(write_results(tmp_path, plans(), described))
    assert model.config.out_channels == 3


def test_a_state_dict_alone_stands_for_a_checkpoint(results: Path, tmp_path: Path) -> None:
    folder = write_results(tmp_path, plans(), dataset(), folds=())
    content = torch.load(results / "fold_0" / "checkpoint_final.pth", weights_only=False)
    (folder / "fold_0").mkdir()
    torch.save(content["network_weights"], folder / "fold_0" / "checkpoint_final.pth")
    model, assumptions = convert_nnunet(folder)
    for name, value in convert_nnunet(results, ["0"])[0].parameters.items():
        np.testing.assert_array_equal(model.parameters[name], value)
    assert "trainer unknown" in assumptions[0]
    assert "no mirroring: the checkpoint does not say" in assumptions[1]
    assert model.preprocessing is not None
    assert model.preprocessing.mirror_axes is None


def test_arrays_that_a_trainer_logged_do_not_keep_the_network_from_being_read(
    results: Path, tmp_path: Path
) -> None:
    logged = {"logging": {"dice": [np.ones(3), np.float64(1), np.str_("b")], "at": tmp_path}}
    folder = write_results(tmp_path / "a", plans(), dataset(), **logged)
    plain, _ = convert_nnunet(results, ["0"])
    model, _ = convert_nnunet(folder)
    assert model.preprocessing == plain.preprocessing  # mirrored axes included
    for name, value in plain.parameters.items():
        np.testing.assert_array_equal(model.parameters[name], value)
    mirrored = {"inference_allowed_mirroring_axes": np.array([0, 1])}  # which is not read
    folder = write_results(tmp_path / "b", plans(), dataset(), **mirrored)
    assert any("does not say" in sentence for sentence in convert_nnunet(folder)[1])


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "_orig_mod.module."])
def test_compiled_and_parallel_networks_convert_alike(
    results: Path, tmp_path: Path, prefix: str
) -> None:
    folder = write_results(tmp_path, plans(), dataset(), folds=())
    entries = {prefix + k: v for k, v in weights(plans(), dataset(), 0).items()}
    (folder / "fold_0").mkdir()
    torch.save(checkpoint(entries, 0), folder / "fold_0" / "checkpoint_final.pth")
    wrapped, plain = (convert_nnunet(f, ["0"])[0] for f in (folder, results))
    for name, value in plain.parameters.items():
        np.testing.assert_array_equal(wrapped.parameters[name], value)


def test_folds_still_in_training_are_left_out_and_named(tmp_path: Path) -> None:
    folder = write_results(tmp_path, plans(), dataset(), folds=(0,))
    (folder / "fold_1").mkdir()
    model, assumptions = convert_nnunet(folder)
    assert model.members == 1
    assert any("fold_0; without fold_1" in sentence for sentence in assumptions)
    assert not any("fold_1" in sentence for sentence in convert_nnunet(folder, ["0"])[1])


def test_without_final_checkpoints_the_best_ones_are_taken_and_named(tmp_path: Path) -> None:
    folder = write_results(tmp_path, plans(), dataset(), folds=(1, 3), kind="best")
    write_results(tmp_path, plans(), dataset(), folds=(3, 4), kind="latest")
    model, assumptions = convert_nnunet(folder)
    assert list(model.source["folds"]) == ["fold_1", "fold_3"]
    assert model.source["checkpoint"] == "checkpoint_best.pth"
    assert "checkpoint_final.pth is missing" in assumptions[0]
    assert "fold_1, fold_3; without fold_4" in assumptions[1]
    assert verify_nnunet(model, folder, None, None) < 1e-5


def test_the_checkpoint_can_be_chosen_and_is_of_one_name_for_all_folds(tmp_path: Path) -> None:
    folder = write_results(tmp_path, plans(), dataset(), folds=(0,))
    for kind, folds in (("best", (0, 3)), ("latest", (3,))):
        write_results(tmp_path, plans(), dataset(), folds, kind=kind)
    chosen = {
        (None, None): ("final", ["fold_0"]),
        (None, "best"): ("best", ["fold_0", "fold_3"]),
        ("3", None): ("best", ["fold_3"]),
        ("3", "latest"): ("latest", ["fold_3"]),
        ("0 3", None): ("best", ["fold_0", "fold_3"]),
    }
    for (folds, kind), (expected, names) in chosen.items():
        found = choose_checkpoints(folder, folds and folds.split(), kind)
        assert (found.kind, [path.parent.name for path in found.paths]) == (expected, names)
    held = r"fold_0 \(final, best\), fold_3 \(best, latest\)"
    for folds, kind in (("0", "latest"), ("0 7", None), ("7", "best")):
        with pytest.raises(InputError, match=f"{held}; asked for fold_"):
            choose_checkpoints(folder, folds.split(), kind)


def test_folds_are_chosen_by_number_or_all(results: Path, tmp_path: Path) -> None:
    assert convert_nnunet(results, ["1"])[0].members == 1
    assert convert_nnunet(results, ["all"])[0].members == 3
    assert convert_nnunet(results.parent)[0].members == 3  # the folder around it
    folder = write_results(tmp_path, plans(), dataset(), folds=("all",))
    assert convert_nnunet(folder, ["all"])[0].members == 1
    write_results(folder, plans(), dataset(), folds=(0,))
    with pytest.raises(InputError, match=r"fold_0, fold_all.*--fold fold_all"):
        convert_nnunet(folder)
    assert list(convert_nnunet(folder, ["fold_all"])[0].source["folds"]) == ["fold_all"]


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        (["7"], r"fold_0 \(final\), fold_1 \(final\), fold_3 \(final\); asked for fold_7"),
        (["0", "0"], "asked for fold_0, fold_0"),
    ],
)
def test_folds_that_are_not_there_are_named(results: Path, folds: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        convert_nnunet(results, folds)


ARGUMENTS = "configurations.3d_fullres.architecture.arch_kwargs"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("configurations.3d_fullres.patch_size", [32, 32], "only 3D"),
        ("configurations.3d_fullres.previous_stage", "3d_lowres", r"cascade.*3d_lowres"),
        ("configurations", {"3d_lowres": {}}, r"no configuration 3d_fullres; they have 3d_lowres"),
        ("configurations.3d_fullres.inherits_from", "3d_fullres", "circle"),
        (
            "configurations.3d_fullres.architecture.network_class_name",
            "my.networks.UMamba",
            r"class my\.networks\.UMamba; supported: PlainConvUNet, ResidualEncoderUNet",
        ),
        (
            "configurations.3d_fullres.architecture",
            {"arch_kwargs": {}},
            r"lack 'network_class_name'",
        ),
        ("configurations.3d_fullres", {"patch_size": [8, 8, 8]}, "neither an architecture"),
        (f"{ARGUMENTS}.squeeze_excitation", True, "unknown argument squeeze_excitation"),
        (f"{ARGUMENTS}.norm_op", "torch.nn.InstanceNorm2d", r"norm_op torch.*InstanceNorm3d"),
        (f"{ARGUMENTS}.nonlin", "torch.nn.Softplus", r"nonlin torch\.nn\.Softplus; supported"),
        (f"{ARGUMENTS}.strides", [2, 2, 2], "begin with 1"),
        (f"{ARGUMENTS}.features_per_stage", [2, 3, 5], r"of another shape.*nnUNetTrainer"),
        ("transpose_forward", [0, 1], "transpose_forward"),
        ("image_reader_writer", "Tiff3DIO", r"Tiff3DIO; supported: SimpleITKIO"),
        (
            "configurations.3d_fullres.normalization_schemes",
            ["MyNormalization"] * 2,
            r"MyNormalization; supported: ZScore",
        ),
        ("foreground_intensity_properties_per_channel", {}, "statistics of channel 1"),
        ("configurations.3d_fullres.spacing", [1, 0, 1], "spacing"),
    ],
    ids=str,
)
def test_plans_that_are_not_supported_are_refused_in_a_sentence(
    results: Path, tmp_path: Path, path: str, value: Any, message: str
) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "fold_0").symlink_to(results / "fold_0")
    (folder / "plans.json").write_text(json.dumps(changed(plans(), path, value)))
    (folder / "dataset.json").write_text(json.dumps(dataset()))
    with pytest.raises(InputError, match=message) as raised:
        convert_nnunet(folder)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channel_names": {}}, "channels by number"),
        ({"channel_names": {"FLAIR": 0}}, r"channels by number.*'FLAIR'"),
        ({"labels": {"0": "background"}}, "labels by name"),
        ({"labels": {"background": 0, "lesion": []}}, "labels by name"),
        ({"labels": {"background": 0, "a": 1, "b": 2}}, "of another shape"),
        ({"channel_names": {"0": "FLAIR"}}, "of another shape|channels"),
    ],
    ids=str,
)
def test_descriptions_that_do_not_fit_are_refused(
    results: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    (tmp_path / "fold_0").symlink_to(results / "fold_0")
    (tmp_path / "plans.json").write_text(json.dumps(plans()))
    (tmp_path / "dataset.json").write_text(json.dumps(dataset(**changes)))
    with pytest.raises(InputError, match=message):
        convert_nnunet(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network_weights": None}, "no network_weights"),
        ({"network_weights": {"encoder.x": torch.ones(1)}}, r"missing.*nnUNetTrainer"),
        ({"network_weights": {"swin.x": torch.ones(1)}}, r"another network.*nnUNetTrainer"),
        ({"init_args": {"configuration": "2d"}}, "only 3D"),
        ({"init_args": {"configuration": "3d_cascade_fullres"}}, "cascade"),
    ],
    ids=["nothing", "few", "other network", "2d", "cascade"],
)
def test_checkpoints_that_do_not_fit_are_refused(
    results: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = write_results(tmp_path, plans(), dataset(), **changes)
    with pytest.raises(InputError, match=message):
        convert_nnunet(folder)


@pytest.mark.parametrize("architecture", [RESIDUAL, OLDER], ids=["residual", "older schema"])
def test_a_batch_norm_of_the_trainers_is_read_off_the_tensors(
    tmp_path: Path, architecture: dict[str, Any]
) -> None:
    folder = write_results(tmp_path, plans(architecture), dataset(), folds=())
    batch_norm = ("batch", (("affine", True), ("eps", 1e-5)))
    network = torch_network(
        replace(architecture_of(plans(architecture), dataset()), norm=batch_norm)
    )
    entries = randomised(network).state_dict()
    (folder / "fold_0").mkdir()
    content = checkpoint(entries, 0, trainer_name="nnUNetTrainerBN")
    torch.save(content, folder / "fold_0" / "checkpoint_final.pth")
    model, assumptions = convert_nnunet(folder)
    assert assumptions[0].startswith("batch norm (eps 1e-05)")
    assert verify_nnunet(model, folder, None, None) < 1e-5
    image = np.random.default_rng(0).standard_normal((1, *model.divisor, 2), "f4")
    with torch.no_grad():
        expected = network(torch.from_numpy(image.transpose(0, 4, 3, 2, 1).copy())).numpy()
    expected = expected.transpose(0, 4, 3, 2, 1)
    np.testing.assert_allclose(model(image), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_another_network_of_the_trainers_converts_once_the_plans_are_corrected_as_told(
    tmp_path: Path,
) -> None:
    other = changed(plans(), f"{ARGUMENTS}.conv_bias", False)
    folder = write_results(tmp_path, other, dataset(), trainer_name="nnUNetTrainerX")
    parent = plans()["configurations"]["3d_fullres"]
    told = {"3d_fullres": {"inherits_from": "base"}, "base": parent}
    uncorrected = {**plans(), "configurations": told}
    (folder / "plans.json").write_text(json.dumps(uncorrected))
    with pytest.raises(
        InputError, match=r"nnUNetTrainerX.*PlainConvUNet, correct .*conv_bias"
    ) as e:
        convert_nnunet(folder)
    path = re.search(r"configurations\.base\.\S+", str(e.value))
    assert path is not None
    corrected = changed(uncorrected, f"{path[0]}.conv_bias", False)
    (folder / "plans.json").write_text(json.dumps(corrected))
    assert verify_nnunet(convert_nnunet(folder)[0], folder, None, None) < 1e-5


def test_other_trainers_of_the_same_network_are_mentioned(tmp_path: Path) -> None:
    folder = write_results(tmp_path, plans(), dataset(), trainer_name="nnUNetTrainer_250epochs")
    _, assumptions = convert_nnunet(folder)
    assert any("nnUNetTrainer_250epochs" in assumption for assumption in assumptions)


def test_folds_of_different_trainings_are_refused(results: Path, tmp_path: Path) -> None:
    folder = write_results(tmp_path, plans(), dataset(), trainer_name="nnUNetTrainerX")
    (folder / "fold_1").symlink_to(results / "fold_1")
    with pytest.raises(InputError, match=r"different trainings.*nnUNetTrainerX"):
        convert_nnunet(folder)


def test_a_configuration_that_the_checkpoint_contradicts_is_refused(results: Path) -> None:
    with pytest.raises(InputError, match=r"configuration 3d_fullres, asked for was 3d_lowres"):
        convert_nnunet(results, configuration="3d_lowres")


def test_the_folder_may_be_given_one_or_two_levels_too_high(results: Path, tmp_path: Path) -> None:
    dataset_folder = tmp_path / "nnUNet_results" / "Dataset001_Lesions"
    dataset_folder.mkdir(parents=True)
    own = dataset_folder / results.name
    own.symlink_to(results)
    assert training_folder(dataset_folder, None) == own
    assert training_folder(dataset_folder.parent, None) == own
    lowres = dataset_folder / "nnUNetTrainer__nnUNetPlans__3d_lowres"
    lowres.symlink_to(results)
    assert training_folder(dataset_folder, "3d_fullres") == own
    with pytest.raises(InputError, match=rf"(?s)2 trainings.*\n  {own}\n  {lowres}$"):
        training_folder(dataset_folder, None)


def test_a_fold_or_a_file_of_it_names_its_folder(results: Path) -> None:
    for inside in ("fold_1", "fold_1/checkpoint_final.pth"):
        with pytest.raises(InputError, match=rf"give {results} --fold fold_1"):
            convert_nnunet(results / inside)


@pytest.mark.parametrize("absent", ["plans.json", "dataset.json", "fold_0"])
def test_missing_files_are_named(tmp_path: Path, absent: str) -> None:
    folder = write_results(tmp_path / "r", plans(), dataset())
    (folder / absent).rename(tmp_path / "gone")
    with pytest.raises(InputError, match=absent):
        convert_nnunet(folder)


def test_damaged_plans_are_named(tmp_path: Path) -> None:
    folder = write_results(tmp_path, plans(), dataset())
    (folder / "plans.json").write_text("{")
    with pytest.raises(InputError, match=r"plans\.json cannot be read"):
        convert_nnunet(folder)


def test_the_command_converts_an_ensemble(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model"
    command = ["convert", "nnunet", str(results), "--fold", "0", "1", "--out", str(out)]
    assert main([*command, "--checkpoint", "best"]) == 2
    assert "asked for fold_0, fold_1, checkpoint_best.pth" in capsys.readouterr().err
    assert main([*command, "--threshold", "0.3", "--verify"]) == 0
    printed = capsys.readouterr().out
    assert "largest difference of logits to nnU-Net's" in printed
    assert load_model(out).members == 2
    assert main(["info", str(out)]) == 0
    assert "members: 2" in capsys.readouterr().out


PUBLISHED = {
    "cnn3d": ("mslesiontool/cnn3d", "PlainConvUNet", (128, 128, 128)),
    "resencl3d": ("mslesiontool/resencl3d", "ResidualEncoderUNet", (160, 192, 160)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_plans_are_read(shared: Path, name: str) -> None:
    path, network, patch = PUBLISHED[name]
    folder = shared / "data" / "nnunet" / path
    published = json.loads((folder / "plans.json").read_text())
    configuration = select_configuration(published, "3d_fullres")
    assert configuration["patch_size"] == list(patch)
    config = read_architecture(configuration, 2, 2, REVERSED)
    assert config.network == network
    source = torch_network(config)
    expected = {key: tuple(value.shape) for key, value in source.state_dict().items()}
    for rule in parameter_rules(config).values():
        assert expected[rule.key] == rule.shape
    count = sum(np.prod(shape) for shape in parameter_shapes(config).values())
    heads = [p for key, p in source.named_parameters() if key.startswith("decoder.seg_layers")]
    idle = sum(p.numel() for p in heads[:-2])
    assert count == sum(p.numel() for p in source.parameters()) - idle


def test_published_plans_of_the_older_schema_are_read(shared: Path) -> None:
    published = json.loads((shared / "data/nnunet/old-schema-nnUNetPlans.json").read_text())
    configuration = select_configuration(published, "3d_fullres")
    config = read_architecture(configuration, 1, 2, REVERSED)
    sizes = configuration["pool_op_kernel_sizes"]
    assert [list(s) for s in config.strides] == [size[::-1] for size in sizes]
    assert config.features_per_stage[0] == configuration["UNet_base_num_features"]
    assert config.conv_bias


@pytest.mark.thorough
@pytest.mark.parametrize(("aggregate", "mirror"), [("mean", False), ("max", True)])
def test_maps_of_an_ensemble_are_pytorchs_through_nnunets_sliding_window(
    results: Path, aggregate: str, mirror: bool
) -> None:
    roi, voxels = (12, 8, 8), np.array([[3, 4, 5], [9, 5, 4], [10, 5, 4]])
    generator = np.random.default_rng(0)
    image, noise = generator.standard_normal((2, 17, 7, 10, 2), "f4")
    labels = np.zeros(image.shape[:3], np.int32)
    labels[tuple(voxels.T)] = 1
    model, _ = convert_nnunet(results, ["0", "1"])
    model = model.with_mirroring() if mirror else model
    maps = jaxsal.smoothgrad(
        jaxsal.sliding_window(model, roi=roi, overlap=0.5, windows="nnunet"),
        image,
        labels,
        aggregate=aggregate,
        noise_samples=noise[None],
    )
    networks = [source_of(results, fold).requires_grad_(False) for fold in (0, 1)]

    x = torch.tensor(image + noise, requires_grad=True)
    axes = (0, 1) if mirror else ()  # of its arrays (C, Z, Y, X)
    members = [
        sliding_window_logits(network, x.permute(3, 2, 1, 0)[None], roi[::-1], axes)[0]
        for network in networks
    ]
    logits = torch.stack(members).mean(0)
    expected = aggregated(gradients(logits[1].permute(2, 1, 0), x, voxels), aggregate)
    difference = np.abs(np.asarray(maps.dense(1)) - expected)
    assert difference.max() < 1e-4 * np.abs(expected).max()


def source_of(results: Path, fold: int) -> torch.nn.Module:
    """nnU-Net's network of a fold, at inference."""
    network = torch_network(convert_nnunet(results, [str(fold)])[0].config)
    content = torch.load(results / f"fold_{fold}/checkpoint_final.pth", weights_only=False)
    network.load_state_dict(content["network_weights"])
    return network
