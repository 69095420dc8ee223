"""The round trip through the real Label Studio: our tasks in, an annotation by its API, its export back.

Runs where the program is found: LABEL_STUDIO names it, or PATH has it (`pip install label-studio` in an environment of
its own: it asks for other versions of our packages).
"""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import photos
import pytest

import al
from labelling.formats import NONE_OF_THEM
from labelling.project import holding

PROGRAM = os.environ.get("LABEL_STUDIO") or shutil.which("label-studio")
TOKEN = "0123456789abcdef0123456789abcdef01234567"
STARTS_IN = 240
"""Seconds: it makes its database first."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not PROGRAM, reason="label-studio is not installed; LABEL_STUDIO=PROGRAM names it"),
]


class Server:
    """Label Studio on 127.0.0.1, by its API."""

    def __init__(self, port: int):
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, path: str, content: object | None = None) -> object:
        data = None if content is None else json.dumps(content).encode()
        headers = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data, headers), timeout=30) as answer:
            return json.loads(answer.read())


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("label_studio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [PROGRAM, "start", "--no-browser", "--internal-host=127.0.0.1", f"--port={port}", f"--data-dir={home}"]
    command += [
        "--username=a@example.com",
        "--password=of-the-test",
        f"--user-token={TOKEN}",
        "--enable-legacy-api-token",
    ]
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON", "VIRTUAL"))}
    env = plain | {"HOME": str(home), "LATEST_VERSION_CHECK": "false", "COLLECT_ANALYTICS": "false"}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, env=env, cwd=home, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield _ready(Server(port), process, home / "log")
        finally:
            process.terminate()
            process.wait(30)


def _ready(server: Server, process: subprocess.Popen, log: Path) -> Server:
    deadline = time.monotonic() + STARTS_IN
    while True:
        try:
            server.ask("/api/projects")
            return server
        except OSError:
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(1)


def annotate(server: Server, task: dict, choice: str) -> None:
    """What a click on a choice and on Submit does."""
    result = {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [choice]}}
    server.ask(f"/api/tasks/{task['id']}/annotations", {"result": [result], "was_cancelled": False})


def test_round_trip(server, folder, truth, features, tmp_path):
    learner = al.open(folder, features=features)
    learner.accept(dict(list(truth.items())[:9]))
    picks = learner.propose(6, audit=2)
    made = learner.project.folder_of(1)

    config = (made / "label_studio.xml").read_text()
    number = server.ask("/api/projects", {"title": "photos", "label_config": config})["id"]
    tasks = json.loads((made / "label_studio.json").read_text())
    imported = server.ask(f"/api/projects/{number}/import", tasks)
    assert imported["task_count"] == len(tasks) == 8
    assert imported["prediction_count"] == 6

    listed = {task["data"]["path"]: task for task in server.ask(f"/api/tasks?project={number}&fields=all")["tasks"]}
    assert listed.keys() == {pick.path for pick in picks}
    scores = {path: [one["score"] for one in task["predictions"]] for path, task in listed.items()}
    for pick in picks:
        assert scores[pick.path] == ([] if pick.audit else [pytest.approx(pick.probability)])

    for pick in picks[:5]:
        annotate(server, listed[pick.path], truth[pick.path])
    annotate(server, listed[picks[5].path], NONE_OF_THEM)
    skipped = server.ask(f"/api/tasks/{listed[picks[6].path]['id']}/annotations", {"result": [], "was_cancelled": True})
    assert skipped["was_cancelled"]
    # and picks[7], of the audit, stays open

    for kind, file in (("JSON", "full.json"), ("JSON_MIN", "minimal.json")):
        every = f"/api/projects/{number}/export?exportType={kind}&download_all_tasks=true"
        (tmp_path / file).write_text(json.dumps(server.ask(every)))
    outcome = learner.accept(tmp_path / "full.json")
    assert (outcome.labelled, outcome.unanswered, outcome.known) == (5, 1, 0)
    assert outcome.skipped == {NONE_OF_THEM: 1, "skipped in Label Studio": 1}
    assert not outcome.unknown_images
    again = learner.accept(tmp_path / "minimal.json")
    assert (again.labelled, again.known) == (0, 6)
    held = {event.path: event for event in holding(learner.project.answers()).values()}
    assert all(held[pick.path].label == truth[pick.path] for pick in picks[:5])
    assert held[picks[0].path].origin.endswith("full.json, annotator 1")


def test_its_editor_can_show_the_images(server, folder, truth, features):
    """A data URI comes back as it was sent."""
    learner = al.open(folder, features=features)
    learner.propose(2)
    made = learner.project.folder_of(0)
    config = '<View><Image name="image" value="$image"/></View>'
    number = server.ask("/api/projects", {"title": "first", "label_config": config})["id"]
    tasks = json.loads((made / "label_studio.json").read_text())
    server.ask(f"/api/projects/{number}/import", tasks)
    listed = server.ask(f"/api/tasks?project={number}&fields=all")["tasks"]
    assert {task["data"]["image"] for task in listed} == {task["data"]["image"] for task in tasks}
    assert photos.CLASSES  # no class is known yet, and the interface has the one choice that there always is
    assert "none of the classes" in (made / "label_studio.xml").read_text()
