"""Records in expected_activeml.json what scikit-activeml chooses on the pools of activeml_cases.py.

    pip install scikit-activeml
    python tests/support/make_activeml_expectations.py

The tests read what is recorded and need no scikit-activeml.
"""

import json
from importlib.metadata import version
from pathlib import Path
from unittest.mock import patch

import activeml_cases as cases
import numpy as np
from skactiveml.base import SkactivemlClassifier
from skactiveml.pool import Badge, CoreSet, DropQuery, GreedyBALD, MaxHerding, ProbCover, TypiClust, UncertaintySampling

METHODS = {"uncertainty": "least_confident", "margin": "margin_sampling", "entropy": "entropy"}


class Recorded(SkactivemlClassifier):
    """A classifier whose answers are known.

    Samples are looked up by their first feature, the row, in `probs` [N, C] and, where given, `features` [N, D].
    `predict` returns the next of `answers`, each [U].
    """

    def __init__(self, probs, features=None, answers=(), missing_label=np.nan):
        super().__init__(classes=range(probs.shape[1]), missing_label=missing_label)
        self.probs, self.features, self.answers = probs, features, answers

    def fit(self, X, y, sample_weight=None):
        self.classes_ = np.arange(self.probs.shape[1])
        self.unused = iter(self.answers)
        return self

    def predict_proba(self, X):
        rows = X[:, 0].astype(int)
        probs = self.probs[rows].astype(float)
        return probs if self.features is None else (probs, self.features[rows].astype(float))

    def predict(self, X):
        return next(self.unused)


def lower_row(utilities, random_state=None):
    """In place of scikit-activeml's `rand_argmax`, which leaves ties to chance."""
    return [np.nanargmax(utilities)]


def targets(labelled):
    """y [N] as scikit-activeml has it: NaN where unlabelled."""
    return np.where(labelled, 0.0, np.nan)


def numbered(labelled):
    return np.arange(len(labelled), dtype=float)[:, None]


def ranking_picks(seed):
    labelled, probs, mc_probs = cases.ranking(seed)
    x, y, k = numbered(labelled), targets(labelled), cases.RANKED
    model = Recorded(probs).fit(x, y)
    picks = {
        name: UncertaintySampling(method=method, random_state=0).query(x, y, model, fit_clf=False, batch_size=k)
        for name, method in METHODS.items()
    }
    passes = [Recorded(p).fit(x, y) for p in mc_probs]
    return picks | {"bald": GreedyBALD(random_state=0).query(x, y, passes, fit_ensemble=False, batch_size=k)}


def coverage_picks(seed):
    labelled, features = cases.scattered(seed)
    x, y = features.astype(float), targets(labelled)
    picks = {"coreset": CoreSet(random_state=0).query(x, y, batch_size=cases.FARTHEST)}
    with patch("skactiveml.pool._max_herding.rand_argmax", lower_row):
        herding = MaxHerding(metric_dict={"gamma": 1}, random_state=0)
        picks["maxherding"] = herding.query(x, y, batch_size=cases.HERDED)
    x = cases.directions(seed)[1].astype(float)
    for radius in cases.RADII:
        strategy = ProbCover(n_classes=cases.CLASSES, deltas=[radius], random_state=0)
        with patch("skactiveml.pool._prob_cover.rand_argmax", lower_row):
            rows, gains = strategy.query(x, y, batch_size=cases.COVERING, return_utilities=True)
        picks[f"probcover {radius}"] = rows[np.nanmax(gains, axis=1) > 0]
    return picks


def radius(seed):
    """The largest of an even grid of radii whose balls are pure enough."""
    x = cases.touching(seed).astype(float)
    grid = np.arange(cases.RADIUS_STEP, 2, cases.RADIUS_STEP)
    strategy = ProbCover(n_classes=3, deltas=grid, alpha=cases.PURITY, cluster_algo_dict={"n_init": 10}, random_state=0)
    strategy.query(x, targets(np.zeros(len(x), dtype=bool)))
    return float(strategy.delta_max_)


def typical_picks(seed):
    labelled, features = cases.typical(seed)
    strategy = TypiClust(k=20, cluster_algo_dict={"n_init": 10}, random_state=0)
    return strategy.query(features.astype(float), targets(labelled), batch_size=cases.UNCOVERED_BLOBS)


def dropped_picks(seed):
    labelled, probs, features, votes = cases.dropped(seed)
    x, y = features.astype(float), targets(labelled)
    model = Recorded(probs, answers=np.r_[[probs.argmax(axis=1)], votes][:, ~labelled]).fit(x, y)
    strategy = DropQuery(n_dropout_samples=3, cluster_algo_dict={"n_init": 10, "random_state": 0}, random_state=0)
    return np.sort(strategy.query(x, y, model, fit_clf=False, batch_size=cases.DROPPED))


def gradient_draws(seed):
    """Picks of BADGE, and the probability of every unlabelled sample before each: utilities [4, U]."""
    labelled, probs, features = cases.gradients(seed)
    x, y = numbered(labelled), targets(labelled)
    model = Recorded(probs, features).fit(x, y)
    rows, chances = Badge(random_state=seed).query(x, y, model, fit_clf=False, batch_size=4, return_utilities=True)
    return {"picks": rows, "chances": np.nan_to_num(chances[1:, ~labelled]).round(9)}


def plain(value):
    """The same without NumPy's types, which JSON does not know."""
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    return np.asarray(value).tolist()


def main() -> None:
    recorded = {name: version(name) for name in ("scikit-activeml", "scikit-learn", "numpy")}
    for seed in cases.SEEDS:
        picks = ranking_picks(seed) | coverage_picks(seed)
        picks |= {"typiclust_typical": typical_picks(seed), "dropquery": dropped_picks(seed)}
        recorded[str(seed)] = plain({"picks": picks, "radius": radius(seed), "badge": gradient_draws(seed)})
    path = Path(__file__).with_name("expected_activeml.json")
    path.write_text(json.dumps(recorded, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
