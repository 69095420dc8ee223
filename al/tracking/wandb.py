"""Weights & Biases: a projection of the run's own lines. The only import of wandb in a run.

Metric names are constants here, for sweeps, reports and dashboards to take.
"""

import configparser
import contextlib
import netrc
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlparse

import yaml

from al.errors import UserError, first_line
from al.records import CURVE_METRICS, METRICS, PHASES, SPLITS, EpochRecord, RunResult
from al.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from al.config import RunConfig

EPOCH, ROUND, LABELS, HUMAN_LABELS = "epoch", "round", "labels", "human_labels"
WRONG_LABELS, LR, BEST = "wrong_labels", "lr", "best"
CURVE_ACCURACY, CURVE_LOSS, CURVE_F1 = "curve/accuracy", "curve/loss", "curve/f1"
"""Test metrics at the end of a fit, of its best epoch: one point of the learning curve for each label count."""
TEST_ACCURACY, TEST_LOSS, TEST_F1 = "test/accuracy", "test/loss", "test/f1"
CLASS_METRICS = {"precision": "precision", "recall": "recall", "f1": "f1-score", "accuracy": "accuracy"}
SUMMARY = (
    "labels_used",
    "human_labels_used",
    "wrong_labels_used",
    "training_time_seconds",
    "total_epochs",
    "reached_baseline",
    "peak_memory_mb",
)
PICK_SHEET = "pick/sheet"
CONFUSION = "confusion/test"
SWEEP_PARAMETERS = "WANDB_SWEEP_PARAM_PATH"
NO_DOTS = str.maketrans({".": "_", "/": "_"})  # W&B reads a dot as nesting and a slash as a section


def under_sweep() -> bool:
    """Whether an agent, or the local runner in its place, started this process."""
    return SWEEP_PARAMETERS in os.environ or "WANDB_SWEEP_ID" in os.environ


def sweep_parameters() -> dict[str, Any]:
    """The parameters that a sweep set for this run: the same file that `wandb.init` puts into `run.config`.

    Raises:
        UserError: the file is missing or is not {name: {value: ...}}.
    """
    path = os.environ.get(SWEEP_PARAMETERS)
    if not path:
        return {}
    try:
        entries = yaml.safe_load(Path(path).read_text()) or {}
        own = {"wandb_version", "_wandb"}  # what the agent adds, the second to the parameters of a resumed run
        return {name: entry["value"] for name, entry in entries.items() if name not in own}
    except (OSError, yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{SWEEP_PARAMETERS}={path}: not a sweep's parameters ({reason}); unset it") from None


def epoch_metrics(record: EpochRecord) -> dict[str, float]:
    """One line of `epochs.jsonl` as the flat names that W&B shows."""
    shown = {name: getattr(record, name) for name in (EPOCH, ROUND, LABELS, HUMAN_LABELS, WRONG_LABELS, LR)}
    for split in SPLITS:
        shown |= {f"{split}/{METRICS[name].key}": value for name, value in record.scores(split).items()}
    for name, values in record.per_class.items():
        label = name.translate(NO_DOTS)
        shown |= {f"class/{label}/{metric}": values[key] for metric, key in CLASS_METRICS.items()}
        shown[f"labels_by_class/{label}"] = record.labels_by_class[name]
        if record.free_labels:
            shown[f"wrong_labels_by_class/{label}"] = record.wrong_labels_by_class[name]
    shown |= {f"seconds/{name}": record.seconds.get(name, 0.0) for name in PHASES}
    if record.pick:
        shown |= {f"pick/{name}": value for name, value in record.pick if value is not None}
    if record.curve:
        shown |= {f"curve/{METRICS[name].key}": record.curve[name] for name in CURVE_METRICS}
    return shown | {BEST: record.best}


def summary_of(result: RunResult) -> dict[str, object]:
    """W&B's summary of a complete run: its best epoch's test metrics, and its costs."""
    shown: dict[str, object] = {f"test/{METRICS[name].key}": value for name, value in result.test.items()}
    known = {name: value for name in SUMMARY if (value := getattr(result, name)) is not None}
    return shown | known | {"best_epoch": result.best.epoch, "data": result.data.model_dump()}


class Tracker(Protocol):
    """What the loop tells whoever follows the run."""

    run_id: str
    url: str | None

    def log_epoch(self, record: EpochRecord, sheet: Path | None = None) -> None: ...

    def log_end(self, result: RunResult, classes: Sequence[str], plots: list[Path]) -> None: ...

    def preempting(self) -> None: ...

    def finish(self, exit_code: int) -> None: ...


class NoTracker:
    """W&B switched off: WANDB_MODE=disabled."""

    run_id, url = "", None

    def log_epoch(self, record: EpochRecord, sheet: Path | None = None) -> None:
        pass

    def log_end(self, result: RunResult, classes: Sequence[str], plots: list[Path]) -> None:
        pass

    def preempting(self) -> None:
        pass

    def finish(self, exit_code: int) -> None:
        pass


def mode() -> str:
    """`WANDB_MODE`; where it is unset, online with an API key or under an agent, and offline otherwise.

    Raises:
        UserError: not a mode, or online without a key.
    """
    chosen = os.environ.get("WANDB_MODE") or ("online" if _has_key() or "WANDB_SWEEP_ID" in os.environ else "offline")
    known = {"online": "online", "shared": "online", "offline": "offline", "dryrun": "offline", "disabled": "disabled"}
    if chosen not in known:
        raise UserError(f"WANDB_MODE={chosen}: not a mode of W&B; use online, offline or disabled")
    if known[chosen] == "online" and not _has_key():
        raise UserError(f"WANDB_MODE={chosen}: no API key; run `wandb login`, set WANDB_API_KEY, or WANDB_MODE=offline")
    return known[chosen]


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlparse(_base_url()).hostname or ""
    for path in (os.environ.get("NETRC"), "~/.netrc", "~/_netrc"):
        try:
            if path and netrc.netrc(Path(path).expanduser()).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def _base_url() -> str:
    """The server: `WANDB_BASE_URL`, or what `wandb login --host` wrote down."""
    if url := os.environ.get("WANDB_BASE_URL"):
        return url
    settings = configparser.ConfigParser()
    folder = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
    with contextlib.suppress(configparser.Error, OSError):
        settings.read([folder / "settings", Path("wandb") / "settings"])
    return settings.get("default", "base_url", fallback="https://api.wandb.ai")


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
        run_id: W&B's id of the run when it was started first, None for a new one.
        say: prints one line.
    """
    chosen = mode()
    if chosen == "disabled":
        return NoTracker()
    known = config.model_dump(mode="json")
    known |= {"digest": config.digest(), "cell": config.cell, "fingerprint": fingerprint}
    return WandbTracker(config, known, os.environ.get("WANDB_RUN_ID") or run_id, records, chosen, say)


def mirror(config: "RunConfig", folder: RunFolder) -> None:
    """Shows a run that is complete on W&B, as far as the server does not have it."""
    known = folder.read_json("config.json")
    fingerprint = known["data"]["fingerprint"]
    tracker = open_tracker(config, fingerprint, known["wandb_run_id"], folder.epochs.read(), print)
    plots = sorted((folder.path / "plots").glob("*.png"))
    tracker.log_end(folder.result(), known["data"]["classes"], plots)
    tracker.finish(0)


def finished_elsewhere(config: "RunConfig", fingerprint: str) -> dict[str, float] | None:
    """Test accuracy (percent) and loss of this very run as another machine finished it and W&B has it, or None.

    Args:
        fingerprint: of the images it must have seen.
    """
    if mode() != "online":
        return None
    import wandb

    try:
        api = wandb.Api()
        entity = os.environ.get("WANDB_ENTITY") or api.default_entity
        filters = {"config.digest": config.digest(), "state": "finished"}
        for run in api.runs(f"{entity}/{project()}", filters=filters):
            same = run.config.get("digest") == config.digest() and run.config.get("fingerprint") == fingerprint
            if same and run.state == "finished" and TEST_LOSS in run.summary:
                return {"accuracy": run.summary[TEST_ACCURACY], "loss": run.summary[TEST_LOSS]}
    except (wandb.errors.Error, ValueError, OSError):
        return None  # no such project yet, or no answer: the caller says what is missing
    return None


def log_report(
    results_dir: str | Path, name: str, job_type: str, tables: dict[str, list[dict]], pictures: list[Path]
) -> None:
    """Tables and pictures that belong to no run of the loop, as a W&B run of their own."""
    import wandb

    _keep_files_in(results_dir)
    settings = wandb.Settings(silent=True, console="off", disable_code=True)
    with wandb.init(project=project(), mode=mode(), name=name, job_type=job_type, settings=settings) as run:
        for key, rows in tables.items():
            columns = list(rows[0])
            cells = [[row.get(column) for column in columns] for row in rows]
            run.log({f"{job_type}/{key}": wandb.Table(columns=columns, data=cells)})
        run.log({f"{job_type}/{picture.stem}_plot": wandb.Image(str(picture)) for picture in pictures})


def project() -> str:
    return os.environ.get("WANDB_PROJECT") or "active-learning"


def _keep_files_in(results_dir: str | Path) -> None:
    """W&B's files lie with the results, unless the user said where; what a sync needs is then in one place."""
    folder = Path(results_dir).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("WANDB_DIR", str(folder))
    os.environ.setdefault("WANDB_DATA_DIR", str(folder / "wandb" / "data"))
    os.environ.setdefault("WANDB_CACHE_DIR", str(folder / "wandb" / "cache"))
    os.environ.setdefault("WANDB__TRANSACTION_LOG_FLUSH_INTERVAL", "1")  # a kill loses a second of rows, not 15
    os.environ.setdefault(
        "WANDB_FINISH_TIMEOUT", "120"
    )  # seconds that the end of a run waits for a server that is gone


class WandbTracker:
    """A W&B run. What goes wrong on W&B's side is said once and never ends the training."""

    def __init__(
        self,
        config: "RunConfig",
        known: dict,
        run_id: str | None,
        records: Sequence[EpochRecord],
        chosen: str,
        say: Callable[[str], None],
    ):
        self._say, self._broken = say, False
        _keep_files_in(config.results_dir)
        self._run = self._init(config, known, run_id or secrets.token_hex(4), chosen)
        self.run_id, self.url = self._run.id, self._run.url if chosen == "online" else None
        for metric in ("curve/*", "test/*", "val/*", "class/*", "labels_by_class/*"):
            self._run.define_metric(metric, step_metric=LABELS)
        # offline, the rows done before are in the fragment of their own attempt; a server says what it has
        if chosen == "online":
            for record in records:
                if record.epoch >= self._run.starting_step:
                    self.log_epoch(record)

    def _init(self, config: "RunConfig", known: dict, run_id: str, chosen: str):
        import wandb

        arguments = {
            "project": project(),
            "id": run_id,
            "resume": "allow",
            "group": config.cell,
            "job_type": config.strategy,
            "name": f"{config.cell}-{config.split_seed}",
            "tags": [config.dataset, config.variant],
            "config": known,
            "settings": wandb.Settings(silent=True, console="off", disable_code=True),
        }
        try:
            return wandb.init(mode=chosen, **arguments)
        except wandb.errors.AuthenticationError as error:
            raise UserError(
                f"W&B does not accept the API key ({error}); run `wandb login` or set WANDB_MODE=offline"
            ) from None
        except wandb.errors.CommError as error:
            self._say(f"W&B cannot be reached ({first_line(error)}): logging offline, `make sync` uploads it later")
            return wandb.init(mode="offline", **arguments)

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
        """The summary takes the best epoch's test metrics, which a sweep's metric is read from."""

        def log():
            import wandb

            true, predicted = _pairs(result.best.splits["test"].confusion_matrix)
            chart = wandb.plot.confusion_matrix(y_true=true, preds=predicted, class_names=list(classes))
            images = {f"plots/{plot.stem}": wandb.Image(str(plot)) for plot in plots}
            self._run.log({CONFUSION: chart} | images, step=result.total_epochs + 1)
            self._run.summary.update(summary_of(result))

        self._safely(log)

    def preempting(self) -> None:
        self._safely(self._run.mark_preempting)

    def finish(self, exit_code: int) -> None:
        self._safely(lambda: self._run.finish(exit_code=exit_code))

    def _safely(self, action: Callable[[], Any]) -> None:
        if self._broken:
            return
        try:
            action()
        except Exception as error:
            self._broken = True
            self._say(f"W&B stopped listening ({first_line(error)}): the run goes on, its rows are in epochs.jsonl")


def _pairs(confusion: list[list[int]]) -> tuple[list[int], list[int]]:
    """True and predicted class of every image that a confusion matrix counts."""
    true, predicted = [], []
    for i, row in enumerate(confusion):
        for j, count in enumerate(row):
            true += [i] * count
            predicted += [j] * count
    return true, predicted
