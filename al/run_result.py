"""What a run that is over found and what it cost: its record, put together from those of its epochs and rounds."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from al.identity import sha256
from al.records import PHASES, DataDescription, EpochRecord, LabelCounts, RoundRecord, RunResult, bought_again
from al.storage.result_files import environment, peak_memory_mb
from al.storage.run_folder import BESIDE

if TYPE_CHECKING:
    from al.run import Run


def run_result(
    run: "Run",
    epochs: Sequence[EpochRecord],
    rounds: Sequence[RoundRecord],
    last: Mapping[str, float],
    counts: LabelCounts,
    not_repeatable: Sequence[str] | None,
) -> RunResult:
    """The record of a run whose other files are written.

    Args:
        last: seconds by phase since the last epoch.
        counts: of the labels at the end.
        not_repeatable: operations without a deterministic kernel; None: not known.
    """
    best, runtime = run.state.best, run.learner.runtime
    seconds = {name: last[name] + sum(epoch.seconds.get(name, 0.0) for epoch in epochs) for name in PHASES}
    return RunResult(
        best=best,
        initial_labels_bought_again=bought_again(rounds),
        training_time_seconds=seconds["round"],
        total_epochs=len(epochs),
        seconds=seconds,
        peak_memory_mb=peak_memory_mb(),
        config=run.config.model_dump(mode="json"),
        digest=run.identity.digest,
        labels_used=counts.labels,
        human_labels_used=counts.human_labels,
        wrong_labels_used=counts.wrong_labels,
        wrong_labels_by_class=counts.wrong_labels_by_class,
        reached_baseline=run.baseline and run.baseline.beaten_by(best.splits["test"].scores),
        baseline=run.baseline,
        data=DataDescription.of(run.data),
        environment=environment(runtime.name, runtime.precision, runtime.threads, not_repeatable),
        files={name: sha256(run.folder.path / name) for name in BESIDE},
    )
