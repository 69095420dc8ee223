#!/usr/bin/env python3
"""One run of active learning: train on what is labelled, score the pool, select, label, repeat.

    python train.py --strategy=margin --variant=balanced_1 --split_seed=12
    torchrun --standalone --nproc-per-node=4 train.py ...    the same run, its pool scored by four GPUs or processes

Every parameter can be given on the command line or by a W&B sweep; a sweep's values win. The files of the run
go to <results_dir>/<cell>/split_seed_<s>/ and to W&B as WANDB_MODE says. A run that was cut short goes on where
it stopped when the same command is given again; one that is complete is not run twice.
"""

import sys
from collections.abc import Sequence

if __name__ == "__main__":  # before the imports, which take a second, and before torch is loaded
    from al import signals, threads

    signals.leave_on_signals()
    threads.sleep_while_waiting()

from al import seeds
from al.before_run import already_complete, baseline_to_beat, checked_folder
from al.budget import budget_of
from al.config import RunConfig
from al.distributed import Leader, LostProcess, is_worker, leading, serve
from al.errors import EXIT_FAILED, EXIT_HELD, EXIT_USAGE, FullDevice, HeldElsewhere, NoRoom, UserError, full_device_told
from al.learning.learner import new_learner
from al.options import read_parameters
from al.records import RoundRecord
from al.run import Run
from al.signals import StopRequested, StopSignals
from al.stopwatch import phase
from al.strategies import Pool
from data_prep.datasets import load_dataset
from data_prep.embeddings import load_embeddings
from data_prep.first_labels import first_labels, variant_and_pool
from data_prep.inputs import checked_data


def run_once(config: RunConfig, signals: StopSignals, leader: Leader) -> None:
    """Check everything that can be wrong; then open the run, loop, and write the results."""
    data = checked_data(config)
    folder = checked_folder(config, data)
    if folder.complete:
        return already_complete(config, folder)

    variant, pool = variant_and_pool(config, data.train)  # rows of the training set
    budget = budget_of(config, len(variant), len(pool), len(data.train.classes))
    baseline = baseline_to_beat(config, data.fingerprint)
    embeddings = load_embeddings(config, data)
    first = first_labels(config, data, pool, budget.initial, budget.checks, embeddings)
    learner = new_learner(config, data, embeddings, scratch=folder.path)

    with folder.locked():
        if folder.complete:  # another process has completed it meanwhile
            return already_complete(config, folder)
        leader.begin(config, data.fingerprint, learner)
        with Run(config, data, pool, budget, learner, baseline=baseline, signals=signals) as run:
            if not run.resume():
                run.begin(first, embeddings)
            run.start_tracking(first)
            while not run.finished:
                run.judge(fit_and_evaluate(run))  # the best epoch of its fit? does the learning rate fall?
                query = None
                if run.fit_is_over and run.budget_left and not run.beats_baseline:
                    query = query_labels(run)
                elif run.fit_is_over or run.beats_baseline:
                    run.finish()
                run.commit(query)  # on disk before the next epoch begins
            run.write_results()
    return None


def fit_and_evaluate(run: Run) -> dict:
    """One epoch on the labelled images, and what it made of the model."""
    run.progress.doing(f"round {run.round}/{run.budget.rounds}: training, epoch {run.epoch}")
    evaluations = {}
    with phase("train"):
        evaluations["train"] = run.learner.fit_epoch(run.labelled, run.epoch, run.lr)
    with phase("evaluate"):
        if len(run.labelled.val):
            evaluations["val"] = run.learner.evaluate_val(run.labelled)
        evaluations["test"] = run.learner.evaluate_test()
    return evaluations


def query_labels(run: Run) -> RoundRecord:
    """Score the pool once, select, label. The strategy sees arrays; the run knows which images they are of."""
    config, number = run.config, run.round + 1
    strategy = config.method.in_round(number)
    if run.to_convergence:
        run.learner.recall_best()
    rows = run.candidates()  # [n] rows of the training set
    labelled = run.labelled.mask[rows]
    run.progress.doing(f"round {number}/{run.budget.rounds}: choosing from {(~labelled).sum():,} images")
    with phase("score"):
        arrays = run.learner.score(rows, strategy.needs, number)
    pool = Pool(labelled=labelled, classes=len(run.classes), labels=run.labelled.assigned_labels[rows], **arrays)
    with phase("select"):
        rng = seeds.rng(config.seed, number, f"select/{config.split_seed}")
        picks = strategy.select(pool, run.next_batch, rng, **config.options_of(strategy))
    predicted = None if pool.probs is None else pool.probs[picks.positions].argmax(1)
    return run.label(rows[picks.positions], picks.scores, predicted)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    if is_worker():  # of another process, under torchrun
        return serve(load_dataset)
    try:
        with leading() as leader, full_device_told():
            config = read_parameters(sys.argv[1:] if arguments is None else arguments, __doc__)
            run_once(config, StopSignals().install(), leader)
        return 0
    except UserError as error:
        code, said = EXIT_USAGE, f"error: {error}"
    except (FloatingPointError, FullDevice, LostProcess, NoRoom) as error:
        code, said = EXIT_FAILED, f"error: {error}"
    except HeldElsewhere as error:
        code, said = EXIT_HELD, f"error: {error}; it is left to that process"
    except StopRequested as stop:
        code, said = stop.exit_code, f"stopped by {stop}: give the same command again to go on"
    print(said, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
