"""The runs of a W&B project in the form that results folders are read into.

What W&B holds of a run: its configuration, a row an epoch, and the summary. Confusion matrices, picks and the machine
stay with the files, so those figures are missing here, and times are not compared.
"""

from collections.abc import Mapping
from typing import Any

from al.config import RunConfig
from al.errors import UserError
from sweeps.report.load import Damaged, Data, LeftOut, Results, Run, checked, columns, drop_twins

NOT_RECORDED = "not recorded on W&B"


def load_wandb(path: str, api: Any = None) -> Results:
    """Finished runs of the project `ENTITY/PROJECT`.

    Args:
        api: a `wandb.Api`; by default one with the user's own key.

    Raises:
        UserError: not a project's path, or W&B does not answer.
    """
    entity, _, project = path.partition("/")
    if not entity or not project or "/" in project:
        raise UserError(f"from-wandb={path!r}: not a project; write ENTITY/PROJECT, as in the project's address")
    results = Results()
    for run in _runs(path, api):
        source = f"{path}/{run.id}"
        try:
            results.runs.append(_read(run, source))
        except Damaged as error:
            results.left_out.append(LeftOut(source, str(error)))
    drop_twins(results)
    results.notes.append("Read from W&B: no confusion matrices and no picks, and times are not compared.")
    return results


def _runs(path: str, api: Any) -> list:
    import wandb

    try:
        return list((api or wandb.Api()).runs(path))
    except (wandb.errors.Error, ValueError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"from-wandb={path!r}: W&B does not give its runs ({reason}); check the name and the key"
        ) from None


def _read(run: Any, source: str) -> Run:
    if run.state != "finished":
        raise Damaged(f"{run.state} on W&B")
    config, summary = dict(run.config), dict(run.summary)
    parameters = {name: value for name, value in config.items() if name in RunConfig.model_fields}
    try:
        parsed = RunConfig.from_mapping(parameters)
    except UserError as error:
        raise Damaged(f"its config does not describe a run of this version: {error}") from None
    if "digest" in config and config["digest"] != parsed.digest():
        raise Damaged("its digest is not that of its parameters: another version of the suite")
    rows = _rows(run)
    metrics = _metrics(parsed, rows, summary)
    return checked(
        Run(parsed, parsed.digest(), _data(parsed, config, summary, rows), source, columns(rows), (), metrics)
    )


def _rows(run: Any) -> list[dict[str, Any]]:
    """Rows of an epoch each, nested as in epochs.jsonl; the last one wins where a resumed run logged an epoch twice."""
    rows = {int(row["epoch"]): _nested(row) for row in run.scan_history() if row.get("epoch") is not None}
    if not rows:
        raise Damaged("no epoch was logged")
    return [rows[epoch] for epoch in sorted(rows)]


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """`test/f1` -> {"test": {"f1-score": ...}}, `class/cat/f1` -> {"per_class": {"cat": {"f1-score": ...}}}."""
    from al.tracking.wandb import CLASS_METRICS, PHASES, SCALARS, SPLITS

    row = {name: value for name, value in flat.items() if "/" not in name}
    for split in SPLITS:
        row[split] = {key: flat.get(f"{split}/{name}") for name, key in SCALARS.items()}
    row["seconds"] = {phase: flat.get(f"seconds/{phase}") for phase in PHASES}
    row["per_class"] = {}
    for name, value in flat.items():
        head, _, rest = name.partition("/")
        label, _, metric = rest.rpartition("/")
        if head == "class" and metric in CLASS_METRICS and value is not None:
            row["per_class"].setdefault(label, {})[CLASS_METRICS[metric]] = value
    return row


def _metrics(config: RunConfig, rows: list[dict[str, Any]], summary: Mapping[str, Any]) -> dict[str, Any]:
    """What performance_metrics.json would hold, as far as W&B knows it."""
    epoch = int(summary.get("best_epoch") or min(rows, key=_val_loss)["epoch"])
    best = next((row for row in rows if row["epoch"] == epoch), rows[-1])
    last = rows[-1]
    return {
        "training_metrics_for_best_epoch": best["train"],
        "validation_metrics_for_best_epoch": best["val"],
        "test_metrics": best["test"] | {"per_class": best["per_class"]},
        "best_epoch": best["epoch"],
        "total_epochs": len(rows),
        "training_time_seconds": summary.get("training_time_seconds", _seconds(rows)),
        "labels_used": summary.get("labels_used", last.get("labels")),
        "human_labels_used": summary.get("human_labels_used", last.get("human_labels")),
        "reached_baseline": summary.get("reached_baseline"),
        "config": config.model_dump(mode="json"),
        "digest": config.digest(),
    }


def _val_loss(row: Mapping[str, Any]) -> float:
    loss = row["val"].get("loss")
    return float("inf") if loss is None else float(loss)


def _seconds(rows: list[dict[str, Any]]) -> float:
    return sum(float(row["seconds"].get("round") or 0.0) for row in rows)


def _data(config: RunConfig, logged: Mapping[str, Any], summary: Mapping[str, Any], rows: list[dict[str, Any]]) -> Data:
    data = logged.get("data") or summary.get("data") or {}
    classes = tuple(data.get("classes") or rows[-1]["per_class"])
    fingerprint = str(data.get("fingerprint", NOT_RECORDED))
    return Data(config.dataset, fingerprint, int(data.get("train", 0)), int(data.get("test", 0)), classes)
