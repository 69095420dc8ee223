"""Benchmarks give the usual stack its best, time the same work on both sides, and ignore no option."""

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import launch
import pytest

from benchmarks import (
    ablation,
    annotator,
    embedding_shards,
    logging_cost,
    memory,
    precision,
    runs,
    selection,
    staging,
    startup,
    usual,
)
from labelling.estimates import Interval


def test_workers_are_chosen_by_a_pass_that_does_not_start_them(monkeypatch):
    class Loader:
        def __init__(self, workers):
            self.workers, self.started = workers, False

        def run(self):
            time.sleep(0.1 if self.workers and not self.started else 0.0 if self.workers else 0.02)
            self.started = True

    monkeypatch.setattr(usual, "loader", lambda dataset, workers, *, shuffle: Loader(workers))
    monkeypatch.setattr(usual, "cpus", lambda: 1)
    assert usual.best_workers(None, Loader.run) == 1


@pytest.mark.parametrize("what", ["kmeans", "MiniBatchKMeans"])
def test_imports_of_a_clustering_are_not_timed_where_nothing_is_repeated(what, tmp_path, monkeypatch):
    import sklearn.cluster

    events = []
    monkeypatch.setitem(selection.CLOCKS, "wall", lambda: events.append("clock") or 0.0)
    clustered = selection.kmeans
    monkeypatch.setattr(selection, "kmeans", lambda *given: events.append("work") or clustered(*given))
    fit = sklearn.cluster.MiniBatchKMeans.fit
    monkeypatch.setattr(sklearn.cluster.MiniBatchKMeans, "fit", lambda *given: events.append("work") or fit(*given))
    selection.write_pool(tmp_path, (300, 8), "float32", 40, [])
    cost = selection.measure_kmeans(what, tmp_path, argparse.Namespace(repeats=1, clock="wall"))
    assert events == ["work", "clock", "work", "clock"]
    assert cost["inertia"] > 0


def test_processor_time_of_a_run_counts_what_the_system_did_for_it():
    subprocess.run([sys.executable, "-c", "for _ in range(30_000): open('/dev/null').close()"], check=True)
    took = os.times()
    assert runs._processor_of_children() == pytest.approx(took.children_user + took.children_system, abs=0.03)


@pytest.mark.parametrize(
    ("benchmark", "option"),
    [
        (memory, "--repeats=2"),
        (staging, "--repeats=2"),
        (embedding_shards, "--device=cuda"),
        (ablation, "--device=cuda"),
        (selection, "--device=cuda"),
        (precision, "--repeats=2"),
        (startup, "--repeats=0"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(benchmark, option, capsys):
    with pytest.raises(SystemExit) as ended:
        benchmark.main([option, *(["--run=x"] if benchmark is precision else [])])
    assert ended.value.code == 2
    assert option.partition("=")[0] in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("benchmark", [precision, logging_cost])
def test_a_folder_without_a_finished_run_is_one_line(benchmark, tmp_path):
    with pytest.raises(SystemExit) as ended:
        benchmark.main([f"--run={tmp_path}"])
    assert str(ended.value).startswith(f"error: --run={tmp_path}: no finished run; give a folder results/")


def test_intervals_that_cover_too_rarely_fail_for_either_model(monkeypatch, tmp_path, capsys):
    covers, misses = (Interval(50.0, 40.0, 60.0), 50.0), (Interval(50.0, 40.0, 60.0), 70.0)
    monkeypatch.setattr(annotator, "link_images", lambda *_: {})
    common = ["--images=x", "--features=y", f"--out={tmp_path}", "--coverage=2"]
    for found, code in (([misses, covers] * 2, 1), ([covers, misses] * 2, 1), ([covers] * 4, 0)):
        monkeypatch.setattr(annotator, "coverage", lambda *_, found=found: found)
        assert annotator.main(common) == code


PAGES = [launch.ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((launch.ROOT / "docs").glob("*.md"))
COMMAND = re.compile(r"python -m (benchmarks[\w.]*(?: (?:million|ablation))?)((?:\s+-?-?[\w./-]+(?:=[^\s`]*)?)*)")


def documented() -> list[tuple[str, tuple[str, ...]]]:
    """Program and options of every command of a benchmark that a page names."""
    found = [match.groups() for page in PAGES for match in COMMAND.finditer(page.read_text())]
    return sorted({(name, tuple(re.findall(r"--[\w-]+", options))) for name, options in found})


@pytest.mark.parametrize(("program", "options"), documented())
def test_commands_that_the_pages_name_are_there_with_their_options(program, options):
    path = launch.ROOT.joinpath(*program.replace(" ", ".").split("."))
    path = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__main__.py"
    source = path.read_text() + Path(runs.__file__).with_name("measuring.py").read_text()
    assert [option for option in options if f'"{option}"' not in source] == []


def test_the_pages_name_commands():
    named = {program for program, _ in documented()}
    assert {"benchmarks.check", "benchmarks.million", "benchmarks ablation", "benchmarks.registry"} <= named
    assert ("benchmarks.check", ("--device", "--together")) in documented()
