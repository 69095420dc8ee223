"""What a run writes down: the one schema of its files, of W&B, of tables and of figures.

`EpochRecord` is a line of `epochs.jsonl`, `RoundRecord` a line of `rounds.jsonl`, `RunResult` the contents of
`performance_metrics.json`. A metric is one row of `METRICS` and one function: from there it reaches every file, W&B,
every table and every page.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from al.labels import LabelledSet
from al.learning import metrics
from al.learning.metrics import Evaluation

if TYPE_CHECKING:
    from al.data import DataSet

SPLITS = ("train", "val", "test")
PHASES = ("embed", "train", "score", "select", "cluster", "evaluate", "checkpoint", "pictures", "tracking", "round")
"""Phases of an epoch that are timed. `cluster` lies within `select`, and `round` is all of it but `embed`: what
computing the embeddings took before the first epoch, in this run or in the one that cached them."""


@dataclass(frozen=True)
class Metric:
    """One number that is computed of every pass over labelled images."""

    name: str
    """In the files."""
    key: str
    """On W&B, after `<split>/`."""
    title: str
    """Of an axis or a column, with the unit."""
    better: Literal["higher", "lower"]
    compute: Callable[[Evaluation], float | None]
    """None where the pass does not know it."""
    in_aggregate: bool = True
    """Whether `aggregated/performance_metrics.json` has its mean and deviation."""


METRICS = {
    metric.name: metric
    for metric in (
        Metric("loss", "loss", "Cross-entropy loss (nats)", "lower", metrics.mean_loss),
        Metric("accuracy", "accuracy", "Accuracy (%)", "higher", metrics.accuracy),
        Metric(
            "balanced_accuracy",
            "balanced_accuracy",
            "Balanced accuracy (%)",
            "higher",
            metrics.balanced_accuracy,
            in_aggregate=False,
        ),
        Metric("precision", "precision", "Macro precision", "higher", metrics.macro_precision),
        Metric("recall", "recall", "Macro recall", "higher", metrics.macro_recall),
        Metric("f1-score", "f1", "Macro F1", "higher", metrics.macro_f1),
        Metric("ece", "ece", "Expected calibration error", "lower", metrics.calibration_error, in_aggregate=False),
    )
}
"""Every metric by its name. Accuracies are in percent, the others are fractions or nats."""

CURVE_METRICS = ("accuracy", "loss", "f1-score")
"""Metrics of a point of the learning curve."""


def scores_of(evaluation: Evaluation) -> dict[str, float]:
    """Every metric of one pass that the pass knows, by name."""
    found = {name: metric.compute(evaluation) for name, metric in METRICS.items()}
    return {name: value for name, value in found.items() if value is not None}


class Record(BaseModel):
    """A record is written once and never changed; fields of other versions are passed over when it is read."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def written(self) -> dict:
        """As files hold it: plain JSON values."""
        return self.model_dump(mode="json")


class LabelCounts(Record):
    """How many labels there are, of which kind and class."""

    labels: int
    human_labels: int
    """Given by people."""
    free_labels: int = 0
    """Given by a machine."""
    wrong_labels: int = 0
    labels_by_class: dict[str, int] = {}
    """By class as assigned."""
    wrong_labels_by_class: dict[str, int] = {}
    """By true class."""

    @model_validator(mode="before")
    @classmethod
    def _people_unless_said(cls, found: object) -> object:
        """Without machine labels the two numbers are one, and the first versions wrote one."""
        if isinstance(found, dict) and "labels" in found:
            return {"human_labels": found["labels"], **found}
        return found

    @classmethod
    def of(cls, labelled: LabelledSet, truth: NDArray[np.int64], classes: tuple[str, ...]) -> "LabelCounts":
        """Counts of a labelled set; `truth` [N] are the true labels of the training set, for the report only."""
        counts = labelled.counts_by_class(len(classes))
        wrong = labelled.mask & (labelled.assigned_labels != truth)
        return cls(
            labels=labelled.count,
            human_labels=labelled.count - len(labelled.machine_labelled),
            free_labels=len(labelled.machine_labelled),
            wrong_labels=int(wrong.sum()),
            labels_by_class=dict(zip(classes, counts.tolist())),
            wrong_labels_by_class={name: int(wrong[truth == i].sum()) for i, name in enumerate(classes)},
        )


class PickStatistics(Record):
    """One query in numbers."""

    mean_score: float | None
    class_entropy: float
    """Of the picks' true classes, as a share of the largest possible."""
    duplicates: int

    @classmethod
    def of(cls, query: "RoundRecord", classes: int) -> "PickStatistics":
        scores = [score for score in query.scores if score is not None]
        return cls(
            mean_score=float(np.mean(scores)) if scores else None,
            class_entropy=metrics.class_entropy(np.array(query.true), classes),
            duplicates=len(query.rows) - len(set(query.rows)),
        )


class RoundRecord(LabelCounts):
    """A line of `rounds.jsonl`: what one query labelled, and the counts after it. Round 0 is the initial pool."""

    round: int
    epoch: int
    """Epochs done before it."""
    rows: list[int]
    """[k] rows of the training set, in order of preference."""
    paths: list[str] = []
    """[k] each image's path, relative to the data's folder."""
    scores: list[float | None] = []
    """[k] the strategy's score, or how sure the zero-shot labeller was; None where there is none."""
    true: list[int]
    """[k] true class."""
    predicted: list[int | None] = []
    """[k] class that the model, or the zero-shot labeller, gave each."""
    seconds: dict[str, float] = {}


class EpochRecord(LabelCounts):
    """A line of `epochs.jsonl`."""

    epoch: int
    round: int
    train_size: int
    val_size: int
    pool_size: int
    """Images that may still be labelled."""
    lr: float
    train: dict[str, float]
    val: dict[str, float] | None = None
    """None where nothing is held out."""
    test: dict[str, float]
    per_class: dict[str, dict[str, float]]
    """Test metrics of single classes."""
    pick: PickStatistics | None = None
    """Of the query that ended this epoch."""
    curve: dict[str, float] | None = None
    """The learning curve's point for this label count, in the epoch that ends the fit."""
    best: bool
    """Whether it is the best epoch of its fit so far."""
    time: float = Field(default_factory=time.time)
    """Seconds since 1970."""
    seconds: dict[str, float]

    def scores(self, split: str) -> Mapping[str, float]:
        """Metrics on `train`, `val` or `test`; empty where there are none."""
        return getattr(self, split) or {}

    def written(self) -> dict:
        return self.model_dump(mode="json", exclude={"val"} if self.val is None else None)


def learning_curve(epochs: Iterable[EpochRecord]) -> list[EpochRecord]:
    """For every label count the epoch that stands for it on the learning curve, in order of labels.

    That is the best epoch of its fit. In the study's schedule a fit is one epoch until the budget is spent.
    """
    at: dict[int, EpochRecord] = {}
    for epoch in epochs:
        if epoch.best or epoch.labels not in at:
            at[epoch.labels] = epoch
    return [at[labels] for labels in sorted(at)]


class Calibration(Record):
    """Images by how sure the model is of its class, in bins of equal width from 0 to 1."""

    images: list[int]
    right: list[int]
    """Those of them whose class is the predicted one."""
    confidence: list[float]
    """Mean of the highest probability; 0 in an empty bin."""

    @classmethod
    def of(cls, evaluation: Evaluation) -> "Calibration | None":
        """None of a pass that keeps no probabilities."""
        if evaluation.probs is None:
            return None
        found = metrics.confidence_bins(evaluation.probs, evaluation.true)
        mean = found.confidence / np.maximum(found.images, 1)
        return cls(images=found.images.tolist(), right=found.right.tolist(), confidence=mean.tolist())


class SplitResult(Record):
    """Metrics of the best epoch on one split, with per-class figures, the confusion matrix and calibration."""

    scores: dict[str, float]
    per_class: dict[str, dict[str, float]] = {}
    confusion_matrix: list[list[int]] = []
    calibration: Calibration | None = None

    @classmethod
    def of(cls, evaluation: Evaluation, classes: tuple[str, ...]) -> "SplitResult":
        return cls(
            scores=scores_of(evaluation),
            per_class=metrics.by_class(evaluation.confusion, classes, support=True),
            confusion_matrix=evaluation.confusion.tolist(),
            calibration=Calibration.of(evaluation),
        )

    @classmethod
    def read(cls, found: Mapping) -> "SplitResult | None":
        """From its form in the result files, where metrics lie beside the rest; None for an empty group."""
        if not found:
            return None
        rest = {name: found[name] for name in ("per_class", "confusion_matrix", "calibration") if name in found}
        return cls(scores={name: found[name] for name in METRICS if found.get(name) is not None}, **rest)

    def written(self) -> dict:
        rest = {} if self.calibration is None else {"calibration": self.calibration.written()}
        return {**self.scores, "per_class": self.per_class, "confusion_matrix": self.confusion_matrix, **rest}


RESULT_GROUPS = {
    "train": "training_metrics_for_best_epoch",
    "val": "validation_metrics_for_best_epoch",
    "test": "test_metrics",
}
"""Split -> its group in `performance_metrics.json`."""


class BestEpoch(Record):
    """The epoch whose weights a fit ends with."""

    epoch: int
    splits: dict[str, SplitResult]

    @classmethod
    def of(cls, epoch: int, evaluations: Mapping[str, Evaluation], classes: tuple[str, ...]) -> "BestEpoch":
        return cls(epoch=epoch, splits={split: SplitResult.of(found, classes) for split, found in evaluations.items()})

    @classmethod
    def read(cls, found: Mapping) -> "BestEpoch":
        """From its form in checkpoints and result files: one group a split."""
        splits = {split: SplitResult.read(found.get(group) or {}) for split, group in RESULT_GROUPS.items()}
        return cls(epoch=found["epoch"], splits={split: result for split, result in splits.items() if result})

    def written(self) -> dict:
        groups = {RESULT_GROUPS[split]: result.written() for split, result in self.splits.items()}
        return {"epoch": self.epoch} | groups


class DataDescription(Record):
    """What tells one data set from another."""

    name: str
    fingerprint: str
    train: int
    test: int
    classes: list[str]

    @classmethod
    def of(cls, data: "DataSet") -> "DataDescription":
        train, test = len(data.train), len(data.test)
        return cls(
            name=data.name, fingerprint=data.fingerprint, train=train, test=test, classes=list(data.train.classes)
        )


class Baseline(Record):
    """The result that a run under stop=baseline is to beat."""

    cell: str
    accuracy: float
    loss: float

    def beaten_by(self, test: Mapping[str, float]) -> bool:
        """The study's rule: higher test accuracy and lower test loss."""
        return test["accuracy"] > self.accuracy and test["loss"] < self.loss


class Environment(Record):
    """What a number was measured on: versions by package, device, precision, threads, commit."""

    model_config = ConfigDict(frozen=True, extra="allow")

    device: str
    threads: int = 0
    precision: str = "float32"
    not_repeatable: list[str] | None = None
    """Operations without a deterministic kernel: the same seed may end otherwise. None: not known."""


class RunResult(Record):
    """`performance_metrics.json`: what a run found, and what it cost."""

    best: BestEpoch
    initial_labels_bought_again: int = 0
    """Images of the initial pool, machine-labelled ones, that a later round paid for once more."""
    training_time_seconds: float
    total_epochs: int
    seconds: dict[str, float] = {}
    peak_memory_mb: float = 0.0
    config: dict[str, object] = {}
    digest: str
    labels_used: int
    human_labels_used: int
    wrong_labels_used: int = 0
    wrong_labels_by_class: dict[str, int] = {}
    reached_baseline: bool | None = None
    baseline: Baseline | None = None
    data: DataDescription
    environment: Environment
    files: dict[str, str] = {}
    """SHA-256 of the other files of the run, by name."""

    @property
    def test(self) -> Mapping[str, float]:
        """Test metrics of the best epoch."""
        return self.best.splits["test"].scores

    @classmethod
    def read(cls, found: Mapping) -> "RunResult":
        """From the parsed file.

        Raises:
            ValueError: it lacks something, or holds something else.
        """
        try:
            best = BestEpoch.read({**found, "epoch": found["best_epoch"]})
            return cls(best=best, **{"human_labels_used": found["labels_used"], **found})
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the results of a run ({error})") from None

    def written(self) -> dict:
        """As the file holds it."""
        groups = self.best.written()
        return {
            **{group: groups.get(group, {}) for group in RESULT_GROUPS.values()},
            "initial_labels_bought_again": self.initial_labels_bought_again,
            "best_epoch": self.best.epoch,
            **self.model_dump(mode="json", exclude={"best", "initial_labels_bought_again"}),
        }


def bought_again(rounds: Sequence[RoundRecord]) -> int:
    """Images of the initial pool that a later round paid for once more."""
    return len({row for query in rounds[1:] for row in query.rows} & set(rounds[0].rows))
