"""Weights & Biases: a projection of the run's own lines, and what its server is asked. A run's only import of wandb.

What it shows of a record, and under which name, is in `projection`; of a run before its first epoch, in `description`.
"""

import contextlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from al.errors import UserError, first_line
from al.identity import Identity
from al.records import EpochRecord, RunResult
from al.tracking.description import Description, id_of_run
from al.tracking.projection import (
    CONFUSION,
    EPOCH,
    LABELS,
    PICK_SHEET,
    PICKS,
    TEST_ACCURACY,
    TEST_LOSS,
    curve_summary,
    epoch_metrics,
    pairs,
    summary_of,
)
from al.tracking.server import Unreachable, base_url, check_server, keep_files_in, mode, project
from al.tracking.tracker import NoTracker, Tracker

if TYPE_CHECKING:
    from al.config import RunConfig

PICTURED = 10
"""Picks of a round that have their image in the table; each image is a file of its own."""
ALERTS = "ACTIVE_LEARNING_ALERTS"
"""Environment variable: 1 has W&B send a message when the baseline is beaten and when a run fails."""
ARTIFACT_TIMEOUT = 120
"""Seconds that the end of a run waits for its model and its labels to arrive, besides what it waits for the rest."""
NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]")
"""What W&B does not take in an artifact's name."""
FAILED = 1
"""Exit status of a run that failed, not one that was stopped."""
INIT_TIMEOUT = 30.0
"""Seconds that the start of a run waits for a server that has said who is asking."""


def open_tracker(
    config: "RunConfig",
    fingerprint: str,
    run_id: str | None,
    records: Sequence[EpochRecord],
    say: Callable[[str], None],
) -> Tracker:
    """Follows the run on W&B as `WANDB_MODE` says, and catches up on `records`, the epochs done before.

    Args:
        config: its cell becomes the group, its strategy the job type.
        fingerprint: of the images.
        run_id: W&B's id of the run; None for a new one.
        say: prints one line.
    """
    chosen = mode()
    if chosen == "disabled":
        return NoTracker()
    return WandbTracker(Description.of(config, fingerprint), run_id or id_of_run(None), records, chosen, say)


@dataclass(frozen=True)
class ServerState:
    """How a run ended on the server, and how many epochs its summary counts."""

    state: str
    epochs: int | None

    def has_all_of(self, result: RunResult) -> bool:
        return self.state == "finished" and self.epochs == result.total_epochs


def states_on_server(run_ids: Sequence[str]) -> dict[str, ServerState]:
    """What the server has of these runs of the project, by id.

    Raises:
        UserError: it does not say.
    """
    import wandb

    try:
        api = wandb.Api(timeout=30)
        path = f"{os.environ.get('WANDB_ENTITY') or api.default_entity}/{project()}"
        found = {}
        for start in range(0, len(run_ids), 100):
            listed = api.runs(path, filters={"name": {"$in": list(run_ids[start : start + 100])}}, per_page=100)
            found |= {run.id: ServerState(str(run.state).lower(), run.summary.get("total_epochs")) for run in listed}
        return found
    except Exception as error:  # the library raises its own errors, requests' and bare ValueError
        if "could not find project" in str(error).lower():
            return {}
        raise UserError(
            f"W&B: cannot list the runs of {project()} at {base_url()} ({first_line(error)}); check WANDB_PROJECT, "
            "WANDB_ENTITY and the network"
        ) from None


def finished_elsewhere(config: "RunConfig", fingerprint: str) -> dict[str, float] | None:
    """Test accuracy (percent) and loss of this very run as another machine finished it and W&B has it, or None.

    Args:
        fingerprint: of the images it must have seen.
    """
    if mode() != "online":
        return None
    keep_files_in(config.results_dir)
    import wandb

    identity = Identity.of(config, fingerprint)
    try:
        check_server()
        api = wandb.Api(timeout=30)
        entity = os.environ.get("WANDB_ENTITY") or api.default_entity
        filters = {"config.digest": identity.digest, "state": "finished"}
        for run in api.runs(f"{entity}/{project()}", filters=filters):
            known = {name: run.config.get(name) for name in ("digest", "fingerprint")}
            same = identity.differs(Identity(**known, sources=run.config.get("sources") or {})) is None
            if same and run.state == "finished" and TEST_LOSS in run.summary:
                return {"accuracy": run.summary[TEST_ACCURACY], "loss": run.summary[TEST_LOSS]}
    except (wandb.errors.Error, ValueError, OSError, Unreachable):
        return None  # no such project yet, or no answer: the caller says what is missing
    return None


def log_report(
    results_dir: str | Path, name: str, job_type: str, tables: dict[str, list[dict]], pictures: list[Path]
) -> None:
    """Tables and pictures that belong to no run of the loop, as a W&B run of their own."""
    import wandb

    keep_files_in(results_dir)
    settings = wandb.Settings(silent=True, console="off", disable_code=True)
    with wandb.init(project=project(), mode=mode(), name=name, job_type=job_type, settings=settings) as run:
        for key, rows in tables.items():
            columns = list(rows[0])
            cells = [[row.get(column) for column in columns] for row in rows]
            run.log({f"{job_type}/{key}": wandb.Table(columns=columns, data=cells)})
        run.log({f"{job_type}/{picture.stem}_plot": wandb.Image(str(picture)) for picture in pictures})


@dataclass(frozen=True)
class LabellingRound:
    """What W&B shows of one round of labelling one's own images."""

    folder: Path
    """Gets W&B's files."""
    name: str
    """Of the folder of images: rounds of one name are a group."""
    number: int
    parameters: Mapping[str, Any]
    row: Mapping[str, float]
    labels: Path
    """File of all labels so far."""
    proposal: Sequence[Path]
    """Files of what was proposed."""


def log_labelling_round(about: LabellingRound, say: Callable[[str], None]) -> None:
    """One run of one row for a round; its labels and its proposal are artifacts, and it uses the proposal before.

    What goes wrong on W&B's side is said, and never ends the labelling.
    """
    chosen = mode()
    if chosen == "disabled":
        return
    keep_files_in(about.folder)
    try:
        if chosen == "online":
            check_server()
        _log_labelling_round(about, chosen)
    except Exception as error:  # the library raises its own errors, requests' and the system's
        say(f"W&B does not listen ({first_line(error)}): the round is in {about.folder} all the same")


def _log_labelling_round(about: LabellingRound, chosen: str) -> None:
    import wandb

    settings = wandb.Settings(silent=True, console="off", disable_code=True, init_timeout=INIT_TIMEOUT)
    known = {"project": project(), "mode": chosen, "group": about.name, "job_type": "propose", "settings": settings}
    name = NOT_IN_NAMES.sub("_", about.name)
    with wandb.init(**known, name=f"{about.name}-round-{about.number}", config=dict(about.parameters)) as run:
        run.define_metric(LABELS)
        run.define_metric("audit/*", step_metric=LABELS)
        if about.number and not run.offline:  # the labels of this round came by the proposal before it
            with contextlib.suppress(wandb.errors.CommError, ValueError):
                run.use_artifact(f"{name}-proposal:round-{about.number - 1}")
        for kind, files in (("labels", [about.labels]), ("proposal", about.proposal)):
            artifact = wandb.Artifact(f"{name}-{kind}", "dataset", metadata={"round": about.number, **about.row})
            for file in files:
                if file.is_file():
                    artifact.add_file(str(file), policy="immutable", skip_cache=True)
            run.log_artifact(artifact, aliases=["latest", f"round-{about.number}"])
        run.log(dict(about.row), step=about.number, commit=True)


class WandbTracker:
    """A W&B run. What goes wrong on W&B's side is said once and never ends the training."""

    def __init__(
        self,
        description: Description,
        run_id: str,
        records: Sequence[EpochRecord],
        chosen: str,
        say: Callable[[str], None],
        *,
        or_offline: bool = True,
    ):
        self._say, self._broken, self._as_it_goes = say, False, or_offline
        self._description, self.run_id = description, run_id
        keep_files_in(description.results_dir)
        self._run = self._begin(chosen, or_offline)
        self.url = self._run.url if not self._run.offline else None
        self._run.define_metric(EPOCH)
        self._run.define_metric(LABELS)
        for metric in ("train/*", "val/*", "test/*", "class/*", "labels_by_class/*", "seconds/*"):
            self._run.define_metric(metric, step_metric=EPOCH)
        self._run.define_metric("curve/*", step_metric=LABELS)
        # offline, the rows done before are in the fragment of their own attempt; a server says what it has
        if not self._run.offline:
            for record in records:
                if record.epoch >= self._run.starting_step:
                    self.log_epoch(record, self._sheet_of(record))

    @property
    def arrived(self) -> bool:
        """After `finish`: whether the server has taken everything."""
        return not self._broken and not self._run.offline

    def _begin(self, chosen: str, or_offline: bool):
        """The W&B run: online where the server answers, and offline otherwise if that will do."""
        import wandb

        if chosen == "online":
            try:
                check_server()
                return self._init("online")
            except wandb.errors.AuthenticationError as error:
                raise UserError(
                    f"W&B does not accept the API key ({first_line(error)}); run `wandb login --relogin`, set "
                    "WANDB_API_KEY or WANDB_MODE=offline"
                ) from None
            except (wandb.errors.Error, Unreachable) as error:
                if not or_offline:
                    raise Unreachable(first_line(error)) from None
                self._say(f"W&B cannot be reached ({first_line(error)}): logging offline, `make sync` sends it later")
                wandb.teardown()  # what is left of the attempt still has the run's id
        return self._init("offline")

    def _init(self, chosen: str):
        import wandb

        about = self._description
        return wandb.init(
            mode=chosen,
            project=project(),
            id=self.run_id,
            resume="allow",
            group=about.cell,
            job_type=about.parameters["strategy"],
            name=f"{about.cell}-{about.parameters['split_seed']}",
            tags=list(dict.fromkeys([about.parameters["dataset"], about.parameters["variant"], *about.tags])),
            config=about.config,
            settings=wandb.Settings(
                silent=True,
                console="wrap" if self._as_it_goes else "off",
                disable_code=True,
                init_timeout=INIT_TIMEOUT,
                finish_timeout_raises=True,
            ),
        )

    def _sheet_of(self, record: EpochRecord) -> Path | None:
        """The picture of the query that ended an epoch of an earlier attempt."""
        path = self._description.folder.path / f"plots/picks/round_{record.round + 1:03d}.png"
        return path if record.pick and path.is_file() else None

    def log_epoch(self, record: EpochRecord, sheet: Path | None = None) -> None:
        def log():
            metrics = epoch_metrics(record)
            if sheet is not None:
                import wandb

                metrics[PICK_SHEET] = wandb.Image(str(sheet), caption=f"round {record.round + 1}")
            # without commit the row waits for the next one, and a kill in between loses it
            self._run.log(metrics, step=record.epoch, commit=True)

        self._safely(log)

    def log_end(self, result: RunResult, classes: Sequence[str], plots: list[Path]) -> None:
        """The summary takes the best epoch's metrics, which a sweep's metric is read from.

        The table of picks and the artifacts go to a server only: offline they would be thousands of files, and
        `make sync` makes them from the run's own.
        """

        def log():
            import wandb

            true, predicted = pairs(result.best.splits["test"].confusion_matrix)
            chart = wandb.plot.confusion_matrix(y_true=true, preds=predicted, class_names=list(classes))
            images = {f"plots/{plot.stem}": wandb.Image(str(plot)) for plot in plots}
            self._run.log({CONFUSION: chart} | images, step=result.total_epochs + 1)
            self._run.summary.update(summary_of(result) | curve_summary(self._description.folder.epochs.read()))
            if not self._run.offline:
                self._run.log({PICKS: self._table_of_picks(classes)}, step=result.total_epochs + 2)
            if result.reached_baseline:
                self._alert("Baseline beaten", f"with {result.labels_used} labels, {result.test['accuracy']:.2f} %")

        self._safely(log)
        if not self._run.offline:
            self._safely(lambda: self._log_artifacts(result))

    def _table_of_picks(self, classes: Sequence[str]):
        import wandb

        from al.tracking.plots import sheet_tiles

        table = wandb.Table(columns=["image", "path", "round", "rank", "score", "true", "predicted", "row"])
        for query in self._description.folder.rounds.read():
            sheet = self._description.folder.path / f"plots/picks/round_{query.round:03d}.png"
            tiles = sheet_tiles(sheet, min(PICTURED, len(query.rows))) if sheet.is_file() else []
            for rank, row in enumerate(query.rows):
                image = wandb.Image(tiles[rank]) if rank < len(tiles) else None
                path = query.paths[rank] if query.paths else ""
                predicted = query.predicted[rank] if query.predicted else None
                named = classes[query.true[rank]], None if predicted is None else classes[predicted]
                table.add_data(image, path, query.round, rank + 1, query.scores[rank], *named, row)
        return table

    def _log_artifacts(self, result: RunResult) -> None:
        """The final model and the labelled set, as versions of the configuration's; WANDB_LOG_MODEL=false: no model."""
        import wandb

        about = self._description
        name = f"{about.cell}-{about.parameters['split_seed']}"
        known = {"digest": about.digest, "labels": result.labels_used, "best_epoch": result.best.epoch, **result.test}
        wanted = {"labels": ("dataset", ["rounds.jsonl", "al_tracking.json"])}
        if os.environ.get("WANDB_LOG_MODEL", "").lower() not in ("false", "0", "no"):
            wanted["model"] = ("model", ["best_model.safetensors"])
        logged = []
        for kind, (type_, files) in wanted.items():
            artifact = wandb.Artifact(NOT_IN_NAMES.sub("_", f"{name}-{kind}"), type_, metadata=known)
            for file in files:
                if (about.folder.path / file).is_file():
                    artifact.add_file(str(about.folder.path / file), policy="immutable", skip_cache=True)
            logged.append(self._run.log_artifact(artifact))
        for artifact in logged:
            with contextlib.suppress(Exception):  # what is late, or cannot be asked for, may still come with the rest
                artifact.wait(ARTIFACT_TIMEOUT)

    def _alert(self, title: str, text: str) -> None:
        if os.environ.get(ALERTS) == "1" and self._as_it_goes and not self._run.offline:
            about = self._description
            self._run.alert(f"{title}: {about.cell}, split seed {about.parameters['split_seed']}", text)

    def preempting(self) -> None:
        self._safely(self._run.mark_preempting)

    def finish(self, exit_code: int) -> None:
        if exit_code == FAILED:
            self._safely(lambda: self._alert("Run failed", "its output says why"))
        self._safely(lambda: self._run.finish(exit_code=exit_code), again=True)

    def _safely(self, action: Callable[[], Any], *, again: bool = False) -> None:
        """Says what goes wrong, once, and leaves W&B alone from then on, but for what is tried `again`."""
        if self._broken and not again:
            return
        try:
            action()
        except Exception as error:
            if not self._broken:
                self._say(f"W&B does not listen ({first_line(error)}): the run's own files have it all for `make sync`")
            self._broken = True
