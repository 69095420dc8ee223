"""Choose the machine labels that people check first: confident learning (Northcutt, Jiang and Chuang 2021).

An image's label is an issue if the model is confident of another class, where confident means at least as sure as
it is on average of the images that carry that class's label. `checking_order` needs probabilities from a model
that was not trained on the labels it judges: of another model, or out of sample, as `out_of_sample_probs` makes.
"""

import numpy as np
from numpy.typing import NDArray


def checking_order(
    probs: NDArray[np.float32], labels: NDArray[np.int64], count: int | None = None
) -> NDArray[np.int64]:
    """The positions of the labels most likely wrong, worst first.

    First the issues, then the rest, each by how little the probability of the given label exceeds the largest
    other one (the paper's normalised margin); of equals the lower position first.

    Args:
        probs: f32[N, C] out-of-sample probabilities.
        labels: i64[N] given labels.
        count: how many to return; unset: all. Fewer where N is less.
    """
    given = probs[np.arange(len(labels)), labels]  # [N]
    others = probs.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    margin = given - others.max(1)  # p(given) - max p(other); negative where the model disagrees
    issue = confident_class(probs, labels) != labels
    return np.lexsort((margin, ~issue))[:count]


def confident_class(probs: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The most probable class that the model is confident of, i64[N]; the given one where there is none.

    The threshold of class j is the mean probability of j over the images labelled j (the paper's equation 2); a
    class that labels no image has none and is never chosen.
    """
    thresholds = np.full(probs.shape[1], np.inf)
    for c in np.unique(labels):
        thresholds[c] = probs[labels == c, c].mean(dtype=np.float64)  # t_c = mean of p(c | x) over x labelled c
    candidates = np.where(probs >= thresholds, probs, -np.inf)
    found = np.isfinite(candidates).any(1)
    return np.where(found, candidates.argmax(1), labels)


def out_of_sample_probs(
    features: NDArray[np.float32], labels: NDArray[np.int64], classes: int, rng: np.random.Generator, folds: int = 5
) -> NDArray[np.float32]:
    """Class probabilities f32[N, classes] of each image by logistic regression fitted on the other folds.

    Args:
        features: f32[N, D], such as a zero-shot model's image vectors or its log probabilities.
        rng: deals the images of each label to the folds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probs = np.zeros((len(labels), classes), np.float32)
    fold = _deal(labels, folds, rng)
    for held_out in range(folds):
        train, test = fold != held_out, fold == held_out
        seen = np.unique(labels[train])
        if not test.any():
            continue
        if len(seen) < 2:
            probs[np.ix_(test, seen)] = 1.0
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        probs[np.ix_(test, seen)] = model.fit(features[train], labels[train]).predict_proba(features[test])
    return probs


def _deal(labels: NDArray[np.int64], folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Assign each image to a fold, i64[N], with each label spread evenly over the folds."""
    shuffled = rng.permutation(len(labels))
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    fold = np.empty(len(labels), np.int64)
    fold[by_label] = np.arange(len(labels)) % folds
    return fold
