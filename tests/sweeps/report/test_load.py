"""Reading results: what counts, what is left out and why, and what belongs together."""

import json
import shutil

import numpy as np
import pytest
from report_results import World, write_cells, write_run

from al.config import RunConfig
from al.errors import UserError
from sweeps.report.analysis import labels_curve
from sweeps.report.cells import organise
from sweeps.report.curves import band, learning_curve
from sweeps.report.label_savings import reach
from sweeps.report.load import load_results, select

DIGITS = {"dataset": "digits", "model": "small_cnn", "weights": "none", "variant": "balanced_20", "initial_min": 20}
SMALL = World(classes=[str(k) for k in range(10)], train=1437, test=360)

COMPLETE = "performance_metrics.json"


def left_out(results) -> dict[str, str]:
    return {item.source: item.reason for item in results.left_out}


def edit(path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_run_is_read_as_it_was_written(tmp_path):
    config = RunConfig(strategy="margin", **DIGITS)
    folder = write_run(tmp_path, config, SMALL)
    (run,) = load_results(tmp_path).runs
    rows = [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]
    metrics = json.loads((folder / "performance_metrics.json").read_text())
    assert run.config == config
    assert run.digest == config.digest()
    assert run.column("test", "accuracy").tolist() == [row["test"]["accuracy"] for row in rows]
    assert run.phase("score").tolist() == [row["seconds"]["score"] for row in rows]
    assert run.labels == metrics["labels_used"] == rows[-1]["labels"]
    assert run.seconds == pytest.approx(sum(row["seconds"]["round"] for row in rows))
    assert sum(len(round_.rows) for round_ in run.rounds) == run.labels


def test_no_folder_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="no such folder; run a sweep first"):
        load_results(tmp_path / "nowhere")


def test_an_unfinished_run_is_named_with_its_command_and_counts_nowhere(tmp_path):
    config = RunConfig(strategy="margin", **DIGITS)
    folder = write_run(tmp_path, config, SMALL, complete=False)
    with (folder / "epochs.jsonl").open("a") as file:
        file.write('{"epoch": 99, "labels": 28')
    results = load_results(tmp_path)
    assert results.runs == []
    (item,) = results.left_out
    assert item.reason == "unfinished: epoch 27, 286 labels so far"
    assert item.command == f"{config.command()} --results_dir={tmp_path}"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: (f / "config.json").write_text("{"), "config.json cannot be read"),
        (lambda f: (f / "config.json").unlink(), "config.json is missing"),
        (lambda f: edit(f / "config.json", lambda c: c["config"].update(lr=0.5)), "digest in config.json"),
        (lambda f: edit(f / "config.json", lambda c: c["config"].update(speed=9)), "speed=9: unknown parameter"),
        (lambda f: edit(f / COMPLETE, lambda m: m.update(digest="0" * 64)), "another digest"),
        (lambda f: edit(f / COMPLETE, lambda m: m["data"].update(fingerprint="x")), "names other data"),
        (lambda f: edit(f / COMPLETE, lambda m: m["test_metrics"].pop("accuracy")), "lacks test accuracy"),
        (lambda f: edit(f / COMPLETE, lambda m: m["test_metrics"].update(loss=None)), "lacks test accuracy"),
        (lambda f: edit(f / COMPLETE, lambda m: m["test_metrics"].update(loss=float("nan"))), "no finite number"),
        (lambda f: (f / COMPLETE).write_text("[]"), "performance_metrics.json cannot be read (no JSON object)"),
        (lambda f: (f / "epochs.jsonl").write_text('{"epoch": 1'), "a line that is not JSON"),
        (lambda f: (f / "epochs.jsonl").write_text(""), "0 rows where 27 epochs were trained"),
        (lambda f: (f / "epochs.jsonl").unlink(), "epochs.jsonl is missing"),
        (
            lambda f: (f / "rounds.jsonl").write_text('{"round": 0}'),
            "no record of a run (labels: Field required)",
        ),
    ],
)
def test_damage_is_named_and_left_out(tmp_path, damage, reason):
    folders = [write_run(tmp_path, RunConfig(strategy="margin", split_seed=s, **DIGITS), SMALL) for s in (1, 2)]
    damage(folders[0])
    results = load_results(tmp_path)
    assert [run.seed for run in results.runs] == [2]
    ((source, found),) = left_out(results).items()
    assert source.endswith("split_seed_1")
    assert reason in found


CONTENTS = {
    "nothing": b"",
    "half": None,
    "a list": b"[1,2]",
    "null": b"null",
    "a number": b"5",
    "text": b'"text"',
    "an empty object": b"{}",
    "not UTF-8": b'{"a": "\xff\xfe"}',
    "zeros": bytes(4096),
    "deep": b"[" * 100_000,
    "huge": b'{"digest": 1' + b"0" * 5000 + b"}",
}
FILES = ("config.json", COMPLETE, "epochs.jsonl", "rounds.jsonl")
FIELDS = [
    ("config.json", lambda c: c.update(data=[])),
    ("config.json", lambda c: c.update(data={"name": 1})),
    ("config.json", lambda c: c.update(sources=[1])),
    ("config.json", lambda c: c.update(config=[1])),
    (COMPLETE, lambda m: m.update(environment=[1])),
    (COMPLETE, lambda m: m.update(test_metrics=[1])),
    (COMPLETE, lambda m: m.update(test_metrics={"accuracy": "high", "loss": 1})),
    (COMPLETE, lambda m: m.update(labels_used="many")),
    (COMPLETE, lambda m: m.update(best_epoch={})),
    (COMPLETE, lambda m: m.update(training_time_seconds=float("nan"))),
    (COMPLETE, lambda m: m["test_metrics"].update(per_class=7)),
    (COMPLETE, lambda m: m["test_metrics"].update(confusion_matrix="x")),
]


def damages() -> list:
    whole = [(file, name) for file in FILES for name in CONTENTS]
    return [pytest.param(*d, id=f"{d[0]}: {d[1]}") for d in whole] + [pytest.param(*d) for d in FIELDS]


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    root = tmp_path_factory.mktemp("intact")
    write_cells(root, SMALL, ("margin", "random"), (1, 2), **DIGITS)
    return root


@pytest.mark.parametrize(("file", "damage"), damages())
def test_any_damage_to_a_seed_leaves_it_out_by_name_and_keeps_the_rest(tmp_path, intact, file, damage):
    root = tmp_path / "results"
    shutil.copytree(intact, root)
    victim = sorted(root.glob("*margin*/split_seed_1"))[0] / file
    if callable(damage):
        edit(victim, damage)
    else:
        whole = victim.read_bytes()
        content = CONTENTS[damage]
        victim.write_bytes(whole[: len(whole) // 2] if content is None else content)
    results = load_results(root)
    found = organise(results)
    if (file, damage) == ("rounds.jsonl", "nothing"):  # as of a run without a record of its picks
        return
    assert sorted(run.seed for run in results.runs) == [1, 2, 2]
    ((source, reason),) = left_out(results).items()
    assert source.endswith("split_seed_1")
    assert file in reason or "data set" in reason
    assert "\n" not in reason
    assert len(found) == 1


def test_a_copied_run_counts_once(tmp_path):
    folder = write_run(tmp_path, RunConfig(strategy="margin", **DIGITS), SMALL)
    shutil.copytree(folder, tmp_path / "copy" / "split_seed_12")
    results = load_results(tmp_path)
    assert len(results.runs) == 1
    assert "the same run as" in results.left_out[0].reason


def test_other_data_under_the_same_name_is_another_setting_and_the_page_says_so(tmp_path):
    other = World(classes=SMALL.classes, train=1437, test=360, fingerprint="e" * 64)
    for seed, world in ((1, SMALL), (2, SMALL), (3, other)):
        write_run(tmp_path, RunConfig(strategy="margin", split_seed=seed, **DIGITS), world)
    results = load_results(tmp_path)
    families = organise(results)
    seeds = [[run.seed for run in family.settings[0].cells[0].runs] for family in families]
    assert seeds == [[1, 2], [3]]
    assert "2 different data sets" in results.notes[0]
    assert len({family.title for family in families}) == 2


@pytest.mark.parametrize(
    "field",
    [{"lr": 0.01}, {"seed": 7}, {"schedule": "converge"}, {"pool_scope": "variant"}, {"batch_fraction": 0.2}],
)
def test_other_parameters_are_another_setting(tmp_path, field):
    write_cells(tmp_path, SMALL, ("margin", "uncertainty"), (1, 2), **DIGITS)
    write_cells(tmp_path, SMALL, ("margin",), (3,), **DIGITS, **field)
    settings = [setting for family in organise(load_results(tmp_path)) for setting in family.settings]
    found = [[(cell.label, [run.seed for run in cell.runs]) for cell in setting.cells] for setting in settings]
    assert sorted(found, key=len, reverse=True) == [
        [("uncertainty", [1, 2]), ("margin", [1, 2])],
        [("margin", [3])],
    ]
    families = organise(load_results(tmp_path))
    assert len({(f.title, s.title) for f in families for s in f.settings}) == 2


def test_a_baseline_serves_every_acquisition_schedule_with_its_training(tmp_path):
    write_cells(tmp_path, SMALL, ("stratified",), (1, 2), **DIGITS)
    write_cells(tmp_path, SMALL, ("margin",), (1, 2), **DIGITS)
    write_cells(tmp_path, SMALL, ("margin",), (1, 2), **DIGITS, batch_fraction=0.2)
    write_cells(tmp_path, SMALL, ("margin",), (1, 2), **DIGITS, lr=0.01)
    settings = [setting for family in organise(load_results(tmp_path)) for setting in family.settings]
    found = {(s.config.lr, s.config.batch_fraction): s.baseline is not None for s in settings}
    assert found == {(0.001, 0.05): True, (0.001, 0.2): True, (0.01, 0.05): False}


def test_two_strategies_in_turn_are_a_cell_beside_each_alone(tmp_path):
    both = "typiclust_typical,margin"
    write_cells(tmp_path, SMALL, ("margin", both, "typiclust_typical", "badge", "random"), (1, 2), **DIGITS)
    (setting,) = (setting for family in organise(load_results(tmp_path)) for setting in family.settings)
    named = "typiclust_typical then margin"
    assert [cell.label for cell in setting.cells] == ["random", "margin", "typiclust_typical", named, "badge"]
    write_cells(tmp_path, SMALL, (both,), (1, 2), **DIGITS, switch_after=5)
    (setting,) = (setting for family in organise(load_results(tmp_path)) for setting in family.settings)
    assert [cell.label for cell in setting.cells][3:5] == [f"{named} (switch_after={rounds})" for rounds in (3, 5)]


def test_a_stratified_start_beside_a_clip_start_has_no_word_of_clip(tmp_path):
    write_cells(tmp_path, SMALL, ("margin", "random"), (1,), **DIGITS)
    write_cells(tmp_path, SMALL, ("margin",), (1,), **DIGITS, init="clip", clip_prompt="a photo of a {}.")
    (family,) = organise(load_results(tmp_path))
    titles = [setting.title for setting in family.settings]
    assert titles == ["digits balanced_20", "digits balanced_20, clip_prompt=a photo of a {}., CLIP start"]


FROZEN = {"dataset": "digits", "variant": "balanced_20", "initial_min": 20, "model": "frozen", "features": "file:f"}


def cells_found(tmp_path) -> list[tuple[str, str, list[int]]]:
    settings = [setting for family in organise(load_results(tmp_path)) for setting in family.settings]
    return sorted((s.title, cell.label, list(cell.by_seed)) for s in settings for cell in s.cells)


def test_runs_of_other_features_files_are_never_averaged_and_the_file_is_named(tmp_path):
    """One path, other content: the configuration and its digest are the same."""
    for number, digest in enumerate(("a" * 64, "b" * 64)):
        world = World(classes=SMALL.classes, train=1437, test=360, sources={"features": digest})
        write_cells(tmp_path / str(number), world, ("margin", "random", "stratified"), (1, 2), **FROZEN)
    for folder in (tmp_path / "1").iterdir():
        folder.rename(tmp_path / "0" / f"{folder.name}-other")
    results = load_results(tmp_path / "0")
    families = organise(results)
    assert not results.left_out
    assert cells_found(tmp_path / "0") == [
        ("digits balanced_20, features file aaaaaaaa", "margin", [1, 2]),
        ("digits balanced_20, features file aaaaaaaa", "random", [1, 2]),
        ("digits balanced_20, features file bbbbbbbb", "margin", [1, 2]),
        ("digits balanced_20, features file bbbbbbbb", "random", [1, 2]),
    ]
    for family in families:
        (setting,) = family.settings
        assert {tuple(run.sources.items()) for run in setting.baseline.runs} == {
            tuple(setting.cells[0].runs[0].sources.items())
        }
    assert "features=file:f: the runs were made from 2 different files of this name" in " ".join(results.notes)


def test_what_only_one_strategy_reads_does_not_part_it_from_the_others(tmp_path):
    """The strategies that cluster read the features file, margin does not; all start and train alike."""
    own = DIGITS | {"features": "file:f"}
    world = World(classes=SMALL.classes, train=1437, test=360, sources={"features": "a" * 64})
    other = World(classes=SMALL.classes, train=1437, test=360, sources={"features": "b" * 64})
    write_cells(tmp_path, world, ("margin", "typiclust_typical"), (1, 2), **own)
    write_cells(tmp_path, other, ("typiclust_typical",), (3,), **own)
    assert cells_found(tmp_path) == [
        ("digits balanced_20", "margin", [1, 2]),
        ("digits balanced_20", "typiclust_typical (features file aaaaaaaa)", [1, 2]),
        ("digits balanced_20", "typiclust_typical (features file bbbbbbbb)", [3]),
    ]


def test_options_of_the_start_are_told_apart_not_left_out(tmp_path):
    """typiclust_max_clusters chooses other first labels: those runs are another setting, all of them kept."""
    start = FROZEN | {"init": "typiclust_typical"}
    for clusters, shift in ((10, 0), (20, 1)):
        configs = write_cells(tmp_path, SMALL, ("margin", "random"), (1, 2), **start, typiclust_max_clusters=clusters)
        for config in configs if shift else ():
            path = tmp_path / config.cell / f"split_seed_{config.split_seed}" / "rounds.jsonl"
            first, *rest = path.read_text().splitlines()
            first = json.loads(first)
            first["rows"] = [(row + shift) % 1437 for row in first["rows"]]
            path.write_text("\n".join([json.dumps(first), *rest]))
    results = load_results(tmp_path)
    organise(results)
    assert not results.left_out
    found = cells_found(tmp_path)
    assert [(label, seeds) for _, label, seeds in found] == [("margin", [1, 2]), ("random", [1, 2])] * 2
    assert {title.partition("typiclust_max_clusters=")[2] for title, *_ in found} == {"10", "20"}


def test_a_run_from_another_initial_pool_is_not_compared(tmp_path):
    configs = write_cells(tmp_path, SMALL, ("margin", "uncertainty", "typiclust"), (1, 2), **DIGITS)
    odd = next(config for config in configs if config.strategy == "margin" and config.split_seed == 2)
    path = tmp_path / odd.cell / "split_seed_2" / "rounds.jsonl"
    first, *rest = path.read_text().splitlines()
    first = json.loads(first)
    first["rows"][0] = next(row for row in range(1437) if row not in first["rows"])
    path.write_text("\n".join([json.dumps(first), *rest]))
    results = load_results(tmp_path)
    (setting,) = organise(results)[0].settings
    assert {cell.label: list(cell.by_seed) for cell in setting.cells} == {
        "uncertainty": [1, 2],
        "margin": [1],
        "typiclust": [1, 2],
    }
    assert "initial pool differs" in results.left_out[0].reason


def test_missing_runs_of_sweep_files_are_named_with_commands(tmp_path):
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(
        "program: train.py\nmethod: grid\nparameters:\n  dataset: {value: digits}\n  model: {value: small_cnn}\n"
        "  weights: {value: none}\n  variant: {value: balanced_20}\n  initial_min: {value: 20}\n"
        "  strategy: {values: [margin, random]}\n  split_seed: {values: [1, 2]}\n"
    )
    (tmp_path / "results").mkdir()
    write_cells(tmp_path / "results", SMALL, ("margin",), (1,), **DIGITS)
    write_cells(tmp_path / "results", SMALL, ("stratified", "typiclust"), (1,), **DIGITS)
    results = select(load_results(tmp_path / "results"), [sweep], tmp_path / "results")
    # The baseline is taken along, what the file does not ask for is not.
    assert sorted(run.config.strategy for run in results.runs) == ["margin", "stratified"]
    assert results.planned == 4
    assert {(m.config.strategy, m.config.split_seed) for m in results.missing} == {
        ("margin", 2),
        ("random", 1),
        ("random", 2),
    }
    assert all(m.command == f"{m.config.command()} --results_dir={tmp_path}/results" for m in results.missing)
    assert results.command == f"python -m sweeps.local {sweep} --results-dir {tmp_path}/results"
    assert "1 complete runs in the folder belong to no sweep file" in results.notes[0]


def test_the_curve_takes_the_epoch_that_validation_chose_not_the_test_set(tmp_path):
    folder = write_run(tmp_path, RunConfig(strategy="margin", **DIGITS), SMALL)
    rows = [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]
    last = rows[-1]["labels"]
    final = [row for row in rows if row["labels"] == last]
    for row in final:
        row["best"] = row is final[2]
    final[2]["test"]["accuracy"] = 12.5
    final[4]["test"]["accuracy"] = 99.0
    (folder / "epochs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run,) = load_results(tmp_path).runs
    curve = learning_curve(run)
    assert curve.labels.tolist() == sorted({row["labels"] for row in rows})
    assert curve.accuracy[-1] == 12.5
    assert curve.seconds[-1] == pytest.approx(sum(row["seconds"]["round"] for row in rows))
    assert curve.accuracy[0] == rows[0]["test"]["accuracy"]


def test_embeddings_come_before_the_first_label_count_and_old_runs_have_none(tmp_path):
    config = RunConfig(strategy="margin", split_seed=1, **DIGITS)
    write_run(tmp_path / "old", config, SMALL)
    write_run(tmp_path / "new", config, World(SMALL.classes, train=SMALL.train, test=SMALL.test, embedding=40.0))
    old, new = (load_results(tmp_path / name).runs[0] for name in ("old", "new"))
    assert (old.embed_seconds, new.embed_seconds) == (0, 40)
    assert new.seconds == pytest.approx(old.seconds + 40)
    assert new.result.training_time_seconds == old.result.training_time_seconds
    np.testing.assert_allclose(learning_curve(new).seconds, learning_curve(old).seconds + 40)


def test_a_band_ends_where_the_first_seed_ends(tmp_path):
    folders = [write_run(tmp_path, RunConfig(strategy="margin", split_seed=s, **DIGITS), SMALL) for s in (1, 2)]
    lines = (folders[0] / "epochs.jsonl").read_text().splitlines()[:4]
    (folders[0] / "epochs.jsonl").write_text("\n".join(lines))
    edit(folders[0] / "performance_metrics.json", lambda m: m.update(total_epochs=4, labels_used=71))
    cell = organise(load_results(tmp_path))[0].settings[0].cells[0]
    shared = band(cell)
    assert [int(x) for x in shared.x] == [json.loads(line)["labels"] for line in lines]
    assert all(interval.n == 2 for interval in shared.intervals)


def test_free_labels_cost_nothing(tmp_path):
    clip = {**DIGITS, "init": "clip"}
    quiet = World(classes=SMALL.classes, train=1437, test=360, noise=0.0)
    write_run(tmp_path, RunConfig(strategy="margin", **clip), quiet)
    write_run(tmp_path, RunConfig(strategy="margin", **DIGITS), quiet)
    runs = {run.config.init: run for run in load_results(tmp_path).runs}
    free = runs["clip"].labels - runs["clip"].human_labels
    assert free == 29
    needed = {init: reach(labels_curve(run), 70.0).labels for init, run in runs.items()}
    assert needed["stratified"] - needed["clip"] == pytest.approx(free)
    assert reach(labels_curve(runs["clip"]), 101.0).censored
