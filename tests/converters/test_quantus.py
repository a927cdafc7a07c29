"""Quantus's own metrics on maps of lesions, beside the same metrics on Captum's gradients."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import captum.attr
import numpy as np
import pytest
import quantus
import torch
from helpers.peers import converted, monai_network
from helpers.thorough import thorough_except
from monai.networks.nets import UNet

import jaxsal
from jaxsal.errors import InputError
from jaxsal_converters.quantus import LesionScores, explain

pytestmark = [
    pytest.mark.usefixtures("xla_convolutions", "one_device"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

SHAPE = (8, 8, 12)
TARGETS = np.array([2, 4])
GRADIENT = {"aggregate": "mean", "samples": 1, "noise": 0}  # of a lesion's mean logit, its score
QUIET = {"disable_warnings": True, "display_progressbar": False}
METRICS: dict[str, Any] = {
    "sparseness": partial(quantus.Sparseness, **QUIET),
    "complexity": partial(quantus.Complexity, **QUIET),
    "maximal sensitivity": partial(quantus.MaxSensitivity, nr_samples=2, **QUIET),
    "faithfulness": partial(
        quantus.FaithfulnessCorrelation, nr_runs=10, subset_size=64, return_aggregate=False, **QUIET
    ),
}


@pytest.fixture(scope="module")
def scan() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, *SHAPE), "f4")


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    labels = np.zeros(SHAPE, np.int32)
    labels[2:4, 5, 3] = 2
    labels[6, 1:3, 6:8] = 4
    return labels


def captum_explain(
    model: torch.nn.Module, inputs: np.ndarray, targets: np.ndarray, **_: object
) -> np.ndarray:
    gradient = captum.attr.Saliency(model).attribute
    return gradient(torch.tensor(inputs), torch.tensor(targets), abs=False).numpy()


def evaluate(metric: str, model: LesionScores, scan: np.ndarray, **how: Any) -> np.ndarray:
    np.random.seed(0)  # noqa: NPY002 (Quantus draws its perturbations from it)
    batch = np.stack([scan] * len(TARGETS))
    return np.array(
        METRICS[metric]()(model=model, x_batch=batch, y_batch=TARGETS, channel_first=True, **how)
    )


# Quick: one that looks at the map alone, and one that changes the image, too.
@pytest.mark.parametrize("metric", thorough_except(METRICS, "faithfulness"))
def test_metrics_give_the_scores_that_captums_gradients_have(
    metric: str, scan: np.ndarray, labels: np.ndarray
) -> None:
    model = LesionScores(monai_network("local"), labels)
    field = {"field": jaxsal.whole_volume(converted("local")), "labels": labels}
    expected = evaluate(metric, model, scan, explain_func=captum_explain)
    assert expected.shape == (2,)
    assert expected[0] != expected[1]
    for function, arguments in ((explain, {}), (jaxsal.quantus_explain, field)):
        found = evaluate(
            *(metric, model, scan),
            explain_func=function,
            explain_func_kwargs={**arguments, **GRADIENT},
        )
        np.testing.assert_allclose(found, expected, rtol=1e-3)


@pytest.mark.thorough
def test_metrics_take_signed_maxima_computed_before(scan: np.ndarray, labels: np.ndarray) -> None:
    model = LesionScores(monai_network("local"), labels)
    maps = explain(model, np.stack([scan] * 2), TARGETS, samples=2)
    scores = evaluate("sparseness", model, scan, a_batch=maps)
    assert ((scores > 0) & (scores < 1)).all()


def test_what_a_metric_made_of_the_network_is_explained(
    scan: np.ndarray, labels: np.ndarray
) -> None:
    model = LesionScores(monai_network("local"), labels)
    changed = copy.deepcopy(model)
    torch.manual_seed(1)
    changed.network.model[0].conv.reset_parameters()
    for each in (model, changed):
        found = explain(each, scan[None], [4], **GRADIENT)
        expected = captum_explain(each, scan[None], np.array([4]))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("score", ["logit", "probability"])
def test_scores_are_means_over_lesions(
    outputs: int, score: str, scan: np.ndarray, labels: np.ndarray
) -> None:
    torch.manual_seed(0)
    network = UNet(3, 2, outputs, (2, 3), (2,)).eval()
    batch = torch.from_numpy(np.stack([scan, 2 * scan]))
    with torch.no_grad():
        found = LesionScores(network, labels, score=score)(batch).numpy()
        logits = network(batch).numpy().astype(np.float64)
    values = logits[:, -1]
    if score == "probability":
        values = 1 / (1 + np.exp(-(values if outputs == 1 else values - logits[:, 0])))
    domains = {0: labels > 0, 2: labels == 2, 4: labels == 4}
    expected = np.zeros((2, 5))
    for label, domain in domains.items():
        expected[:, label] = values[:, domain].mean(1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_mistakes_are_told(scan: np.ndarray, labels: np.ndarray) -> None:
    network = monai_network("local")
    with pytest.raises(InputError, match="labels must have a lesion"):
        LesionScores(network, 0 * labels)
    with pytest.raises(InputError, match="score must be"):
        LesionScores(network, labels, score="volume")
    with pytest.raises(InputError, match="must be a LesionScores, got a UNet"):
        explain(network, scan[None], [4])
