"""Intervals, kappa, the power law and its projection, against oracles."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score

from labelling import estimates
from labelling.estimates import (
    PowerLaw,
    fit_power_laws,
    in_stop_order,
    kappa,
    paired_difference,
    project,
    proportion,
)


class TestProportion:
    @pytest.mark.parametrize(("hits", "count"), [(0, 10), (10, 10), (1, 50), (42, 50), (499, 1000)])
    def test_is_clopper_and_pearson(self, hits, count):
        found, expected = proportion(hits, count), binomtest(hits, count).proportion_ci(method="exact")
        assert (found.low, found.high) == pytest.approx((100 * expected.low, 100 * expected.high))
        assert found.value == pytest.approx(100 * hits / count)

    @pytest.mark.parametrize("truth", [0.5, 0.8, 0.97])
    def test_covers(self, truth):
        hits = np.random.default_rng(0).binomial(50, truth, 2000)
        found = [proportion(int(count), 50) for count in hits]
        assert np.mean([one.low <= 100 * truth <= one.high for one in found]) >= 0.95


class TestKappa:
    @pytest.mark.parametrize("seed", range(5))
    def test_is_that_of_scikit_learn(self, seed):
        rng = np.random.default_rng(seed)
        first, second = rng.integers(0, 4, (2, 60))
        second[:40] = first[:40]
        assert kappa(first, second, 4) == pytest.approx(cohen_kappa_score(first, second))

    def test_of_one_class_alone(self):
        assert kappa(np.zeros(9, int), np.zeros(9, int), 3) == 1


class TestPowerLaw:
    def test_recovers_a_law(self):
        labels = np.array([50, 100, 200, 400.0])
        (law,) = fit_power_laws(labels, 2.0 * labels[None] ** -0.4, 1000)
        assert (law.scale, law.exponent) == pytest.approx((2.0, 0.4))
        assert law.labels_for(law.accuracy(321)) == pytest.approx(321)

    def test_is_weighted_least_squares(self):
        labels, errors = np.array([50, 90, 200, 500.0]), np.array([0.5, 0.41, 0.2, 0.15])
        (law,) = fit_power_laws(labels, errors[None], 1000)
        slope, offset = np.polyfit(np.log(labels), np.log(errors), 1, w=np.sqrt(errors / (1 - errors)))
        assert (law.exponent, np.log(law.scale)) == pytest.approx((-slope, offset))

    def test_says_never_of_a_flat_or_rising_curve(self):
        assert PowerLaw(0.3, 0.0).labels_for(90) == np.inf
        assert PowerLaw(0.3, -0.1).labels_for(90) == np.inf

    def test_takes_a_perfect_model(self):
        (law,) = fit_power_laws(np.array([50, 100, 200.0]), np.array([[0.1, 0.0, 0.0]]), 50)
        assert np.isfinite([law.scale, law.exponent]).all()

    def test_interval_widens_with_fewer_images(self):
        rng = np.random.default_rng(0)
        labels = [50, 100, 200, 400]

        def width(images):
            hits = np.array([rng.random(images) > 1.5 * n**-0.4 for n in labels])
            found = project(labels, hits, np.random.default_rng(1)).accuracy(800)
            assert found.low <= found.value <= found.high
            return found.high - found.low

        assert width(50) > 2 * width(2000)

    def test_projection_covers_a_true_law(self, monkeypatch):
        """Over draws of the audit, with the models' outcomes on an image as one: 285 of 300 with 300 resamples."""
        monkeypatch.setattr(estimates, "RESAMPLES", 200)
        labels, further, covered = [100, 200, 300, 400, 500], 1000, 0
        for seed in range(100):
            rng = np.random.default_rng(seed)
            hard = rng.random(400)  # an image that one model gets wrong is hard for the others too
            hits = np.array([hard > 1.2 * n**-0.3 for n in labels])
            found = project(labels, hits, rng).accuracy(further)
            covered += found.low <= 100 * (1 - 1.2 * further**-0.3) <= found.high
        assert covered >= 90

    def test_needs_three_points(self):
        assert project([50, 100], np.ones((2, 9), bool), np.random.default_rng(0)) is None

    @pytest.mark.parametrize("right", [True, False])
    def test_none_where_no_image_tells_the_models_apart_from_perfect_or_useless(self, right):
        """Every resample would be the same: an interval of no width about a guess."""
        assert project([50, 100, 200], np.full((3, 9), right), np.random.default_rng(0)) is None


def test_paired_difference_is_that_of_the_mean():
    first, second = np.array([1, 1, 1, 0, 1, 0, 1, 1], bool), np.array([1, 0, 1, 0, 0, 0, 1, 1], bool)
    found = paired_difference(first, second)
    difference = first.astype(float) - second
    assert found.value == pytest.approx(25)
    assert found.high - found.value == pytest.approx(100 * 1.96 * difference.std(ddof=1) / 8**0.5)


def test_stop_order_does_not_change_when_images_come():
    digests = [f"{number:064x}" for number in range(100)]
    order = in_stop_order(digests)
    assert [one for one in in_stop_order([*digests[::-1], "f" * 64]) if one != "f" * 64] == order
