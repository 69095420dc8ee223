"""Small pools on which the registry and scikit-activeml choose, made alike for recording and for testing.

The streams of `RandomState` are frozen by NumPy, so a recorded pick stays one of the same pool.
"""

import numpy as np
from numpy.random import RandomState

SEEDS = (0, 1, 2)
CLASSES = 5
RANKED, FARTHEST, COVERING, HERDED, DROPPED = 30, 40, 25, 30, 4
RADII = (0.6, 0.8, 1.0)
RADIUS_STEP = 0.01
PURITY = 0.95
UNCOVERED_BLOBS = 4


def softmax(logits):
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (exp / exp.sum(axis=-1, keepdims=True)).astype(np.float32)


def labelled_rows(random, n, count):
    """bool[n], `count` of them True."""
    return np.isin(np.arange(n), random.choice(n, count, replace=False))


def blobs(random, sizes, d=12):
    """Features f32[N, D] in blobs so far apart that every k-means finds them, and the blob of each row."""
    blob = random.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return (60 * np.eye(d)[blob] + random.standard_normal((len(blob), d))).astype(np.float32), blob


def ranking(seed):
    """labelled [150], probs [150, 5], mc_probs [8, 150, 5]."""
    random = RandomState(seed)
    labelled = labelled_rows(random, 150, 30)
    logits = 2 * random.standard_normal((150, CLASSES))
    return labelled, softmax(logits), softmax(logits + random.standard_normal((8, 150, CLASSES)))


def scattered(seed):
    """labelled [200], features [200, 8] without structure, so that no two distances are equal."""
    random = RandomState(seed)
    return labelled_rows(random, 200, 8), random.standard_normal((200, 8)).astype(np.float32)


def directions(seed):
    """labelled [200], features [200, 8] without structure, of length 1."""
    labelled, features = scattered(seed)
    return labelled, features / np.linalg.norm(features, axis=1, keepdims=True)


def touching(seed):
    """features [160, 3] of length 1 in three blobs that nearly touch: where balls stop being pure matters."""
    random = RandomState(seed)
    features = 5 * np.eye(3)[random.randint(3, size=160)] + random.standard_normal((160, 3))
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)


def typical(seed):
    """labelled [N], features [N, 12] of length 1 in 7 blobs of 40 or more, 3 of which hold a label each."""
    random = RandomState(seed)
    features, blob = blobs(random, (52, 47, 41, 60, 44, 56, 49))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    labelled = np.zeros(len(blob), dtype=bool)
    labelled[[np.flatnonzero(blob == b)[0] for b in range(7 - UNCOVERED_BLOBS)]] = True
    return labelled, features


def dropped(seed):
    """labelled [130], probs [130, 3], features [130, 12], drop_votes [3, 130].

    The first 90 lie in 4 blobs and change in 2 or 3 of 3 passes, the others in 0 or 1.
    """
    random = RandomState(seed)
    features = np.r_[blobs(random, (30, 25, 20, 15))[0], 200 + random.standard_normal((40, 12)).astype(np.float32)]
    probs = softmax(random.standard_normal((130, 3)))
    changes = np.r_[random.randint(2, 4, size=90), random.randint(0, 2, size=40)]
    votes = (probs.argmax(axis=1) + (changes > np.arange(3)[:, None])) % 3
    return labelled_rows(random, 130, 20), probs, features, votes


def gradients(seed):
    """labelled [60], probs [60, 5], features [60, 6]."""
    random = RandomState(seed)
    features = np.abs(random.standard_normal((60, 6))).astype(np.float32)
    return labelled_rows(random, 60, 10), softmax(2 * random.standard_normal((60, CLASSES))), features
