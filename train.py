#!/usr/bin/env python3
"""One run of active learning: train on what is labelled, score the pool, select, label, repeat.

    python train.py --strategy=margin --variant=balanced_1 --split_seed=12
    torchrun --standalone --nproc-per-node=4 train.py ...    the same run, its pool scored by four GPUs or processes

Every parameter can be given on the command line or by a W&B sweep; a sweep's values win. The files of the run
go to <results_dir>/<cell>/split_seed_<s>/ and to W&B as WANDB_MODE says. A run that was cut short goes on where
it stopped when the same command is given again; one that is complete is not run twice.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from al import seeds
from al.budget import Plan, candidates, plan_of, seconds_left
from al.config import RunConfig
from al.distributed import Leader, LostProcess, is_worker, leading, serve
from al.errors import UserError
from al.identity import Identity, local_sources
from al.labels import Labelled
from al.learning.early_stopping import Plateau
from al.options import read_parameters
from al.records import epoch_row, in_full, label_counts, pick_statistics, round_row
from al.run_state import RunState
from al.signals import StopRequested, StopSignals
from al.stopwatch import measuring, phase
from al.storage.files import Row, write_json
from al.storage.result_files import al_tracking, environment, performance_metrics, refresh_aggregate, write_aggregate
from al.storage.run_folder import COMPLETE, CorruptCheckpoint, HeldElsewhere, RunFolder
from al.strategies import Pool
from al.tracking.wandb import PHASES, NoTracker, Tracker, finished_elsewhere, mirror, mode, open_tracker

if TYPE_CHECKING:
    from al.learning.metrics import Evaluation
    from al.learning.network_learner import Learner
    from al.tracking.terminal import RunProgress
    from data_prep.datasets import DataSet
    from data_prep.embeddings import Embeddings
    from data_prep.first_labels import FirstLabels

EXIT_FAILED, EXIT_USAGE, EXIT_HELD = 1, 2, 3


@dataclass
class Run:
    """One run under way: what the loop works with."""

    config: RunConfig
    data: "DataSet"
    scope: NDArray[np.int64]
    """[S] training-set rows that may be labelled."""
    plan: Plan
    baseline: Row | None
    """Cell, accuracy and loss of the result to beat under stop=baseline."""
    learner: "Learner"
    state: RunState
    folder: RunFolder
    tracker: Tracker
    progress: "RunProgress"
    signals: StopSignals

    @property
    def classes(self) -> tuple[str, ...]:
        return self.data.train.classes

    @property
    def budget_left(self) -> int:
        return self.plan.budget - self.state.labelled.count

    @property
    def identity(self) -> Identity:
        return identity(self.config, self.data)


def acquisition_loop(run: Run) -> None:
    """Train, evaluate, and when a fit is over acquire labels, until the budget is spent and training has settled.

    An epoch is written down before the next begins, and its random numbers follow from its number: a run that is
    cut anywhere and started again ends as one that never was.
    """
    state = run.state
    while not state.finished:
        acquired = None
        with measuring() as seconds, phase("round"):
            row = train_and_evaluate(run)
            if beats(row["test"], run.baseline):
                state.finished = True
            elif fit_is_over(run):
                if run.budget_left:
                    acquired = acquire(run)
                else:
                    state.finished = True
        with run.signals.shielded():
            record(run, row, acquired, seconds)


def train_and_evaluate(run: Run) -> Row:
    """One epoch on the labelled images; returns its line for `epochs.jsonl` and keeps it where it is the best."""
    state, learner, config = run.state, run.learner, run.config
    run.progress.doing(f"round {state.round}/{run.plan.acquisitions}: training, epoch {state.epoch + 1}")
    lr = state.plateau.lr
    evaluations = {"train": learner.fit_epoch(state.labelled, state.epoch + 1, lr)}
    if held_out := len(state.labelled.val):
        evaluations["val"] = learner.evaluate_val(state.labelled)
    evaluations["test"] = learner.evaluate_test()
    loss = evaluations["val" if held_out else "train"].metrics["loss"]
    if not np.isfinite(sum(evaluation.metrics["loss"] for evaluation in evaluations.values())):
        raise FloatingPointError(f"lr={lr:g}: the loss is not finite in epoch {state.epoch + 1}; lower lr")
    state.epoch += 1
    state.fit_epoch += 1
    improved = state.plateau.step(
        loss, min_delta=config.min_delta, lr_factor=config.lr_factor, lr_patience=config.lr_patience
    )
    pool_size = len(run.scope) - state.labelled.count
    best = improved or beats(evaluations["test"].metrics, run.baseline)
    if best:
        state.stands = {name: evaluations["test"].metrics[name] for name in ("accuracy", "loss", "f1-score")}
    if best and (to_convergence(run) or run.baseline):
        keep_as_best(run, evaluations)
    truth = run.data.train.labels
    return epoch_row(state, evaluations, truth, run.classes, pool_size=pool_size, lr=lr, best=best)


def keep_as_best(run: Run, evaluations: "Mapping[str, Evaluation]") -> None:
    run.state.best = in_full(run.state.epoch, evaluations, run.classes)
    run.learner.remember_best()


def to_convergence(run: Run) -> bool:
    """Whether the present fit runs to early stopping: every fit, but in the study's schedule only the last."""
    return run.config.schedule == "converge" or not run.budget_left


def fit_is_over(run: Run) -> bool:
    """After one epoch, or where the fit runs to convergence after `patience` stale epochs or `max_epochs`."""
    if run.learner.converges_at_once or not to_convergence(run):
        return True
    epochs = run.state.epoch if run.config.schedule == "epoch" else run.state.fit_epoch
    return run.state.plateau.stale >= run.config.patience or epochs >= run.config.max_epochs


def beats(test: Row, baseline: Row | None) -> bool:
    """The study's stopping rule: higher test accuracy and lower test loss than the baseline's."""
    return baseline is not None and test["accuracy"] > baseline["accuracy"] and test["loss"] < baseline["loss"]


def acquire(run: Run) -> Row:
    """Scores the pool, selects, labels, and makes ready for the next fit; returns a line for `rounds.jsonl`."""
    state, learner, method = run.state, run.learner, run.config.method
    if to_convergence(run):
        learner.recall_best()
    scored = candidates(run.config, run.scope, state.labelled.mask, state.round + 1)
    labelled = state.labelled.mask[scored]
    run.progress.doing(f"round {state.round + 1}/{run.plan.acquisitions}: choosing from {(~labelled).sum():,} images")
    arrays = learner.score(scored, method.needs, state.round + 1)
    known = np.where(labelled, state.labelled.given[scored], -1)
    pool = Pool(labelled=labelled, classes=len(run.classes), labels=known, **arrays)
    options = {name: getattr(run.config, name) for name in method.options}
    with phase("select"):
        rng = seeds.rng(run.config.seed, state.round + 1, f"select/{run.config.split_seed}")
        picks = method.select(pool, run.plan.next_batch(state.labelled.count), rng, **options)
    rows = scored[picks.positions]
    predicted = None if pool.probs is None else pool.probs[picks.positions].argmax(1)
    state.round += 1
    label(run, rows, run.data.train.labels[rows])
    begin_fit(run)
    return round_row(state, rows, run.data.train.labels, run.classes, scores=picks.scores, predicted=predicted)


def label(run: Run, rows: NDArray[np.int64], labels: NDArray[np.int64]) -> None:
    """Takes labels in, and holds back as many for validation as keep `val_fraction` of all labels there.

    Of a frozen model's none: its fit has one optimum and nothing that stops early.
    """
    from data_prep.splits import check_disjoint, hold_out

    labelled = run.state.labelled
    if labelled.mask[rows].any():
        raise RuntimeError("a strategy picked an image that is labelled already")
    share = 0 if run.config.frozen else run.config.val_fraction
    held_out = round(share * (labelled.count + len(rows))) - len(labelled.val)
    rng = seeds.rng(run.config.split_seed, run.state.round, "validation")
    train, val = hold_out(labels, rows, max(held_out, 0), rng)
    labelled.given[rows] = labels
    labelled.train = np.concatenate([labelled.train, train])
    labelled.val = np.concatenate([labelled.val, val])
    check_disjoint(labelled.train, labelled.val, run.scope[~labelled.mask[run.scope]], len(labelled.given))


def begin_fit(run: Run) -> None:
    """The labelled set has changed, and validation with it: early stopping and the learning rate start over.

    Weights and optimiser carry over in the study's schedule; under schedule=converge the optimiser is fresh.
    """
    run.state.fit_epoch, run.state.best = 0, None
    run.state.plateau = Plateau(lr=run.config.lr)
    if run.config.schedule == "converge" and run.state.round:
        run.learner.restart(warm=run.config.warm_start)


def record(run: Run, row: Row, acquired: Row | None, seconds: dict[str, float]) -> None:
    """Writes down an epoch and the round it ended; the checkpoint makes them count. W&B mirrors what is written."""
    from al.tracking.plots import pick_sheet

    row["seconds"] = {name: seconds.get(name, 0.0) for name in PHASES}
    row["curve"] = run.state.stands if acquired is not None or run.state.finished else None
    sheet = None
    if acquired is not None:
        acquired["seconds"] = {name: row["seconds"][name] for name in ("score", "select", "cluster")}
        row["pick"] = pick_statistics(acquired, len(run.classes))
        run.folder.rounds.append(acquired)
        images = run.data.train.images[acquired["rows"]]
        name = f"plots/picks/round_{acquired['round']:03d}.png"
        sheet = pick_sheet(images, acquired, run.classes, run.folder.path / name)
    run.folder.epochs.append(row)
    run.state.seconds += row["seconds"]["round"]
    run.tracker.log_epoch(row, sheet)  # before the checkpoint: logged twice does no harm, lost rows would
    run.folder.save_checkpoint(run.state, run.learner, run.identity)
    run.progress.epoch(row, run.state.seconds, seconds_left(run.plan, run.config, run.state, row))


# What comes before the loop, and after it.


def start(config: RunConfig, signals: StopSignals, leader: Leader) -> None:
    """Checks everything that can be wrong, then runs; nothing is written before the checks have passed."""
    from al.tracking.terminal import RunProgress
    from data_prep.datasets import load_dataset
    from data_prep.embeddings import embeddings
    from data_prep.first_labels import first_labels, variant_and_scope

    mode()
    data = load_dataset(config.dataset, config.data_dir, config.image_size)
    folder = RunFolder.of(config)
    folder.check_identity(identity(config, data))
    folder.check_writable()
    if folder.complete:
        return already_complete(config, folder)
    variant, scope = variant_and_scope(config, data.train)
    plan = plan_of(config, len(variant), len(scope), len(data.train.classes))
    baseline = baseline_result(config, data)
    vectors = embeddings(config, data)
    first = first_labels(config, data, scope, plan.initial, plan.checks, vectors)
    learner = new_learner(config, data, vectors)
    with folder.held():
        if folder.complete:
            return already_complete(config, folder)
        leader.begin(config, data.fingerprint, learner)
        with RunProgress(f"{config.cell}, split seed {config.split_seed}", plan.acquisitions) as progress:
            state = RunState(Labelled.none(len(data.train.labels)))
            run = Run(config, data, scope, plan, baseline, learner, state, folder, NoTracker(), progress, signals)
            for note in config.without_effect():
                progress.say(f"note: {note} has no effect here")
            if not resume(run):
                begin(run, first)
            follow(run, first.source)
            carry_out(run)
    return None


def identity(config: RunConfig, data: "DataSet") -> Identity:
    return {"digest": config.digest(), "fingerprint": data.fingerprint, "sources": local_sources(config)}


def new_learner(config: RunConfig, data: "DataSet", vectors: "Embeddings | None") -> "Learner":
    from al.learning.linear_probe import FrozenLearner
    from al.learning.network_learner import Learner
    from al.runtime import resolve_runtime

    runtime = resolve_runtime(config.device, config.precision)
    known = (data.test.labels, len(data.train.classes), vectors and vectors.train)
    if config.frozen:
        return FrozenLearner(config, runtime, vectors.train, vectors.test, *known)
    return Learner(config, runtime, data.train.images, data.test.images, *known)


def learner_of(parameters: Row) -> "tuple[Learner, str]":
    """What a process that only scores needs of a run: the same learner, and the fingerprint of its images."""
    from data_prep.datasets import load_dataset

    config = RunConfig(**parameters)
    data = load_dataset(config.dataset, config.data_dir, config.image_size)
    return new_learner(config, data, None), data.fingerprint


def baseline_result(config: RunConfig, data: "DataSet") -> Row | None:
    """The stratified run of the same split seed that stop=baseline is to beat: run here, or known to W&B.

    Raises:
        UserError: it has not been run; names the command that does.
    """
    if config.stop != "baseline" or config.method.baseline:
        return None
    baseline = config.baseline_of()
    folder = RunFolder.of(baseline)
    folder.check_identity(identity(baseline, data))
    test = (
        folder.read_json(COMPLETE)["test_metrics"]
        if folder.complete
        else finished_elsewhere(baseline, data.fingerprint)
    )
    if test is None:
        raise UserError(f"stop=baseline: no result in {folder.path}; make it with: {baseline.command()}")
    return {"cell": baseline.cell, "accuracy": test["accuracy"], "loss": test["loss"]}


def begin(run: Run, first: "FirstLabels") -> None:
    """Labels the initial pool of a run that starts from nothing."""
    run.folder.epochs.keep(0)
    run.folder.rounds.keep(0)
    label(run, first.rows, first.labels)
    run.state.labelled.free = first.free
    begin_fit(run)
    truth = run.data.train.labels
    row = round_row(run.state, first.rows, truth, run.classes, scores=first.confidence, predicted=first.guesses)
    run.folder.rounds.append(row)


def resume(run: Run) -> bool:
    """Goes back to the checkpoint of an earlier attempt; False where there is none that can be used."""
    try:
        state = run.folder.load_checkpoint(run.learner, run.identity)
    except CorruptCheckpoint as aside:
        run.progress.say(f"the checkpoint cannot be read: it is set aside as {aside}, and the run starts again")
        return False
    if state is None:
        return False
    run.state = state
    run.folder.epochs.keep(state.epoch)
    run.folder.rounds.keep(state.round + 1)
    run.progress.say(f"goes on after epoch {state.epoch}, with {state.labelled.count} labels")
    return True


def follow(run: Run, zero_shot: dict[str, str] | None) -> None:
    """Opens W&B, where asked, and writes down what identifies this run."""
    known = run.folder.read_json("config.json") if run.state.epoch else None
    rows = run.folder.epochs.rows()
    run_id = known and known["wandb_run_id"]
    run.tracker = open_tracker(run.config, run.data.fingerprint, run_id, rows, run.progress.say)
    write_json(
        run.folder.path / "config.json",
        {
            "config": run.config.model_dump(mode="json"),
            "digest": run.config.digest(),
            "cell": run.config.cell,
            "data": described(run.data),
            "sources": run.identity["sources"],
            "zero_shot": zero_shot,
            "wandb_run_id": run.tracker.run_id,
        },
    )


def described(data: "DataSet") -> Row:
    """What tells one data set from another, in the result files."""
    train, test = len(data.train.labels), len(data.test.labels)
    classes = list(data.train.classes)
    return {"name": data.name, "fingerprint": data.fingerprint, "train": train, "test": test, "classes": classes}


def carry_out(run: Run) -> None:
    """The loop and the results, with an end on W&B that tells how it went."""
    exit_code = EXIT_FAILED
    try:
        acquisition_loop(run)
        finish(run)
        exit_code = 0
    except StopRequested as stop:
        exit_code = stop.exit_code
        if stop.preempted:
            run.tracker.preempting()
        raise
    finally:
        run.tracker.finish(exit_code)


def finish(run: Run) -> None:
    """Writes the results; `performance_metrics.json` comes last and makes the run complete."""
    from al.tracking.plots import plot_run

    folder, best = run.folder, run.state.best
    run.progress.doing("writing results")
    epochs, rounds = folder.epochs.rows(), folder.rounds.rows()
    run.learner.save_best(folder.path / "best_model.safetensors")
    write_json(folder.path / "al_tracking.json", al_tracking(run.config, rounds, run.plan.budget, run.plan.batch))
    title = f"{run.config.cell}, split seed {run.config.split_seed}"
    plots = plot_run(epochs, best, run.classes, title, folder.path / "plots")
    result = performance_metrics(run.config, epochs, rounds, best, facts(run))
    write_json(folder.path / COMPLETE, result)
    folder.checkpoint_path.unlink(missing_ok=True)
    write_aggregate(folder.path)
    run.tracker.log_end(result, run.classes, plots)
    run.progress.summary(result, folder.path, run.tracker.url)


def facts(run: Run) -> Row:
    """What of the result is known to the loop alone."""
    baseline, runtime = run.baseline, run.learner.runtime
    counts = label_counts(run.state.labelled, run.data.train.labels, run.classes)
    return {
        "labels_used": counts["labels"],
        "human_labels_used": counts["human_labels"],
        "wrong_labels_used": counts["wrong_labels"],
        "wrong_labels_by_class": counts["wrong_labels_by_class"],
        "reached_baseline": None if baseline is None else beats(run.state.best["test_metrics"], baseline),
        "baseline": baseline,
        "data": described(run.data),
        "environment": environment(runtime.name, runtime.precision, runtime.threads),
    }


def already_complete(config: RunConfig, folder: RunFolder) -> None:
    """Says so, and mirrors the run to W&B where a server is asked for."""
    print(f"complete already: {folder.path}; remove the folder to run it again")
    folder.checkpoint_path.unlink(missing_ok=True)
    refresh_aggregate(folder.path)
    if mode() == "online":
        mirror(config, folder)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    if is_worker():
        return serve(learner_of)
    try:
        with leading() as leader:
            config = read_parameters(sys.argv[1:] if arguments is None else arguments, __doc__)
            start(config, StopSignals().install(), leader)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except (FloatingPointError, LostProcess) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    except HeldElsewhere as error:
        print(f"error: {error}; it is left to that process", file=sys.stderr)
        return EXIT_HELD
    except StopRequested as stop:
        print(f"stopped by {stop}: give the same command again to go on", file=sys.stderr)
        return stop.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
