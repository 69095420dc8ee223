"""How far a model's probabilities have to be softened to be calibrated."""

import numpy as np
from numpy.typing import NDArray

from al.storage.blocks import gather
from al.strategies.base import Pool

TEMPERATURES = np.arange(10, 200) / 10
"""1.0, 1.1, ... 19.9, as published."""
HELD_OUT = 0.3
"""Share of the labels that calibration is measured on."""
BINS = 15
"""Of confidence, in the calibration error."""
WEIGHT_DECAY = 1e-3
ITERATIONS = 100


def calibrated_temperature(pool: Pool, rng: np.random.Generator) -> float:
    """The T for which softmax(z / T) is best calibrated on labels that its model has not seen.

    A throwaway linear head on the activations is fitted to 70 % of the labels, and the calibration error measured on
    the others: the model itself was trained on all of them and would look surer than it is. 1 where the labels are too
    few to fit or to measure.
    """
    if pool.labels is None:
        raise ValueError("labels: missing from the pool, and calibration needs those that are known; pass them")
    known = rng.permutation(np.flatnonzero(pool.labelled))  # [n]
    held_out, fitted = np.split(known, [round(HELD_OUT * len(known))])
    if not len(held_out) or len(np.unique(pool.labels[fitted])) < 2:
        return 1.0
    x, unseen = gather(pool.activations, fitted), gather(pool.activations, held_out)
    mean, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6) * np.sqrt(x.shape[1])  # mean length 1
    weight, bias = linear_head((x - mean) / scale, pool.labels[fitted], pool.classes)
    logits = (unseen - mean) / scale @ weight.T + bias  # [m, C]
    errors = [calibration_error(logits / t, pool.labels[held_out]) for t in TEMPERATURES]
    return float(TEMPERATURES[np.argmin(errors)])


def linear_head(
    x: NDArray[np.floating], labels: NDArray[np.int64], classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights [C, D] and biases [C] of the multinomial logistic regression of `labels` [n] on x [n, D]."""
    from scipy.optimize import minimize

    x = np.c_[x, np.ones(len(x))].astype(np.float64)  # [n, D + 1]
    onehot = np.eye(classes)[labels]  # [n, C]

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        theta = flat.reshape(classes, -1)
        log_p = log_softmax(x @ theta.T)
        loss = -(log_p * onehot).sum() / len(x) + WEIGHT_DECAY / 2 * (flat @ flat)
        return loss, ((np.exp(log_p) - onehot).T @ x / len(x) + WEIGHT_DECAY * theta).ravel()

    start = np.zeros(classes * x.shape[1])
    theta = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS}).x
    theta = theta.reshape(classes, -1)
    return theta[:, :-1], theta[:, -1]


def log_softmax(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    """[n, C] -> [n, C]"""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def calibration_error(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """Mean gap between confidence and accuracy over bins of confidence (Guo et al., ICML 2017). [n, C], [n]"""
    probs = np.exp(log_softmax(logits))
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == labels
    number = np.minimum((confidence * BINS).astype(int), BINS - 1)
    # sum over bins of n_b / n |accuracy_b - confidence_b|
    return float(np.abs(np.bincount(number, right - confidence, BINS)).sum() / len(labels))
