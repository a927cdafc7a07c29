"""The files that the READMEs' code blocks find: tiny ones under the names that the text gives."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers.nnunet_folders import PLAIN, dataset, plans, write_results
from helpers.tiny import CHANNELS, MISSED, ROI, SHAPE, make_scan, random_model, save
from scipy.special import logit

import jaxsal
from jaxsal_converters.rules import Rule
from jaxsal_converters.unet import convert_unet, parameter_rules

THRESHOLD = 0.3  # as `convert` is given
_LAST = "decoder.0.upsample.conv.bias"
_TABLE = """scan\tflair\tt1\treference
patient07\t07/FLAIR.nii.gz\t07/T1.nii.gz\t07/GOLD.nii.gz
patient19\t19/FLAIR.nii.gz\t19/T1.nii.gz\t19/GOLD.nii.gz
"""
NNUNET = "Dataset001_Lesions/nnUNetTrainer__nnUNetPlans__3d_fullres"


def make_workspace(folder: Path) -> Path:
    """Scans, a checkpoint with its model, a folder of nnU-Net's, tables and configurations."""
    folder.mkdir(parents=True)
    for patient, seed in (("07", 7), ("19", 8)):
        (folder / patient).mkdir()
        scan = make_scan(folder / patient, seed)
        for file, name in zip(scan.images, ("FLAIR", "T1"), strict=True):
            file.rename(folder / patient / f"{name}.nii.gz")
        reference = np.zeros(SHAPE, np.uint8)
        reference[MISSED] = reference[7:10, 9:12, 8:11] = 1
        save(folder / patient / "GOLD.nii.gz", reference)
        if patient == "07":
            model = _model(scan.image)
    for name in ("FLAIR", "T1"):
        shutil.copy(folder / "07" / f"{name}.nii.gz", folder)
    shutil.copy(folder / "07" / "GOLD.nii.gz", folder / "truth.nii.gz")
    labels = np.zeros(SHAPE, np.int16)
    labels[8:10, 10, 9], labels[15, 17:19, 11] = 3, 7
    save(folder / "labels.nii.gz", labels)
    save(folder / "brain.nii.gz", np.ones(SHAPE, np.uint8))
    halves = np.ones(SHAPE, np.uint8)
    halves[SHAPE[0] // 2 :] = 2
    save(folder / "regions.nii.gz", halves)
    (folder / "names.tsv").write_text("index\tname\n1\tleft\n2\tright\n", encoding="utf-8")
    torch.save(_state(model), folder / "checkpoint.pth")
    checkpoint = folder / "checkpoint.pth"
    converted, _ = convert_unet(checkpoint, threshold=THRESHOLD, channels=CHANNELS)
    jaxsal.save_model(replace(converted, roi=ROI), folder / "my-model")
    (folder / "scans.tsv").write_text(_TABLE, encoding="utf-8")
    write_results(folder / NNUNET, plans(PLAIN), dataset(), folds=(0, 1))
    return folder


def give_window(model: Path) -> None:
    """Gives a model that knows of no window the tiny one, so that it is run soon."""
    loaded = jaxsal.load_model(model)
    if loaded.roi is None and loaded.preprocessing is None:
        jaxsal.save_model(replace(loaded, roi=ROI), model, overwrite=True)


def _model(image: np.ndarray) -> jaxsal.Model:
    """A random U-Net that finds three lesions in the image at the threshold."""
    model = random_model(2)
    logits = np.asarray(jaxsal.sliding_window(model, roi=ROI)(image), np.float64)
    shift = logit(THRESHOLD) - np.quantile(logits[..., 1] - logits[..., 0], 0.995)
    bias = np.asarray(model.parameters[_LAST]) + np.array([0, shift])
    return jaxsal.Model(model.config, {**model.parameters, _LAST: bias}, CHANNELS, THRESHOLD)


def _state(model: jaxsal.Model) -> Mapping[str, torch.Tensor]:
    """The model's parameters as MONAI's network has them."""
    rules: Mapping[str, Rule] = parameter_rules(model.config)  # type: ignore[arg-type]
    return {
        rule.key: _theirs(rule, np.asarray(model.parameters[name])) for name, rule in rules.items()
    }


def _theirs(rule: Rule, values: np.ndarray) -> torch.Tensor:
    back: Any = np.argsort(rule.axes)
    return torch.from_numpy(values.transpose(back).reshape(rule.shape).astype(np.float32))
