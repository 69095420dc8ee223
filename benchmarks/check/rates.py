"""How fast one run is on the device, and how much memory it takes."""

import time
from collections.abc import Callable

import numpy as np
import torch

from al.learning.scorer import Scorer
from benchmarks import synthetic
from benchmarks.check.results import Result
from benchmarks.check.subject import TRAINED, Subject, few_steps
from benchmarks.measuring import number

SCORING, TRAINING = "images scored a second", "training steps a second"
"""Names of the two rates that the study's time is estimated from."""


def scoring(subject: Subject, seconds: float) -> list[Result]:
    """Images scored a second, of one run alone."""
    runtime = subject.there
    count = 500 if runtime.on_cpu else 10_000
    images = runtime.place(synthetic.images(count)[0])
    scorer = Scorer(subject.network(runtime), runtime, synthetic.SIDE)
    rate = _rate(lambda: len(scorer.predict(images, features=True).probs), seconds)
    return [Result(SCORING, number(rate), value=rate)]


def training(subject: Subject, seconds: float) -> list[Result]:
    """Training steps a second, of one run alone: recorded, where the device records them, and launched one by one."""
    results = []
    for name, recorded in ((TRAINING, True), ("the same, launched one by one", False)):
        if recorded or subject.there.recorder is not None:
            rate = _rate(few_steps(subject.trainer(subject.there, recorded=recorded)), seconds)
            results.append(Result(name, number(rate), value=rate))
    return results


def _rate(work: Callable[[], int], seconds: float) -> float:
    """Things a second of work that says how many it did; both calls before it warm up."""
    work()
    work()
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        done += work()
    return done / (time.perf_counter() - start)


def first_of_a_size(subject: Subject) -> list[Result]:
    """Seconds that the first epoch takes, and what a last batch of a size not met before adds: rounds of labels bring
    such batches, and a library that plans each convolution for each size makes a run wait for them."""
    trainer = subject.trainer(subject.there)
    images = subject.there.place(subject.images)

    def seconds(count: int) -> float:
        start = time.perf_counter()
        trainer.epoch(images, subject.labels, np.arange(count), 1)  # returns numbers, so it has waited for the device
        return time.perf_counter() - start

    batch = trainer.settings.batch_size
    first, *added = seconds(TRAINED), *(seconds(TRAINED + part) - seconds(TRAINED + part) for part in (batch // 3, 5))
    added = max(0.0, *added)
    return [
        Result("seconds of the first epoch", f"{first:.2f}", value=first),
        Result("seconds of a new batch size", f"{added:.2f} more, when it is met for the first time", value=added),
    ]


def memory(subject: Subject) -> list[Result]:
    if subject.there.device.type != "cuda":  # torch counts it there only
        return []
    peak, total = torch.accelerator.max_memory_allocated() / 2**20, torch.accelerator.get_memory_info()[1] / 2**20
    return [Result("memory", f"{number(peak)} MiB at most of {number(total)} MiB", value=peak)]
