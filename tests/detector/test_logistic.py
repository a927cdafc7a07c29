"""The regression beside scikit-learn's own pipeline, its threshold, and folds of whole patients."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jaxsal.detector.logistic import fitted, held_out, require_library, threshold_that_loses
from jaxsal.errors import InputError


def lesions(patients: int = 6, each: int = 20) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Two features that tell true lesions, one that does not, and a constant one."""
    rng = np.random.default_rng(5)
    true = rng.random(patients * each) < 0.6
    features = rng.standard_normal((len(true), 4)) * (1, 10, 1, 0) + (0, 50, 0, 3)
    features[:, 0] += 1.5 * true
    features[:, 1] -= 8 * true
    return features, true, [f"{i % patients}" for i in range(len(true))]


def test_probabilities_are_scikit_learn_s() -> None:
    features, true, _ = lesions()
    found = fitted(features, true)
    assert found.scales[3] == 1
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, tol=1e-4, max_iter=10_000))
    expected = pipeline.fit(features, true).predict_proba(features)[:, 1]
    np.testing.assert_allclose(found.probability(features), expected, rtol=1e-9)  # the same sums


def test_the_penalised_gradient_is_zero() -> None:
    """What makes a fit of an L2 penalty of weight 1: hand-derived, without scikit-learn."""
    features, true, _ = lesions()
    found = fitted(features, true)
    standard = (features - features.mean(0)) / np.where(features.std(0) > 0, features.std(0), 1)
    residual = found.probability(features) - true
    slope = standard.T @ residual + np.array(found.coefficients)
    # scikit-learn stops at a gradient of 1e-4 of the mean loss, over 120 lesions
    np.testing.assert_allclose([*slope, residual.sum()], 0, atol=120 * 1e-4)
    assert np.abs(found.coefficients[:2]).min() > 0.4  # so that the penalty shows


@pytest.mark.parametrize(("share", "threshold"), [(0.0, 0.1), (0.19, 0.1), (0.2, 0.3), (0.99, 0.9)])
def test_the_threshold_loses_at_most_its_share_of_the_true(share: float, threshold: float) -> None:
    probability = np.array([0.9, 0.05, 0.3, 0.1, 0.5, 0.7, 0.95])
    true = np.array([1, 0, 1, 1, 1, 1, 0], bool)  # 0.1 0.3 0.5 0.7 0.9
    assert threshold_that_loses(probability, true, share) == threshold


def test_no_patient_is_judged_by_a_fit_on_itself() -> None:
    features, true, patients = lesions()
    found = held_out(features, true, patients, folds=3, lost=0.05)
    owners = np.array(patients)
    assert sorted(set(found.fold)) == [0, 1, 2]
    for patient in set(patients):
        assert len(set(found.fold[owners == patient])) == 1
    for fold in (0, 1, 2):
        tested = found.fold == fold
        expected = make_pipeline(StandardScaler(), LogisticRegression(max_iter=10_000))
        expected.fit(features[~tested], true[~tested])
        own = expected.predict_proba(features[tested])[:, 1]
        np.testing.assert_allclose(found.probability[tested], own, rtol=1e-9)
        trained = expected.predict_proba(features[~tested])[:, 1]
        np.testing.assert_array_equal(found.kept[tested], own >= np.sort(trained[true[~tested]])[2])
    np.testing.assert_array_equal(found.probability >= 0, True)


def test_a_fold_that_leaves_one_kind_only_is_left_out() -> None:
    features = np.arange(12.0)[:, None]
    true = np.array([1, 0] * 3 + [1] * 6, bool)
    found = held_out(features, true, ["a"] * 6 + ["b"] * 6, folds=5, lost=0.01)
    assert set(found.fold[:6]) == {-1}  # without its patient all lesions are true
    assert np.isnan(found.probability[:6]).all()
    assert found.kept[:6].all()
    assert np.isfinite(found.probability[6:]).all()


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.delitem(sys.modules, "sklearn.linear_model", raising=False)
    with pytest.raises(InputError, match=r"pip install 'jaxsal\[statistics\]'"):
        require_library()
