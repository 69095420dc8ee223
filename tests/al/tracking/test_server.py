"""A W&B server that cannot be reached costs seconds, not the run; a key that it does not accept is the user's error."""

import contextlib
import os
import time

import pytest
from wandb_server import WandbServer

from al.errors import UserError
from al.tracking import server as tracking
from al.tracking.server import Unreachable, check_server


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "PATIENCE", 0.5)
    with WandbServer() as running:
        for name in [name for name in os.environ if name.startswith("WANDB")]:
            monkeypatch.delenv(name)
        for name, value in running.environment(tmp_path).items():
            monkeypatch.setenv(name, value)
        yield running


def test_a_server_that_answers_is_fine(server):
    check_server()
    assert [name for name, _ in server.requests] == ["Viewer"]


@pytest.mark.parametrize("trouble", ["refused", "reset", "hanging", "unknown host", "429", "500", "no address"])
def test_one_that_cannot_be_reached_is_one_line_in_seconds(server, monkeypatch, trouble):
    url = {
        "refused": "http://127.0.0.1:9",
        "unknown host": "http://nowhere.invalid",
        "no address": "nowhere",
    }.get(trouble)
    if url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
    with contextlib.ExitStack() as during:
        if trouble == "reset":
            during.enter_context(server.down())
        elif trouble == "hanging":
            during.enter_context(server.hung())
        elif trouble.isdigit():
            during.enter_context(server.failing(int(trouble)))
        start = time.monotonic()
        with pytest.raises(Unreachable) as error:
            check_server()
    assert time.monotonic() - start < 5
    assert "\n" not in str(error.value)
    assert tracking.base_url() in str(error.value)


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_not_accepted_is_the_users_to_know(server, status):
    with server.failing(status), pytest.raises(UserError, match="does not accept the API key") as error:
        check_server()
    assert "\n" not in str(error.value)


def test_the_host_of_wandb_login_is_everyones(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_BASE_URL", raising=False)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    assert tracking.base_url() == "https://api.wandb.ai"
    (tmp_path / "settings").write_text("[default]\nbase_url = https://wandb.example.org/\n")
    assert tracking.base_url() == "https://wandb.example.org"
    from sweeps.runner import launch

    assert launch.base_url() == "https://wandb.example.org"
