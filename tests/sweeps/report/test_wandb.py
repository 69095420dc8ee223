"""Runs read back from W&B, and the dashboard: against stand-ins that answer as W&B does, nothing is sent anywhere."""

import json
import socket
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from report_results import World, write_cells

from al.errors import UserError
from al.records import METRICS, PHASES, SPLITS, EpochRecord, RunResult
from al.tracking import projection
from sweeps.report.analysis import analyse
from sweeps.report.cells import organise
from sweeps.report.from_wandb import load_wandb
from sweeps.report.load import load_results

wandb_workspaces = pytest.importorskip("wandb_workspaces")

from sweeps.report import dashboard  # noqa: E402
from sweeps.report.build import find  # noqa: E402
from sweeps.report.sections import sections  # noqa: E402

DIGITS = {"dataset": "digits", "model": "small_cnn", "weights": "none", "variant": "balanced_20", "initial_min": 20}
SMALL = World(classes=tuple("abcdefghij"), train=2000, test=500)


class Remote:
    """A run as `wandb.Api().runs()` gives it, made from a results folder through the suite's own tracking."""

    def __init__(self, folder, state="finished"):
        known = json.loads((folder / "config.json").read_text())
        result = json.loads((folder / "performance_metrics.json").read_text())
        self.id, self.state = known["wandb_run_id"], state
        self.config = known["config"] | {"digest": known["digest"], "cell": known["cell"]}
        self.summary = projection.summary_of(RunResult.read(result))
        self.lines = [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]

    def scan_history(self):
        yield from (projection.epoch_metrics(EpochRecord.model_validate(row)) for row in self.lines)
        yield {"confusion/test": "a chart", "_step": len(self.lines) + 1}


@pytest.fixture
def remote(tmp_path):
    write_cells(tmp_path, SMALL, ("stratified", "margin", "random"), (12, 34, 56), **DIGITS)
    return [Remote(folder) for folder in sorted(tmp_path.glob("*/split_seed_*"))]


def api_of(runs):
    return SimpleNamespace(runs=lambda path: iter(runs))


def test_what_comes_back_is_what_the_files_say(remote, tmp_path):
    files = {run.digest: run for run in load_results(tmp_path).runs}
    pulled = {run.digest: run for run in load_wandb("me/project", api_of(remote)).runs}
    assert set(pulled) == set(files)
    for digest, run in pulled.items():
        theirs = files[digest]
        for split in SPLITS:
            for name in METRICS:
                np.testing.assert_array_equal(run.column(split, name), theirs.column(split, name), err_msg=name)
        for phase in PHASES:
            np.testing.assert_array_equal(run.phase(phase), theirs.phase(phase), err_msg=phase)
        for name in ("epoch", "round", "labels", "human_labels", "lr", "best"):
            assert [getattr(e, name) for e in run.epochs] == [getattr(e, name) for e in theirs.epochs]
        assert run.test == theirs.test
        assert run.per_class.keys() == theirs.per_class.keys()
        assert (run.labels, run.human_labels, run.seconds) == (theirs.labels, theirs.human_labels, theirs.seconds)


def test_the_answer_is_the_same_from_either_side(remote, tmp_path):
    found = []
    for results in (load_results(tmp_path), load_wandb("me/project", api_of(remote))):
        (family,) = organise(results)
        verdict = analyse(family.settings[0]).verdict
        found.append((verdict.headline, verdict.values, verdict.targets))
    assert found[0] == found[1]


def test_what_is_not_finished_or_foreign_is_left_out(remote):
    remote[0].state = "crashed"
    remote[1].config = {"lr": 0.1, "strategy": "no such"}
    remote[2].config["digest"] = "0" * 64
    remote[3].lines = []
    results = load_wandb("me/project", api_of([*remote, remote[4]]))
    assert len(results.runs) == len(remote) - 4
    reasons = " | ".join(item.reason for item in results.left_out)
    for reason in (
        "crashed on W&B",
        "no such strategy",
        "its digest is not that",
        "no epoch was logged",
        "the same run as",
    ):
        assert reason in reasons


def test_times_from_w_and_b_are_not_compared(remote):
    (family,) = organise(load_wandb("me/project", api_of(remote)))
    assert family.settings[0].different_conditions == "conditions that were not recorded"


def test_an_epoch_logged_twice_counts_once(remote):
    remote[0].lines += [dict(remote[0].lines[-1])]
    results = load_wandb("me/project", api_of(remote[:1]))
    assert len(results.runs[0].epochs) == len(remote[0].lines) - 1


def test_w_and_b_without_an_answer_is_one_line():
    def runs(path):
        raise ValueError("Could not find project\nsecond line")

    with pytest.raises(UserError, match=r"does not give its runs \(Could not find project\)"):
        load_wandb("me/project", SimpleNamespace(runs=runs))


# The dashboard


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_the_dry_run_sends_nothing_and_names_only_metrics_that_exist(tmp_path, offline, capsys):
    folders = tmp_path / "results"
    write_cells(folders, SMALL, ("stratified", "margin"), (12, 34), **DIGITS)
    assert dashboard.main(["--dry-run", "--results-dir", str(folders), "--entity", "me", "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "dashboard.json").read_text())
    view = json.loads((tmp_path / "workspace.json").read_text())
    known = _metric_names(folders)
    for panel in [*_panels(report), *_panels(view)]:
        for name in _metrics(panel):
            assert name in known, name


def _metric_names(folders) -> set[str]:
    folder = next(folders.glob("*margin*/split_seed_12"))
    row = json.loads((folder / "epochs.jsonl").read_text().splitlines()[0])
    names = set(projection.epoch_metrics(EpochRecord.model_validate(row)))
    names |= {projection.PICK_SHEET, projection.CURVE_AREA}
    result = RunResult.read(json.loads((folder / "performance_metrics.json").read_text()))
    return names | set(projection.summary_of(result))


def _panels(node):
    if isinstance(node, dict):
        if "viewType" in node:
            yield node
        for value in node.values():
            yield from _panels(value)
    elif isinstance(node, list):
        for value in node:
            yield from _panels(value)


def _metrics(panel):
    config = panel["config"]
    names = [*config.get("metrics", []), *config.get("mediaKeys", [])]
    names += [config[key] for key in ("xAxis", "yAxis") if config.get(key)]
    return [name.removeprefix("summary_metrics.").removeprefix("summary:") for name in names]


def _written(results_dir, out) -> dict:
    content = dashboard.content_of(load_results(results_dir), results_dir)
    return json.loads(dashboard.write_json(out, "me", "project", content)[0].read_text())


def _headings(report, level=None) -> list[str]:
    found = [b for b in report["blocks"] if b["type"] == "heading" and level in (None, b["level"])]
    return ["".join(c["text"] for c in b["children"]) for b in found]


def _run_sets(report) -> list[tuple[str, tuple[str, ...]]]:
    """(name, cells that its filter lets through) of every run set, () where it has none."""
    grids = [block["metadata"] for block in report["blocks"] if block["type"] == "panel-grid"]
    found = []
    for runset in (runset for grid in grids for runset in grid["runSets"]):
        filters = {f["key"]["name"]: (f["op"], tuple(f["value"])) for f in runset["filters"]["filters"]}
        assert set(filters) <= {"cell"}
        assert all(op == "IN" for op, _ in filters.values())
        found.append((runset["name"], filters.get("cell", ("IN", ()))[1]))
    return found


def test_every_configuration_found_has_its_panels_and_no_average_mixes_settings(tmp_path, offline):
    made = []
    for variant in ("balanced_20", "balanced_10"):
        made += write_cells(tmp_path, SMALL, ("stratified", "margin"), (12,), **DIGITS | {"variant": variant})
    made += write_cells(tmp_path, SMALL, ("margin",), (12,), **DIGITS, init="random")
    report = _written(tmp_path, tmp_path / "out")
    sets = _run_sets(report)
    titles = ["digits balanced_20", "digits balanced_10", "digits balanced_20, random start"]
    assert [name for name, _ in sets[:3]] == titles
    assert [name for name, _ in sets] == [*titles, "digits", "digits", *titles, *["digits"] * 3]
    settings = [set(cells) for name, cells in sets if name in titles]
    whole = set(sets[3][1])
    assert whole == {config.cell for config in made}
    for cells in settings:
        fields = {(c.dataset, c.variant) for c in made if c.cell in cells}
        assert len(fields) == 1
        assert len({c.init for c in made if c.cell in cells and c.strategy != "stratified"}) == 1
    assert set().union(*settings) == whole


def test_its_sections_are_those_of_the_page_and_every_metric_that_was_logged_has_its_panels(tmp_path, offline):
    write_cells(tmp_path, SMALL, ("stratified", "random", "margin"), (12, 34, 56), **DIGITS)
    report = _written(tmp_path, tmp_path / "out")
    page = [section.title for section in sections(find(load_results(tmp_path), tmp_path))]
    written = [title for title in _headings(report, level=1) if title != "In short"]
    assert written == [title for title in page if title in written]
    assert {"Learning curves", "Test metrics", "Classes", "What was picked", "By epoch", "Time"} <= set(written)
    titles = [panel["config"]["chartTitle"] for panel in _panels(report) if "chartTitle" in panel["config"]]
    for metric in METRICS.values():
        assert f"Test {metric.title[0].lower()}{metric.title[1:]}, best epoch" in titles
        assert f"{metric.title} by epoch" in titles


def test_a_metric_that_no_run_logged_has_no_panel_and_a_new_one_has_all(tmp_path, offline, monkeypatch):
    write_cells(tmp_path, SMALL, ("random", "margin"), (12, 34), **DIGITS)
    monkeypatch.setitem(
        METRICS, "wittiness", replace(METRICS["accuracy"], name="wittiness", key="wittiness", title="Wittiness (%)")
    )
    assert "wittiness" not in json.dumps(_written(tmp_path, tmp_path / "out"))
    assert "seconds/embed" not in json.dumps(_written(tmp_path, tmp_path / "out"))
    for path in tmp_path.glob("*/split_seed_*/*.json*"):
        text = path.read_text().replace('"accuracy":', '"wittiness": 50.0, "accuracy":')
        path.write_text(text.replace('"seconds": {"train"', '"seconds": {"embed": 3.0, "train"'))
    shown = [name for panel in _panels(_written(tmp_path, tmp_path / "out")) for name in _metrics(panel)]
    assert {"train/wittiness", "val/wittiness", "test/wittiness", "seconds/embed"} <= set(shown)


def test_nothing_of_the_study_without_its_data_and_no_panel_without_a_run(tmp_path, offline):
    (tmp_path / "none").mkdir()
    empty = _written(tmp_path / "none", tmp_path / "out")
    assert _run_sets(empty) == []
    assert "No run is complete yet" in json.dumps(empty)
    write_cells(tmp_path, SMALL, ("stratified", "margin"), (12, 34), **DIGITS)
    report = json.dumps(_written(tmp_path, tmp_path / "out"))
    for word in ("cifar", "imbalanced", "Experiment", "CLIP", "Claims", "Table 2"):
        assert word not in report, word


def test_local_answers_and_tables_are_part_of_it(tmp_path, offline):
    write_cells(tmp_path, World(), ("stratified", "margin"), (12, 34), variant="balanced_1")
    report = _written(tmp_path, tmp_path / "out")
    assert _headings(report)[0] == "In short"
    text = json.dumps(report)
    assert "stratified sampling" in text
    assert "Claims C1-C8" in text
    assert "Labels needed and share saved, by target" in text
    assert "cifar10 balanced_1" in text


def test_without_local_runs_those_of_the_project_are_shown(remote, tmp_path, monkeypatch):
    import wandb

    monkeypatch.setattr(wandb, "Api", lambda *_, **__: api_of(remote))
    found = dashboard._found(tmp_path / "nowhere", "me", "project")
    assert len(found.runs) == len(remote)


class Server:
    """Keeps views as W&B does: `upsertView` makes one or changes the one with its id."""

    def __init__(self):
        self.views: dict[str, dict] = {}

    def execute(self, api, query, variables=None):
        if "upsertView" in query:
            return {"upsertView": {"view": self._upsert(variables), "inserted": True}}
        if "allViews" in query:
            found = [view for view in self.views.values() if view["name"] == variables["viewName"]]
            return {"project": {"allViews": {"edges": [{"node": view} for view in found]}}}
        if "ProjectInternalId" in query:
            return {"project": {"id": "1", "internalId": "1"}}
        view = self.views[variables["reportId"].replace("=", "")]
        return {"view": dict(view)}

    def _upsert(self, variables):
        key = (variables.get("id") or f"id{len(self.views)}").replace("=", "")
        self.views[key] = {
            "id": key,
            "name": variables["name"],
            "displayName": variables["displayName"],
            "description": variables["description"],
            "type": variables["type"],
            "spec": variables["spec"],
            "project": {"name": variables["projectName"], "entityName": variables["entityName"]},
            "createdAt": "2025-01-01T00:00:00",
            "updatedAt": "2025-01-01T00:00:00",
        }
        return self.views[key]

    def reports(self, path):
        entity, project = path.split("/")
        for view in self.views.values():
            if view["type"] == "runs":
                url = f"https://wandb.ai/{entity}/{project}/reports/title--{view['id']}"
                yield SimpleNamespace(display_name=view["displayName"], url=url)


@pytest.fixture
def server(monkeypatch):
    import wandb
    import wandb_workspaces.reports.v2.interface as reports
    import wandb_workspaces.workspaces.interface as workspaces
    import wandb_workspaces.workspaces.internal as internal

    server = Server()
    api = SimpleNamespace(
        default_entity="me",
        projects=lambda entity: [SimpleNamespace(name="project")],
        reports=server.reports,
        runs=lambda path: [],
    )
    monkeypatch.setattr(wandb, "Api", lambda *_, **__: api)
    monkeypatch.setattr(reports, "_get_api", lambda: api)
    for module in (reports, internal):
        monkeypatch.setattr(module, "execute_graphql", server.execute)
    for module in (reports, workspaces):
        monkeypatch.setattr(module, "get_app_url", lambda api: "https://wandb.ai")
    return server


def test_a_second_call_changes_the_report_and_the_view_and_adds_none(server, tmp_path, offline, capsys):
    arguments = ["--project", "project", "--results-dir", str(tmp_path)]
    assert dashboard.main(arguments) == 0
    first = {key: view["spec"] for key, view in server.views.items()}
    assert sorted(view["type"] for view in server.views.values()) == ["project-view", "runs"]
    names = {view["name"] for view in server.views.values()}
    write_cells(tmp_path, SMALL, ("stratified", "margin"), (12, 34), **DIGITS)
    assert dashboard.main(arguments) == 0
    assert set(server.views) == set(first)
    assert {view["name"] for view in server.views.values()} >= {f"nw-{dashboard.VIEW}-v"} & names
    report = next(view for view in server.views.values() if view["type"] == "runs")
    assert "stratified sampling" in report["spec"]
    assert "stratified sampling" not in first[report["id"]]
    assert "Report: https://wandb.ai/me/project/reports/" in capsys.readouterr().out


def test_a_refusing_server_is_one_line(monkeypatch, tmp_path, capsys):
    import wandb

    def refuse(*_, **__):
        raise wandb.errors.CommError("no route\nmore")

    monkeypatch.setattr(wandb, "Api", refuse)
    assert dashboard.main(["--entity", "me", "--results-dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: me/active-learning: W&B did not take the report (no route)")
    assert len(error.splitlines()) == 1
