"""The registry against scikit-activeml, whose choices make_activeml_expectations.py has recorded: the same picks.

Not compared, because the definitions differ or it has no such strategy:
    random, stratified: nothing but chance.
    typiclust: the study's own hybrid.
    cluster_margin: scikit-activeml has none.
    badge: theirs starts from the largest gradient and counts the origin as a centre. Its distances are compared.

Compared only where the definitions agree:
    typiclust_typical: theirs takes 5 neighbours, and any sample once each cluster has given one; so with 20 neighbours,
        clusters of 40 or more, and no more picks than clusters without labels.
    dropquery: theirs fills up by the votes where too few change; so where enough do, and as a set, for its clusters
        come in any order.
    maxherding: not once two samples that cover nothing but each other tie, which rounding decides there.
    coreset, probcover: not once nothing but chance decides, with nothing labelled or all covered.
"""

import json
from pathlib import Path
from unittest.mock import Mock

import activeml_cases as cases
import numpy as np
import pytest

from al.strategies import REGISTRY, Pool
from al.strategies.coverage import pure_radius
from al.strategies.gradient import gradient_distances

RECORDED = json.loads((Path(__file__).parents[2] / "support" / "expected_activeml.json").read_text())

pytestmark = pytest.mark.parametrize("seed", cases.SEEDS)


def recorded(seed, name):
    return RECORDED[str(seed)]["picks"][name]


def picks(name, pool, k, **options):
    return REGISTRY[name].select(pool, k, np.random.default_rng(0), **options).positions.tolist()


@pytest.mark.parametrize("name", ["uncertainty", "margin", "entropy", "bald"])
def test_rankings(name, seed):
    labelled, probs, mc_probs = cases.ranking(seed)
    pool = Pool(labelled, cases.CLASSES, probs=probs, mc_probs=mc_probs)
    assert picks(name, pool, cases.RANKED) == recorded(seed, name)


@pytest.mark.parametrize(("name", "k"), [("coreset", cases.FARTHEST), ("maxherding", cases.HERDED)])
def test_coverage(name, k, seed):
    labelled, features = cases.scattered(seed)
    pool = Pool(labelled, cases.CLASSES, features=features)
    assert picks(name, pool, k) == recorded(seed, name)


@pytest.mark.parametrize("radius", cases.RADII)
def test_probcover(radius, seed):
    labelled, features = cases.directions(seed)
    pool = Pool(labelled, cases.CLASSES, features=features)
    expected = recorded(seed, f"probcover {radius}")
    lower_first = Mock(permutation=np.arange)  # ours leaves ties to chance, what was recorded to the lower row
    found = REGISTRY["probcover"].select(pool, cases.COVERING, lower_first, probcover_delta=radius)
    assert found.positions[: len(expected)].tolist() == expected


def test_pure_radius(seed):
    """Ours is the largest of all radii, theirs the largest of an even grid."""
    found = pure_radius(cases.touching(seed), 3, cases.PURITY)
    assert 0 <= found - RECORDED[str(seed)]["radius"] < cases.RADIUS_STEP


def test_typiclust_typical(seed):
    labelled, features = cases.typical(seed)
    pool = Pool(labelled, cases.CLASSES, features=features)
    assert picks("typiclust_typical", pool, cases.UNCOVERED_BLOBS) == recorded(seed, "typiclust_typical")


def test_dropquery(seed):
    labelled, probs, features, votes = cases.dropped(seed)
    pool = Pool(labelled, 3, probs=probs, features=features, drop_votes=votes)
    assert sorted(picks("dropquery", pool, cases.DROPPED)) == recorded(seed, "dropquery")


def test_distances_of_badge(seed):
    """Of every recorded draw but the first, the chances are proportional to the squared distance to a pick or to 0."""
    labelled, probs, features = cases.gradients(seed)
    errors = (probs - np.eye(cases.CLASSES)[probs.argmax(axis=1)])[~labelled]
    features = features[~labelled].astype(float)
    lengths = (features**2).sum(axis=1)
    weight = (errors**2).sum(axis=1) * lengths
    draws = RECORDED[str(seed)]["badge"]
    for row, chances in zip(draws["picks"], draws["chances"]):
        newest = int(np.flatnonzero(np.flatnonzero(~labelled) == row)[0])
        apart = ((features - features[newest]) ** 2).sum(axis=1)
        weight = np.minimum(weight, gradient_distances(errors, lengths, apart, newest))
        np.testing.assert_allclose(weight / weight.sum(), chances, rtol=1e-4, atol=1e-8)
