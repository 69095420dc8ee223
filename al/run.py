"""One run under way: its labelled set, model, budget and files; the one object that the loop talks to.

An epoch is written down before the next begins, and its random numbers follow from its number: a run that is cut
anywhere and started again goes on from its checkpoint, and ends as one that never was.
"""

import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from al import seeds, stopwatch
from al.budget import Budget, seconds_left
from al.candidates import candidates
from al.config import RunConfig
from al.data import DataSet, Embeddings, FirstLabels
from al.errors import EXIT_FAILED
from al.identity import Identity
from al.labels import LabelledSet, Rows
from al.learning.early_stopping import EarlyStopping
from al.learning.learner import Learner
from al.learning.metrics import Evaluation, by_class
from al.records import (
    CURVE_METRICS,
    PHASES,
    Baseline,
    BestEpoch,
    DataDescription,
    EpochRecord,
    LabelCounts,
    PickStatistics,
    RoundRecord,
    scores_of,
)
from al.run_result import run_result
from al.run_state import RunState
from al.signals import StopRequested, StopSignals
from al.stopwatch import phase
from al.storage.checkpoint import Checkpoint, CorruptCheckpoint
from al.storage.files import write_json
from al.storage.result_files import al_tracking, write_aggregate
from al.storage.run_folder import COMPLETE, RunFolder
from al.tracking.description import id_of_run, own_tags
from al.tracking.terminal import RunProgress, duration
from al.tracking.tracker import NoTracker
from al.tracking.wandb import open_tracker


class Run:
    """Use as a context manager around the loop: leaving it ends the run on W&B, with how it went.

    Args:
        pool: i64[S] rows of the training set that may be labelled.
        baseline: the result to beat under stop=baseline.
        learner: holds the images and the model.
        signals: held back while an epoch is written down.
    """

    def __init__(
        self,
        config: RunConfig,
        data: DataSet,
        pool: Rows,
        budget: Budget,
        learner: Learner,
        *,
        baseline: Baseline | None,
        signals: StopSignals,
    ):
        self.config, self.data, self.pool, self.budget = config, data, pool, budget
        self.learner, self.baseline, self.signals = learner, baseline, signals
        self.folder = RunFolder.of(config)
        self.checkpoint = Checkpoint(self.folder.path)
        self._checkpoint_due = 0.0
        """On the clock of `time.monotonic`: the first epoch is saved at once."""
        self.state = RunState(LabelledSet.empty(len(data.train.labels)), EarlyStopping(config.lr))
        self.tracker = NoTracker()
        self.progress = RunProgress(self.title, budget.rounds)
        self._stopwatch = stopwatch.running()
        self.record: EpochRecord | None = None
        """Of the epoch under way, once it has been evaluated."""

    def __enter__(self) -> Self:
        self.progress.__enter__()
        self.stopwatch = self._stopwatch.__enter__()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopwatch.__exit__(kind, error, trace)
        exit_code = 0 if error is None else EXIT_FAILED
        if isinstance(error, StopRequested):
            exit_code = error.exit_code
            if error.preempted:
                self.tracker.preempting()
        try:
            self.tracker.finish(exit_code)
        finally:
            self.progress.__exit__(kind, error, trace)

    # What the loop reads.

    @property
    def finished(self) -> bool:
        return self.state.finished

    @property
    def labelled(self) -> LabelledSet:
        return self.state.labelled

    @property
    def epoch(self) -> int:
        """The number of the epoch under way, from 1."""
        return self.state.epoch + 1

    @property
    def round(self) -> int:
        """Queries done."""
        return self.state.round

    @property
    def lr(self) -> float:
        return self.state.early_stopping.lr

    @property
    def classes(self) -> tuple[str, ...]:
        return self.data.train.classes

    @property
    def title(self) -> str:
        return f"{self.config.cell}, split seed {self.config.split_seed}"

    @cached_property
    def identity(self) -> Identity:
        return Identity.of(self.config, self.data.fingerprint)

    @property
    def budget_left(self) -> int:
        """Labels that may still be acquired."""
        return self.budget.left(self.labelled.count)

    @property
    def next_batch(self) -> int:
        """Labels that the next query acquires."""
        return self.budget.next_batch(self.labelled.count)

    @property
    def to_convergence(self) -> bool:
        """Whether the present fit runs to early stopping: every fit, but in the study's schedule only the last."""
        return self.config.schedule == "converge" or not self.budget_left

    @property
    def beats_baseline(self) -> bool:
        """The study's rule under stop=baseline, of the latest evaluation on the test set."""
        return self.baseline is not None and self.baseline.beaten_by(self.record.test)

    @property
    def fit_is_over(self) -> bool:
        """After one epoch; where the fit runs to convergence after `patience` stale epochs or `max_epochs`."""
        if self.config.learner.converges_at_once or not self.to_convergence:
            return True
        epochs = self.state.epoch if self.config.schedule == "epoch" else self.state.fit_epoch
        return self.state.early_stopping.stale >= self.config.patience or epochs >= self.config.max_epochs

    def candidates(self) -> Rows:
        """Rows [n] that the next query scores and chooses from; see `candidates`."""
        return candidates(self.config, self.pool, self.labelled.mask, self.round + 1)

    # What the loop does.

    def resume(self) -> bool:
        """Go back to the checkpoint of an earlier attempt; False where there is none that can be used."""
        try:
            state = self.checkpoint.load(self.learner, self.identity)
        except CorruptCheckpoint as corrupt:
            self.progress.say(f"{corrupt}; the run starts again")
            return False
        if state is None:
            return False
        self.state = state
        self.folder.epochs.keep(state.epoch)
        self.folder.rounds.keep(state.round + 1)
        self.progress.say(f"goes on after epoch {state.epoch}, with {state.labelled.count} labels")
        return True

    def begin(self, first: FirstLabels, embeddings: Embeddings | None) -> None:
        """Label the initial pool of a run that starts from nothing.

        What computing the embeddings took is counted to the first epoch, whichever run computed them: they are cached
        for all, and the one that happened to come first would seem slow.
        """
        if embeddings is not None and embeddings.seconds is not None:
            self.stopwatch.add("embed", embeddings.seconds)
            if embeddings.cached:
                self.progress.say(f"embeddings: from the cache; computing them took {duration(embeddings.seconds)}")
        self.folder.epochs.keep(0)
        self.folder.rounds.keep(0)
        self._add_labels(first.rows, first.labels)
        self.labelled.machine_labelled = first.machine_labelled
        self._begin_fit()
        self.folder.rounds.append(self._round_record(first.rows, first.confidence, first.guesses))

    def start_tracking(self, first: FirstLabels) -> None:
        """Open W&B, where asked, and write down what identifies this run."""
        known = self.folder.read_json("config.json") or {}
        run_id = id_of_run(known.get("wandb_run_id"))
        identity = self.identity
        described = {"config": self.config.model_dump(mode="json"), "digest": identity.digest, "cell": self.config.cell}
        described |= {"data": DataDescription.of(self.data).written(), "sources": dict(identity.sources)}
        described |= {"zero_shot": first.source, "wandb_run_id": run_id, "wandb_tags": own_tags()}
        # before W&B has the run: one that is cut in between goes on under its id
        write_json(self.folder.path / "config.json", described)
        self.tracker = open_tracker(
            self.config, self.data.fingerprint, run_id, self.folder.epochs.read(), self.progress.say
        )
        for note in self.config.without_effect():
            self.progress.say(f"note: {note} has no effect here")
        for note in self.learner.notes:
            self.progress.say(f"note: {note}")

    def judge(self, evaluations: Mapping[str, Evaluation]) -> None:
        """Count the epoch; keep its weights where it is the best of its fit; let the learning rate fall.

        Raises:
            FloatingPointError: a loss is not finite.
        """
        state, config = self.state, self.config
        if not np.isfinite(sum(evaluation.loss for evaluation in evaluations.values())):
            raise FloatingPointError(f"lr={self.lr:g}: the loss is not finite in epoch {self.epoch}; lower lr")
        lr, loss = self.lr, evaluations["val" if "val" in evaluations else "train"].loss
        state.epoch += 1
        state.fit_epoch += 1
        scores = {split: scores_of(evaluation) for split, evaluation in evaluations.items()}
        best = state.early_stopping.step(
            float(loss), min_delta=config.min_delta, lr_factor=config.lr_factor, lr_patience=config.lr_patience
        ) or (self.baseline is not None and self.baseline.beaten_by(scores["test"]))
        if best:
            state.curve_point = {name: scores["test"][name] for name in CURVE_METRICS}
        self._note_what_may_differ()
        if best and (self.to_convergence or self.baseline):
            state.best = BestEpoch.of(state.epoch, evaluations, self.classes)
            self.learner.remember_best()
        self.record = EpochRecord(
            **dict(self._label_counts()),
            **scores,
            epoch=state.epoch,
            round=state.round,
            train_size=len(self.labelled.train),
            val_size=len(self.labelled.val),
            pool_size=len(self.pool) - self.labelled.count,
            lr=lr,
            per_class=by_class(evaluations["test"].confusion, self.classes),
            best=best,
            seconds={},
        )

    def label(self, rows: Rows, scores: NDArray[np.float32], predicted: NDArray[np.int64] | None) -> RoundRecord:
        """Have people label the picks of a query, and begin the next fit.

        Args:
            rows: i64[k] rows of the training set, in order of preference.
            scores: f32[k] the strategy's, NaN where it has none.
            predicted: i64[k] class that the model gave each; None where it was not asked.
        """
        self.state.round += 1
        self._add_labels(rows, self.data.train.labels[rows])
        self._begin_fit()
        return self._round_record(rows, scores, predicted)

    def finish(self) -> None:
        """The epoch under way is the last."""
        self.state.finished = True

    def commit(self, query: RoundRecord | None) -> None:
        """Write down the epoch and the query that ended it. W&B mirrors them; the next checkpoint makes them count.

        There is one where the last is `checkpoint_seconds` old, where the run ends, and where it is told to stop now.
        What the checkpoint and W&B take is counted in the next epoch's seconds, as this one's are on disk by then.
        """
        with self.signals.shielded():
            sheet = None
            if query is not None and self.config.pictures:
                with phase("pictures"):
                    sheet = self._pick_sheet(query)
            seconds = self._lap()
            if query is not None:
                acquiring = {name: seconds[name] for name in ("score", "select", "cluster")}
                self.folder.rounds.append(query.model_copy(update={"seconds": acquiring}))
            record = self.record = self.record.model_copy(
                update={
                    "seconds": seconds,
                    "pick": query and PickStatistics.of(query, len(self.classes)),
                    "curve": self.state.curve_point if query is not None or self.finished else None,
                }
            )
            self.folder.epochs.append(record)
            self.state.seconds += seconds["round"]
            with phase("tracking"):  # before the checkpoint: logged twice does no harm, lost rows would
                self.tracker.log_epoch(record, sheet)
            if self.finished or self.signals.pending or time.monotonic() >= self._checkpoint_due:
                with phase("checkpoint"):
                    self.checkpoint.save(self.state, self.learner, self.identity)
                self._checkpoint_due = time.monotonic() + self.config.checkpoint_seconds
            self.progress.epoch(record, self.state.seconds, seconds_left(self.budget, self.config, self.state, record))

    def write_results(self) -> None:
        """Write the results; `performance_metrics.json` comes last and makes the run complete."""
        self.progress.doing("writing results")
        path = self.folder.path
        epochs, rounds = self.folder.epochs.read(), self.folder.rounds.read()
        self.learner.save_best(path / "best_model.safetensors")
        write_json(path / "al_tracking.json", al_tracking(self.config.strategy, self.budget, rounds))
        with phase("pictures"):
            plots = self._plots(epochs) if self.config.pictures else []
        result = run_result(self, epochs, rounds, self._lap(), self._label_counts(), self._note_what_may_differ())
        write_json(path / COMPLETE, result.written())
        self.checkpoint.remove()
        write_aggregate(path, pictures=self.config.pictures)
        self.tracker.log_end(result, self.classes, plots)
        self.progress.summary(result, path, self.tracker.url)

    # The steps of these.

    def _add_labels(self, rows: Rows, labels: NDArray[np.int64]) -> None:
        share = self.config.val_fraction if self.config.learner.holds_out else 0
        rng = seeds.rng(self.config.split_seed, self.state.round, "validation")
        self.labelled.add(rows, labels, val_fraction=share, pool=self.pool, rng=rng)

    def _begin_fit(self) -> None:
        """The labelled set has changed, and validation with it: early stopping and the learning rate start over.

        Weights and optimiser carry over in the study's schedule; under schedule=converge the optimiser is fresh.
        """
        self.state.fit_epoch, self.state.best = 0, None
        self.state.early_stopping = EarlyStopping(lr=self.config.lr)
        if self.config.schedule == "converge" and self.state.round:
            self.learner.restart(warm=self.config.warm_start)

    def _round_record(
        self, rows: Rows, scores: NDArray[np.float32] | None, predicted: NDArray[np.int64] | None
    ) -> RoundRecord:
        unknown = [None] * len(rows)
        return RoundRecord(
            **dict(self._label_counts()),
            round=self.state.round,
            epoch=self.state.epoch,
            rows=rows.tolist(),
            paths=[self.data.train.path_of(int(row)) for row in rows],
            scores=unknown if scores is None else [None if np.isnan(score) else float(score) for score in scores],
            true=self.data.train.labels[rows].tolist(),
            predicted=unknown if predicted is None else predicted.tolist(),
        )

    def _pick_sheet(self, query: RoundRecord) -> Path:
        from al.tracking.plots import SHEET_PICKS, pick_sheet

        path = self.folder.path / f"plots/picks/round_{query.round:03d}.png"
        images = self.data.train.images[query.rows[:SHEET_PICKS]]  # only these: they may have to be decoded for it
        return pick_sheet(images, query, self.classes, path)

    def _plots(self, epochs: list[EpochRecord]) -> list[Path]:
        from al.tracking.plots import plot_run

        return plot_run(epochs, self.state.best, self.classes, self.title, self.folder.path / "plots", self.baseline)

    def _lap(self) -> dict[str, float]:
        """Seconds by phase since the last commit."""
        seconds = self.stopwatch.lap()
        return {name: seconds.get(name, 0.0) for name in PHASES}

    def _note_what_may_differ(self) -> list[str] | None:
        """Operations that may give something else the next time, over all attempts; new ones are said."""
        found, known = self.learner.runtime.not_repeatable, self.state.not_repeatable
        if new := sorted(set(found or ()) - set(known)):
            self.progress.say(
                f"note: the same seed may give other picks next time: no deterministic {', '.join(new)} on this device"
            )
            known += new
        return None if found is None else known

    def _label_counts(self) -> LabelCounts:
        return LabelCounts.of(self.labelled, self.data.train.labels, self.classes)
