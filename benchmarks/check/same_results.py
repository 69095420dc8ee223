"""What is checked in this process: the device and the CPU, twice the same, recorded steps, other precisions."""

import numpy as np
import torch
from torch import nn

from al.errors import UserError, first_line
from al.learning.scorer import Scorer, to_input
from al.runtime import resolve_runtime
from benchmarks import synthetic
from benchmarks.check.results import Result, close, largest_difference
from benchmarks.check.subject import Subject, weights

PICKED, KEPT = 0.05, 0.9
"""Share of the images that is picked, and of these picks what must be the same on the device and on the CPU."""
APART = 0.05
"""Of weights after an epoch with recorded steps, relative to the largest, where they are not the same bit for bit:
rounding grows with every step of Adam."""
WITHOUT_RECORDING = "start runs with AL_FAST=-graphs: slower, to the same results; please paste this into an issue"


def device_and_cpu(subject: Subject) -> list[Result]:
    found = subject.scored(subject.there)
    overlap = _overlap(found.probs, subject.exact.probs)
    picks = f"{overlap:.0%} of the {PICKED:.0%} most uncertain are the same"
    return [
        close("probabilities, device and CPU", found.probs, subject.exact.probs),
        close("features, device and CPU", found.features, subject.exact.features),
        close("gradient, device and CPU", subject.gradient(subject.there), subject.gradient(subject.cpu)),
        Result("picks, device and CPU", f"{picks} ({KEPT:.0%} must be)", overlap >= KEPT, overlap),
    ]


def _picks(probs: np.ndarray) -> set[int]:
    """Rows of the share of lowest highest probability."""
    return set(np.argsort(probs.max(axis=1), kind="stable")[: round(PICKED * len(probs))].tolist())


def _overlap(probs: np.ndarray, exact: np.ndarray) -> float:
    return len(_picks(probs) & _picks(exact)) / len(_picks(exact))


def folding(subject: Subject) -> list[Result]:
    network = subject.network(subject.there)
    scorer = Scorer(network, subject.there, synthetic.SIDE)
    left = sum(isinstance(module, nn.BatchNorm2d) for module in scorer._network().modules())
    there = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    images = subject.there.place(subject.images)
    folded = scorer.predict(images, features=True).features
    with torch.no_grad():
        plain = network.eval()(to_input(images, synthetic.SIDE))[1].cpu().numpy()
    remedy = "it only makes scoring slower; unset AL_FAST, or please paste this into an issue"
    return [
        Result("batch normalisation folded", f"{there - left} of {there}", left == 0, remedy=remedy),
        close("folded and not folded", folded, plain),
    ]


def twice(subject: Subject) -> list[Result]:
    """Twice the same: an epoch of training, and a pass of scoring."""
    trained = [weights(subject.after_an_epoch(subject.there)) for _ in range(2)]
    probs = [subject.scored(subject.there).probs for _ in range(2)]
    same = {"training": torch.equal(*trained), "scoring": np.array_equal(*probs)}
    said = {True: "the same bit for bit", False: "not the same: a seed would not repeat its run"}
    return [Result(f"{name} twice", said[equal], equal) for name, equal in same.items()]


def recorded_steps(subject: Subject) -> list[Result]:
    """An epoch of steps that are recorded and launched again as a whole, beside one of steps launched one by one."""
    name = "recorded and single steps"
    if subject.there.recorder is None:
        return [Result(name, "nothing to compare: only NVIDIA cards record steps")]
    recorded, plain = (subject.after_an_epoch(subject.there, recorded=whether) for whether in (True, False))
    if not recorded.step.is_recorded:
        said = f"not recorded: {recorded.step.refusal or 'AL_FAST takes it away'}"
        return [Result(name, said, False, remedy="runs go on without, more slowly, to the same results; unset AL_FAST")]
    if torch.equal(weights(recorded), weights(plain)):
        return [Result(name, "the same weights after an epoch, bit for bit", True)]
    apart = largest_difference(weights(recorded), weights(plain))
    said = f"weights after an epoch differ by at most {apart:.1e} of the largest ({APART} is allowed)"
    return [Result(name, said, apart <= APART, apart, WITHOUT_RECORDING)]


def precisions(subject: Subject, device: str) -> list[Result]:
    """What the other values of `precision` change: share of picks that stay."""
    results = []
    for precision in ("tf32", "bfloat16"):
        try:
            probs = subject.scored(resolve_runtime(device, precision)).probs
        except (UserError, RuntimeError) as error:
            said = first_line(error).removeprefix(f"precision={precision}: ").partition(";")[0]
            results.append(Result(f"precision={precision}", f"not on this device: {said}"))
            continue
        overlap = _overlap(probs, subject.exact.probs)
        apart = float(np.quantile(np.abs(probs - subject.exact.probs), 0.99))
        said = f"keeps {overlap:.0%} of the picks of float32; 99 % of the probabilities are within {apart:.3f} of its"
        results.append(Result(f"precision={precision}", said, value=overlap))
    resolve_runtime(device, "float32")
    return results
