"""A small W&B server on 127.0.0.1 that W&B's real client and command line talk to in the tests.

It keeps runs (config, history, summary, state, files) and sweeps with a grid queue in memory, hands runs to agents,
stops them, hands preempted ones out again, and can go down and come back. What it answers is what wandb 0.31 asks for.
`requests` records every operation, so that a test can see what was not asked either.
"""

import itertools
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

ENTITY = "tester"
SILENCE = 5.0
"""Seconds without a heartbeat after which an agent is taken for dead; W&B's own server waits minutes."""
API_KEY = "0123456789abcdef" * 2 + "01234567"
OPERATION = re.compile(r"\b(?:query|mutation)\s+(\w+)")


@dataclass(eq=False)
class ServedRun:
    """A run as the server knows it. `rows` are the lines of its history, in the order they were sent."""

    name: str
    project: str
    config: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, dict[int, str]] = field(default_factory=dict)
    display: str = ""
    group: str | None = None
    job_type: str | None = None
    tags: list[str] = field(default_factory=list)
    sweep: str | None = None
    state: str = "pending"
    exit_code: int | None = None
    preempting: bool = False
    stop_wanted: bool = False
    begun: bool = False
    handed_out: int = 0
    agent: str | None = None
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def rows(self) -> list[dict[str, Any]]:
        lines = self.lines.get("wandb-history.jsonl", {})
        return [json.loads(lines[number]) for number in sorted(lines)]

    @property
    def summary(self) -> dict[str, Any]:
        lines = self.lines.get("wandb-summary.json", {})
        return json.loads(lines[max(lines)]) if lines else {}

    @property
    def parameters(self) -> dict[str, Any]:
        return {name: entry["value"] for name, entry in self.config.items() if name != "_wandb"}


@dataclass(eq=False)
class ServedSweep:
    """A sweep: what is still to be handed out, as (command type, run name, arguments)."""

    name: str
    project: str
    config: str
    queue: list[tuple[str, str, dict[str, Any]]]
    arguments: dict[str, dict[str, Any]] = field(default_factory=dict)
    state: str = "PENDING"


@dataclass(eq=False)
class ServedAgent:
    """An agent: its sweep, the runs it said it is running, and when it was last heard."""

    sweep: str
    running: set[str] = field(default_factory=set)
    heard: float = 0.0


class WandbServer:
    """`with WandbServer() as server:` serves until the end; `server.environment(folder)` points a client at it."""

    def __init__(self) -> None:
        self.runs: dict[str, ServedRun] = {}
        self.sweeps: dict[str, ServedSweep] = {}
        self.agents: dict[str, ServedAgent] = {}
        self.artifacts: dict[str, str] = {}
        """Id by name of what was made as an artifact."""
        self.uploads: dict[str, bytes] = {}
        """Contents of artifacts by the path that they were put to."""
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.reachable = True
        self.status = 200
        """Of every answer; anything else comes without content."""
        self.hanging = False
        """Whether a request is never answered."""
        self.changed = threading.Condition(threading.RLock())
        self._numbers = itertools.count(1)
        handler = type("Handler", (_Handler,), {"server_state": self})
        self._http = _Http(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> "WandbServer":
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def environment(self, folder: Path) -> dict[str, str]:
        """This process's environment without its W&B settings, pointed at this server; files go to `folder`."""
        variables = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
        return variables | {
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": API_KEY,
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_PROJECT": "tests",
            "WANDB_CONFIG_DIR": str(folder / "wandb-config"),
            "WANDB_CACHE_DIR": str(folder / "wandb-cache"),
            "WANDB_DATA_DIR": str(folder / "wandb-data"),
            "NETRC": str(folder / "netrc"),
            "OMP_NUM_THREADS": "1",
        }

    @contextmanager
    def failing(self, status: int) -> Iterator[None]:
        """Every request is answered with this status meanwhile."""
        self.status = status
        try:
            yield
        finally:
            self.status = 200

    @contextmanager
    def hung(self) -> Iterator[None]:
        """No request is answered meanwhile."""
        self.hanging = True
        try:
            yield
        finally:
            self.hanging = False

    @contextmanager
    def down(self) -> Iterator[None]:
        """Every connection is cut without an answer meanwhile."""
        self.reachable = False
        try:
            yield
        finally:
            self.reachable = True
        self.status = 200
        """Of every answer; anything else comes without content."""
        self.hanging = False
        """Whether a request is never answered."""

    def wait_for(self, condition: Callable[[], Any], seconds: float = 60) -> Any:
        """The first true value of `condition`, looked at after every request.

        Raises:
            TimeoutError: it stayed false for `seconds`.
        """
        with self.changed:
            if not self.changed.wait_for(condition, seconds):
                raise TimeoutError("the condition was not met")
            return condition()

    def stop(self, run: str) -> None:
        """What the stop button of the web page does."""
        with self.changed:
            self.runs[run].stop_wanted = True

    def answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        with self.changed:
            self.requests.append((operation, variables))
            handler = getattr(self, f"_on_{operation}", None)
            result = handler(variables) if handler else None
            self.changed.notify_all()
        if handler is None:
            return {"errors": [{"message": f"operation {operation} is not served"}]}
        return {"data": result}

    # who is asking

    def _on_Viewer(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        team = {"edges": [{"node": {"name": ENTITY}}]}
        viewer = {"id": "user", "entity": ENTITY, "username": ENTITY, "name": ENTITY, "email": "", "admin": False}
        return {"viewer": viewer | {"flags": "{}", "teams": team, "apiKeys": {"edges": []}, "deletedAt": None}}

    _on_GetViewer = _on_Viewer
    _on_GetDefaultEntity = _on_Viewer

    def _on_ServerFeaturesQuery(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _on_OrganizationCoreWeaveOrganizationID(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        return {"entity": {"organization": None}}

    # sweeps and agents

    def _on_UpsertSweep(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        if variables.get("id"):
            sweep = self.sweeps[variables["id"]]
            sweep.state = variables.get("state") or sweep.state
        else:
            sweep = self._new_sweep(variables["config"], variables.get("projectName") or "uncategorized")
        project = _project(sweep.project)
        return {"upsertSweep": {"sweep": {"name": sweep.name, "project": project}, "configValidationWarnings": []}}

    def _new_sweep(self, config: str, project: str) -> ServedSweep:
        parameters = yaml.safe_load(config)["parameters"]
        names = sorted(parameters)
        choices = [parameters[name].get("values", [parameters[name].get("value")]) for name in names]
        sweep = ServedSweep(f"sweep{next(self._numbers)}", project, config, [])
        for values in itertools.product(*choices):
            run = f"run{next(self._numbers):05d}"
            arguments = {name: {"value": value} for name, value in zip(names, values, strict=True)}
            sweep.queue.append(("run", run, arguments))
            sweep.arguments[run] = arguments
        self.sweeps[sweep.name] = sweep
        return sweep

    def _on_GetSweep(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        sweep = self.sweeps.get(variables["name"])
        return {"project": _project(variables["project"]) | {"sweep": sweep and self._sweep(sweep)}}

    def _on_SweepWithRuns(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        sweep = self.sweeps.get(variables["sweep"])
        if sweep is None:
            return {"project": {"sweep": None}}
        runs = [{"node": self._run(run)} for run in self.runs_of(sweep.name)]
        return {"project": {"sweep": self._sweep(sweep) | {"runs": {"edges": runs}}}}

    def _sweep(self, sweep: ServedSweep) -> dict[str, Any]:
        counts = {"runCount": len(self.runs_of(sweep.name)), "runCountExpected": len(sweep.arguments)}
        shown = {"__typename": "Sweep", "id": sweep.name, "name": sweep.name, "displayName": None, "method": "grid"}
        times = {"createdAt": "2025-01-01T00:00:00", "updatedAt": "2025-01-01T00:00:00"}
        return (
            shown
            | times
            | counts
            | {"state": sweep.state, "config": sweep.config, "description": None, "bestLoss": None}
        )

    def runs_of(self, sweep: str) -> list[ServedRun]:
        self._give_up_lost_runs()
        return [run for run in self.runs.values() if run.sweep == sweep]

    def _on_CreateAgent(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        agent = f"agent{next(self._numbers)}"
        self.agents[agent] = ServedAgent(variables["sweep"])
        return {"createAgent": {"agent": {"id": agent}}}

    def _on_Heartbeat(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        agent = self.agents[variables["id"]]
        agent.running, agent.heard = set(json.loads(variables["runState"])), time.monotonic()
        self._give_up_lost_runs()
        commands = self._commands(self.sweeps[agent.sweep], agent.running)
        for command in commands:
            if "program" in command:
                self.runs[command["run_id"]].agent = variables["id"]
                agent.running.add(command["run_id"])
        return {"agentHeartbeat": {"agent": {"id": variables["id"]}, "commands": json.dumps(commands)}}

    def _give_up_lost_runs(self) -> None:
        """A run that ended before it reported has crashed, once its agent says so or is not heard any more."""
        for run in self.runs.values():
            agent = self.agents.get(run.agent or "")
            if agent and run.state == "running" and not run.begun:
                silent = time.monotonic() - agent.heard > SILENCE
                run.state = "crashed" if silent or run.name not in agent.running else "running"

    def _commands(self, sweep: ServedSweep, running: set[str]) -> list[dict[str, Any]]:
        if running:
            return [
                {"type": "stop", "run_id": run} for run in running if run in self.runs and self.runs[run].stop_wanted
            ]
        if sweep.queue and sweep.state in ("PENDING", "RUNNING"):
            sweep.state = "RUNNING"
            kind, run, arguments = sweep.queue.pop(0)
            known = self.runs.setdefault(run, ServedRun(run, sweep.project))
            known.config, known.sweep, known.state = known.config | arguments, sweep.name, "running"
            known.exit_code, known.preempting, known.stop_wanted = None, False, False
            known.handed_out += 1
            program = yaml.safe_load(sweep.config)["program"]
            return [{"type": kind, "run_id": run, "program": program, "args": arguments}]
        if any(run.state in ("running", "preempting") for run in self.runs_of(sweep.name)):
            return []  # one of them may yet be preempted and handed out again
        sweep.state = "FINISHED"
        return [{"type": "exit"}]

    # runs

    def _on_RunResumeStatus(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        run = self.runs.get(variables["name"])
        bucket = self._bucket(run) if run and run.begun else None
        return {"model": _project(variables.get("project") or "uncategorized") | {"bucket": bucket}}

    def _bucket(self, run: ServedRun) -> dict[str, Any]:
        history, events = run.lines.get("wandb-history.jsonl", {}), run.lines.get("wandb-events.jsonl", {})
        tail = [history[max(history)]] if history else []
        counts = {"historyLineCount": len(history), "eventsLineCount": len(events), "logLineCount": 0}
        tails = {"historyTail": json.dumps(tail), "eventsTail": "[]", "summaryMetrics": json.dumps(run.summary)}
        about = {"config": json.dumps(run.config), "tags": run.tags, "notes": None, "wandbConfig": '{"t": 1}'}
        return {"id": run.name, "name": run.name, "displayName": run.display} | counts | tails | about

    def _on_UpsertBucket(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        name = variables.get("name") or variables["id"]
        project = variables.get("project") or "uncategorized"
        run = self.runs.setdefault(name, ServedRun(name, project))
        run.begun = True
        run.config |= json.loads(variables.get("config") or "{}")
        run.display = variables.get("displayName") or run.display
        run.group, run.job_type = variables.get("groupName") or run.group, variables.get("jobType") or run.job_type
        run.tags = variables.get("tags") or run.tags
        run.sweep = variables.get("sweep") or run.sweep
        run.state, run.exit_code = "running", None
        shown = {"id": name, "name": name, "displayName": run.display, "sweepName": run.sweep, "description": None}
        bucket = shown | {"project": _project(run.project), "config": json.dumps(run.config)}
        bucket["historyLineCount"] = len(run.lines.get("wandb-history.jsonl", {}))
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def _on_Runs(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        self._give_up_lost_runs()
        runs = [run for run in self.runs.values() if _matches(run, json.loads(variables.get("filters") or "{}"))]
        edges = [{"node": self._run(run) | {"projectId": "1"}, "cursor": run.name} for run in runs]
        page = {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}
        return {"project": {"internalId": "1", "runCount": len(runs), "readOnly": False, "runs": page}}

    def _run(self, run: ServedRun) -> dict[str, Any]:
        shown = {"id": run.name, "name": run.name, "displayName": run.display or run.name, "state": run.state}
        about = {"config": json.dumps(run.config), "summaryMetrics": json.dumps(run.summary), "sweepName": run.sweep}
        times = {"createdAt": "2025-01-01T00:00:00", "heartbeatAt": "2025-01-01T00:00:00", "exitcode": run.exit_code}
        owner = {"user": {"name": ENTITY, "username": ENTITY}, "tags": run.tags, "group": run.group}
        rest = {"jobType": run.job_type, "commit": None, "readOnly": False, "description": None, "notes": None}
        counts = {"historyLineCount": len(run.rows), "historyKeys": None, "systemMetrics": "{}"}
        return shown | about | times | owner | rest | counts

    def _on_CreateRunFiles(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        urls = [{"name": name, "uploadUrl": f"{self.url}/put/{variables['run']}/{name}"} for name in variables["files"]]
        return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": urls}}

    def _on_MarkRunFilesUploaded(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        return {"markRunFilesUploaded": {"success": True}}

    def stream(self, run_name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """One file_stream request: new lines of a run's files, and what has become of it."""
        with self.changed:
            run = self.runs[run_name]
            for name, chunk in (body.get("files") or {}).items():
                lines = run.lines.setdefault(name, {})
                lines |= {chunk["offset"] + number: line for number, line in enumerate(chunk["content"])}
            if body.get("preempting"):
                run.preempting, run.state = True, "preempting"
            if body.get("complete"):
                self._complete(run, int(body.get("exitcode") or 0))
            self.changed.notify_all()
            return {"stopped": True} if run.stop_wanted else {}

    def _complete(self, run: ServedRun, exit_code: int) -> None:
        run.exit_code = exit_code
        run.state = "finished" if exit_code == 0 else "failed"
        if exit_code and run.stop_wanted:
            run.state = "killed"
        elif exit_code and run.preempting and run.sweep:
            run.state = "preempted"
            sweep = self.sweeps[run.sweep]
            sweep.queue.insert(0, ("resume", run.name, sweep.arguments[run.name]))

    # artifacts, which tables are

    def _on_ArtifactType(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        return {"project": None}

    def _on_CreateArtifact(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        artifact = {"id": f"artifact{next(self._numbers)}", "state": "PENDING"}
        self.artifacts[variables["input"]["artifactCollectionName"]] = artifact["id"]
        return {"createArtifact": {"artifact": artifact | {"artifactSequence": {"latestArtifact": None}}}}

    def _on_CreateArtifactManifest(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        url = f"{self.url}/put/artifacts/{variables['artifactID']}/manifest"
        file = {"id": "file", "uploadUrl": url, "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": variables["artifactID"], "file": file}}}

    def _on_UpdateArtifactManifest(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        name = variables["artifactManifestID"]
        file = {"id": "file", "uploadUrl": f"{self.url}/put/artifacts/{name}/manifest", "uploadHeaders": []}
        return {"updateArtifactManifest": {"artifactManifest": {"id": name, "file": file}}}

    def _on_CreateArtifactFiles(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        nodes = [self._artifact_file(file) for file in variables["input"]["artifactFiles"]]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def _artifact_file(self, file: Mapping[str, Any]) -> dict[str, Any]:
        url = f"{self.url}/put/artifacts/{file['artifactID']}/{file['name']}"
        node = {"storagePath": file["name"], "uploadUrl": url, "uploadHeaders": [], "uploadMultipartUrls": None}
        return node | {"artifact": {"id": file["artifactID"]}}

    def _on_CommitArtifact(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": "digest"}}}


def _project(name: str) -> dict[str, Any]:
    return {"id": name, "name": name, "entity": {"id": ENTITY, "name": ENTITY}}


def _matches(run: ServedRun, filters: Mapping[str, Any]) -> bool:
    """Mongo-like filters as far as W&B's client and the suite write them: $and, $or, $in, equality."""
    for key, wanted in filters.items():
        if key == "$and":
            fits = all(_matches(run, part) for part in wanted)
        elif key == "$or":
            fits = any(_matches(run, part) for part in wanted)
        else:
            fits = _value(run, key) in wanted["$in"] if isinstance(wanted, dict) else _value(run, key) == wanted
        if not fits:
            return False
    return True


def _value(run: ServedRun, key: str) -> Any:
    if key.startswith("config."):
        return run.parameters.get(key.removeprefix("config.").removesuffix(".value"))
    return getattr(run, {"jobType": "job_type", "displayName": "display"}.get(key, key), None)


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is killed cuts its connection; that is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    server_state: WandbServer
    protocol_version = "HTTP/1.1"

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            import gzip

            body = gzip.decompress(body)
        return body

    def _reply(self, content: Any, status: int = 200) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _cut(self) -> bool:
        """Whether the server is down or refuses; where it is down the connection is gone without a word."""
        while self.server_state.hanging:
            time.sleep(0.05)
        if self.server_state.status != 200:
            self._reply({"error": "as the test wants it"}, self.server_state.status)
            return True
        if not self.server_state.reachable:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        return not self.server_state.reachable

    def do_POST(self) -> None:
        body = self._body()
        if self._cut():
            return
        if self.path == "/graphql":
            request = json.loads(body)
            operation = request.get("operationName") or OPERATION.search(request["query"])[1]
            self._reply(self.server_state.answer(operation, request.get("variables") or {}))
        elif self.path.endswith("/file_stream"):
            self._reply(self.server_state.stream(self.path.split("/")[-2], json.loads(body)))
        else:
            self._reply({"error": f"{self.path} is not served"}, 404)

    def do_PUT(self) -> None:
        body = self._body()
        if self._cut():
            return
        _, _, run, name = self.path.split("/", 3)
        if run in self.server_state.runs:
            self.server_state.runs[run].files[name] = body
        else:
            self.server_state.uploads[f"{run}/{name}"] = body
        self._reply({})

    def do_GET(self) -> None:
        if not self._cut():
            self._reply({})

    def log_message(self, *arguments: Any) -> None:
        pass
