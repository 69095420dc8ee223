"""What every strategy of the registry promises, whatever it prefers: a new line in the registry is tested here."""

import subprocess
import sys
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from al.storage.blocks import RowsOf
from al.strategies import REGISTRY, Picks, Pool, Strategy, StrategySchedule, get_strategy
from al.strategies.base import ARRAYS

STRATEGIES = sorted(REGISTRY)
RANKINGS = ["bald", "entropy", "margin", "uncertainty"]
NEEDS_PROBS = [name for name in STRATEGIES if "probs" in REGISTRY[name].needs]
NEEDS_FEATURES = [name for name in STRATEGIES if {"features", "activations"} & set(REGISTRY[name].needs)]
NEEDS_MC = [name for name in STRATEGIES if "mc_probs" in REGISTRY[name].needs]

PAIRS = [pair for pair in permutations(REGISTRY, 2) if not any(REGISTRY[name].baseline for name in pair)]
"""Any two may choose one after the other."""

FIRST_THREE = np.array([0.4, 0.4, 0.4, 0], np.float32) / 3


def softmax(logits):
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (exp / exp.sum(axis=-1, keepdims=True)).astype(np.float32)


def make_pool(n=240, d=24, classes=4, labelled=30, seed=0, **arrays) -> Pool:
    """A pool of blobs with probabilities that follow them, every array read-only.

    `labelled` is a number or bool[n]. Given `features` are the activations too, which otherwise are others.
    """
    rng = np.random.default_rng(seed)
    if isinstance(labelled, int):
        labelled = np.isin(np.arange(n), rng.choice(n, labelled, replace=False))
    truth = rng.integers(classes, size=n)
    logits = 2 * np.eye(classes)[truth] + rng.standard_normal((n, classes))
    values = {
        "labelled": labelled,
        "probs": softmax(logits),
        "features": (3 * rng.standard_normal((classes, d))[truth] + rng.standard_normal((n, d))).astype(np.float32),
        "mc_probs": softmax(logits + rng.standard_normal((5, n, classes))),
        "drop_votes": (logits + 2 * rng.standard_normal((3, n, classes))).argmax(axis=-1),
        "activations": arrays.get("features", rng.random((n, 9)).astype(np.float32)),
        "head": rng.standard_normal((classes, arrays["features"].shape[1] if "features" in arrays else 9)),
    } | arrays
    if "labels" not in values:
        values["labels"] = np.where(labelled, truth, -1)
    for value in values.values():
        value.setflags(write=False)
    return Pool(classes=classes, **values)


def pick(name: str, pool: Pool, k: int, seed: int = 0) -> Picks:
    return REGISTRY[name].select(pool, k, np.random.default_rng(seed))


def check(picks: Picks, pool: Pool, k: int) -> None:
    expected = min(k, int((~pool.labelled).sum()))
    assert picks.positions.dtype == np.int64
    assert picks.positions.shape == picks.scores.shape == (expected,)
    assert picks.scores.dtype == np.float32
    assert len(set(picks.positions.tolist())) == expected, "a row was picked twice"
    assert picks.positions.min(initial=0) >= 0
    assert not pool.labelled[picks.positions].any(), "a labelled row was picked"


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("k", [0, 1, 17, 209, 210, 1000])
def test_picks_are_exactly_k_distinct_unlabelled_rows(name, k):
    pool = make_pool()
    check(pick(name, pool, k), pool, k)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_generator_decides_the_picks(name):
    pool = make_pool()
    first, again = pick(name, pool, 20, seed=3), pick(name, pool, 20, seed=3)
    np.testing.assert_array_equal(first.positions, again.positions)
    np.testing.assert_array_equal(first.scores, again.scores)


@pytest.mark.parametrize("name", STRATEGIES)
def test_nothing_but_the_generator_is_chance(name):
    """Neither the picks nor the state of NumPy's shared generator depend on the other."""
    pool = make_pool()
    picks = []
    for seed in (1, 2):
        np.random.seed(seed)  # noqa: NPY002
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        picks.append(pick(name, pool, 20).positions)
        np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.testing.assert_array_equal(*picks)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_negative_number_is_refused(name):
    with pytest.raises(ValueError, match="k=-1"):
        pick(name, make_pool(), -1)


@pytest.mark.parametrize("name", ["random", "badge", "stratified"])
def test_chance_follows_the_generator(name):
    pool = make_pool()
    assert pick(name, pool, 20, seed=3).positions.tolist() != pick(name, pool, 20, seed=4).positions.tolist()


@pytest.mark.parametrize("name", RANKINGS)
def test_rankings_do_not_depend_on_the_order_of_rows(name):
    pool = make_pool()
    order = np.random.default_rng(9).permutation(len(pool.labelled))
    shuffled = make_pool(
        labelled=pool.labelled[order],
        probs=pool.probs[order],
        features=pool.features[order],
        mc_probs=pool.mc_probs[:, order],
        drop_votes=pool.drop_votes[:, order],
    )
    np.testing.assert_array_equal(order[pick(name, shuffled, 25).positions], pick(name, pool, 25).positions)


@pytest.mark.parametrize("name", RANKINGS)
def test_ties_go_to_the_lower_row(name):
    pool = make_pool(n=12, labelled=4)
    equal = make_pool(
        n=12,
        labelled=pool.labelled.copy(),
        probs=np.full((12, 4), 0.25, np.float32),
        mc_probs=np.full((5, 12, 4), 0.25, np.float32),
    )
    assert pick(name, equal, 5).positions.tolist() == pool.unlabelled[:5].tolist()


@pytest.mark.parametrize("name", STRATEGIES)
def test_inputs_stay_as_they_are(name):
    pool = make_pool()
    before = {array: getattr(pool, array).copy() for array in ("labelled", *ARRAYS)}
    pick(name, pool, 30)  # writing to one of the read-only arrays raises
    for array, value in before.items():
        np.testing.assert_array_equal(getattr(pool, array), value)


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize(
    ("case", "arrays"),
    [
        ("all the same point", {"features": np.full((240, 24), 3.7, np.float32)}),
        ("all zero", {"features": np.zeros((240, 24), np.float32)}),
        ("three distinct points", {"features": np.repeat(np.eye(3, 24, dtype=np.float32), 80, axis=0)}),
        ("an outlier", {"features": np.r_[np.zeros((239, 24)), np.full((1, 24), 1e4)].astype(np.float32)}),
        ("certain", {"probs": np.eye(4, dtype=np.float32)[np.arange(240) % 4]}),
        ("undecided", {"probs": np.full((240, 4), 0.25, np.float32), "mc_probs": np.full((5, 240, 4), 0.25, "f4")}),
        ("a class never predicted", {"probs": np.eye(4, dtype=np.float32)[np.arange(240) % 3] * 0.6 + FIRST_THREE}),
        ("passes that agree", {"drop_votes": np.ones((3, 240), np.int64)}),
        ("one dimension", {"features": np.arange(240, dtype=np.float32)[:, None]}),
        ("nothing labelled", {"labelled": np.zeros(240, bool)}),
        ("a class not labelled", {"labelled": np.arange(240) % 8 == 0, "drop_votes": np.zeros((3, 240), np.int64)}),
        ("one left", {"labelled": np.arange(240) != 7}),
        ("none left", {"labelled": np.ones(240, bool)}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_degenerate_pools(name, case, arrays):
    pool = make_pool(**arrays)
    for k in (1, 40, 240):
        check(pick(name, pool, k), pool, k)


@pytest.mark.parametrize("name", STRATEGIES)
def test_duplicated_points_are_picked_once_each(name):
    base = make_pool(n=60, labelled=0)
    arrays = {
        "labelled": np.tile(np.arange(60) < 10, 4),
        "labels": np.tile(np.where(np.arange(60) < 10, np.arange(60) % 4, -1), 4),
        "probs": np.tile(base.probs, (4, 1)),
        "features": np.tile(base.features, (4, 1)),
        "mc_probs": np.tile(base.mc_probs, (1, 4, 1)),
        "drop_votes": np.tile(base.drop_votes, (1, 4)),
        "activations": np.tile(base.activations, (4, 1)),
    }
    pool = make_pool(**arrays)
    for k in (1, 45, 150, 200):
        check(pick(name, pool, k), pool, k)


@pytest.mark.parametrize("name", STRATEGIES)
def test_tiny_pools(name):
    for n in (1, 2, 3, 7):
        pool = make_pool(n=n, labelled=0)
        check(pick(name, pool, n), pool, n)


@pytest.fixture(params=[slice(100, None), 237], ids=["many rows", "one row"])
def spoiled(request):
    """spoiled(array [..., N, D], value): a copy in which some rows from 100 on have that value."""

    def spoil(array, value):
        out = array.copy()
        out[..., request.param, 0] = value
        return out

    return spoil


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", NEEDS_FEATURES)
def test_features_that_are_not_finite_are_refused(name, value, spoiled):
    pool = make_pool(labelled=np.arange(240) < 30, features=spoiled(make_pool().features, value))
    with pytest.raises(ValueError, match="NaN"):
        pick(name, pool, 40)  # so many that none is passed over unread


@pytest.mark.parametrize("name", NEEDS_PROBS)
def test_probabilities_that_are_nan_are_refused(name, spoiled):
    pool = make_pool(labelled=np.arange(240) < 30, probs=spoiled(make_pool().probs, np.nan))
    with pytest.raises(ValueError, match="NaN"):
        pick(name, pool, 10)


@pytest.mark.parametrize("name", NEEDS_MC)
def test_dropout_probabilities_that_are_nan_are_refused(name, spoiled):
    pool = make_pool(labelled=np.arange(240) < 30, mc_probs=spoiled(make_pool().mc_probs, np.nan))
    with pytest.raises(ValueError, match="NaN"):
        pick(name, pool, 10)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_missing_array_is_named(name):
    pool = Pool(labelled=np.zeros(5, bool), classes=2)
    needs = REGISTRY[name].needs
    if not needs:
        check(pick(name, pool, 3), pool, 3)
    else:
        with pytest.raises(ValueError, match=needs[0]):
            pick(name, pool, 3)


def test_a_need_that_no_pool_has_is_refused():
    with pytest.raises(ValueError, match=r"needs=prob: .* probs, features"):
        Strategy(REGISTRY["margin"].choose, needs=("prob",))


@pytest.mark.parametrize("name", STRATEGIES)
def test_only_the_arrays_it_needs_are_read(name):
    full = make_pool()
    needed = {array: getattr(full, array) for array in REGISTRY[name].needs}
    bare = Pool(labelled=full.labelled, labels=full.labels, classes=full.classes, **needed)
    np.testing.assert_array_equal(pick(name, bare, 20).positions, pick(name, full, 20).positions)


@pytest.mark.parametrize("name", [name for name in STRATEGIES if not REGISTRY[name].needs_labelled])
def test_labelled_rows_may_be_absent(name):
    full = make_pool()
    rows = full.unlabelled
    bare = make_pool(
        labelled=np.zeros(len(rows), bool),
        labels=full.labels[rows],
        **{array: getattr(full, array)[rows] for array in ("probs", "features", "activations")},
        **{array: getattr(full, array)[:, rows] for array in ("mc_probs", "drop_votes")},
    )
    np.testing.assert_array_equal(rows[pick(name, bare, 20).positions], pick(name, full, 20).positions)


@pytest.mark.parametrize("name", NEEDS_FEATURES)
def test_memory_mapped_features_give_the_same_picks(name, tmp_path, monkeypatch):
    half = make_pool().features.astype(np.float16)
    np.save(tmp_path / "features.npy", half)
    expected = pick(name, make_pool(features=half.astype(np.float32)), 40)
    monkeypatch.setattr("al.storage.blocks.BLOCK_ROWS", 50)  # with a last block that is not full
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    np.testing.assert_array_equal(pick(name, make_pool(features=mapped), 40).positions, expected.positions)


@pytest.mark.parametrize("in_file", [False, True])
@pytest.mark.parametrize("name", NEEDS_FEATURES)
def test_rows_of_an_array_are_as_good_as_an_array_of_them(name, in_file, tmp_path, monkeypatch):
    """Rows with gaps, of features of which the pool holds a part."""
    rows = np.flatnonzero(np.arange(340) % 17 > 4)[:240]
    features = np.full((340, 24), np.nan, np.float16)  # which nobody looks at
    features[rows] = make_pool().features
    np.save(tmp_path / "features.npy", features)
    stored = np.load(tmp_path / "features.npy", mmap_mode="r" if in_file else None)
    pool = make_pool(features=features[rows].astype(np.float32))
    expected = pick(name, pool, 40)
    monkeypatch.setattr("al.storage.blocks.BLOCK_ROWS", 50)
    found = pick(name, replace(pool, features=RowsOf(stored, rows)), 40)
    np.testing.assert_array_equal(found.positions, expected.positions)


def test_importing_the_registry_loads_no_heavy_library():
    code = "import sys, al.strategies; print([m for m in ('faiss', 'scipy', 'sklearn', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def together(first: str, second: str, after: int = 2) -> StrategySchedule:
    return get_strategy(f"{first},{second}", after)


@pytest.mark.parametrize("first", sorted({first for first, _ in PAIRS}))
def test_any_two_declare_what_both_need(first):
    for second in (second for one, second in PAIRS if one == first):
        schedule, parts = together(first, second), (REGISTRY[first], REGISTRY[second])
        assert set(schedule.needs) == {need for part in parts for need in part.needs}
        assert len(schedule.needs) == len(set(schedule.needs))
        assert set(schedule.options) == {"switch_after", *(option for part in parts for option in part.options)}
        assert [schedule.in_round(number) for number in (1, 2, 3, 40)] == [parts[0], parts[0], parts[1], parts[1]]
        assert schedule.rounds == 3
        assert not schedule.baseline


@pytest.mark.parametrize(("first", "second"), PAIRS[:: len(PAIRS) // 25])
def test_each_round_keeps_the_contract_with_its_own_arrays(first, second):
    full = make_pool()
    for number in (1, 2, 3):
        strategy = together(first, second).in_round(number)
        needed = {array: getattr(full, array) for array in strategy.needs}
        pool = Pool(labelled=full.labelled, labels=full.labels, classes=full.classes, **needed)
        check(strategy.select(pool, 17, np.random.default_rng(number)), pool, 17)


def test_a_strategy_alone_chooses_in_every_round():
    assert all(get_strategy("margin").in_round(number) is REGISTRY["margin"] for number in (1, 3, 4, 99))
