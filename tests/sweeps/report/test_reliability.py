"""Reliability diagrams: the bins of all seeds together."""

from types import SimpleNamespace

import numpy as np
import pytest

from al.learning.metrics import Evaluation, expected_calibration_error
from al.records import Calibration
from sweeps.report.reliability import reliability


def run(probs, true):
    kept = None if probs is None else Calibration.of(Evaluation(np.zeros((2, 2), int), 0.0, probs, true))
    best = SimpleNamespace(splits={"test": SimpleNamespace(calibration=kept)})
    test = {} if probs is None else {"ece": expected_calibration_error(probs, true)}
    return SimpleNamespace(result=SimpleNamespace(best=best), test=test)


def cell(*runs):
    return SimpleNamespace(
        label="margin", runs=runs, values=lambda value: np.array([value(run) for run in runs], float)
    )


def test_bins_are_those_of_all_images_of_all_seeds():
    rng = np.random.default_rng(0)
    seeds = [(rng.dirichlet((1, 1, 1), n).astype(np.float32), rng.integers(0, 3, n)) for n in (300, 200)]
    found = reliability(cell(*(run(*seed) for seed in seeds)))
    probs, true = (np.concatenate(parts) for parts in zip(*seeds))
    sure, hit = probs.max(1), probs.argmax(1) == true
    which = np.ceil(sure * 15).astype(int)
    expected = [(which == k) for k in sorted(set(which))]
    assert found.images == tuple(int(mask.sum()) for mask in expected)
    np.testing.assert_allclose(found.right, [100 * hit[mask].mean() for mask in expected], rtol=1e-6)
    np.testing.assert_allclose(found.confidence, [100 * sure[mask].mean() for mask in expected], rtol=1e-5)
    assert found.error == pytest.approx(np.mean([expected_calibration_error(*seed) for seed in seeds]))


def test_there_is_none_where_a_seed_has_not_kept_its_bins():
    assert reliability(cell(run(np.float32([[0.5, 0.5]]), np.array([0])), run(None, None))) is None
