"""The rows that a run may label, and the labels that it begins with."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from al import seeds
from al.config import STARTERS
from al.data import DataSet, Embeddings, FirstLabels, ImageSet
from al.storage.blocks import RowsOf
from al.strategies import REGISTRY, Pool
from data_prep.splits import initial_pool
from data_prep.variants import draw_variant

if TYPE_CHECKING:
    from al.config import RunConfig


def variant_and_pool(config: "RunConfig", train: ImageSet) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the variant [V], and rows that may be labelled [S]: the variant's, or all under pool_scope=full."""
    rng = seeds.rng(config.split_seed, 0, "variant")
    variant = draw_variant(train.labels, train.classes, config.shares, config.minority_classes, rng)
    whole = config.pool_scope == "full" and not config.method.baseline
    return variant, np.arange(len(train)) if whole else variant


def first_labels(
    config: "RunConfig",
    data: DataSet,
    scope: NDArray[np.int64],
    initial: int,
    checks: int = 0,
    vectors: Embeddings | None = None,
) -> FirstLabels:
    """Choose `initial` rows out of `scope` as `init` says, and label them.

    Args:
        checks: init=clip: labels that people check and correct, those most likely wrong.
        vectors: embeddings that a strategy named by `init` chooses on.
    """
    rng = seeds.rng(config.split_seed, 0, "initial")
    if initial == len(scope):  # a baseline: everything is labelled
        return _true(scope, data.train)
    if config.init == "clip":
        return _zero_shot(config, data, scope, initial, checks, rng)
    if config.init in STARTERS:
        return _chosen(config, data.train, scope, initial, vectors.train, rng)
    return _true(initial_pool(data.train.labels, scope, initial, config.init, rng), data.train)


def _true(rows: NDArray[np.int64], train: ImageSet) -> FirstLabels:
    """The true labels of `rows`."""
    return FirstLabels(rows, train.labels[rows], machine_labelled=rows[:0])


def _chosen(
    config: "RunConfig",
    train: ImageSet,
    scope: NDArray[np.int64],
    size: int,
    vectors: NDArray,
    rng: np.random.Generator,
) -> FirstLabels:
    """Let a strategy that needs no model choose while nothing is labelled: a cold start."""
    method = REGISTRY[config.init]
    nothing = np.zeros(len(scope), dtype=bool)
    features = vectors if len(scope) == len(vectors) else RowsOf(vectors, scope)  # [S, D], without a copy
    pool = Pool(labelled=nothing, classes=len(train.classes), features=features)
    picks = method.select(pool, size, rng, **config.options_of(method))
    return _true(np.sort(scope[picks.positions]), train)


def _zero_shot(
    config: "RunConfig", data: DataSet, scope: NDArray[np.int64], size: int, checks: int, rng: np.random.Generator
) -> FirstLabels:
    """Take the images that CLIP is surest of with its labels, and correct the `checks` most likely wrong."""
    from al.runtime import resolve_runtime
    from data_prep.zero_shot.label_checking import checking_order, out_of_sample_probs
    from data_prep.zero_shot.labels import cache_dir, clip_initial_pool, zero_shot

    runtime = resolve_runtime(config.device, config.precision)
    found = zero_shot(data, config.clip_model, config.clip_prompt, runtime, cache_dir(config.results_dir))
    rows, guesses = clip_initial_pool(found.probs, scope, size, rng)
    labels, checked = guesses.copy(), np.empty(0, np.int64)
    if checks:
        cleaning = seeds.rng(config.seed, 0, "cleaning")
        probs = out_of_sample_probs(found.vectors(rows), guesses, len(data.train.classes), cleaning)
        checked = checking_order(probs, guesses, checks)
        labels[checked] = data.train.labels[rows[checked]]
    source = {"key": found.key, "source": found.source}
    return FirstLabels(rows, labels, np.delete(rows, checked), guesses, found.confidence[rows], source)
