"""The study's part of a report: there for runs on its data, and nowhere else."""

import re

import pytest
from report_results import World, write_cells

from sweeps.report.__main__ import main
from sweeps.report.zero_shot import ZeroShot
from sweeps.study.published import published_zero_shot

DIGITS = {"dataset": "digits", "model": "small_cnn", "weights": "none", "variant": "balanced_20", "initial_min": 20}
OWN = World(classes=[str(k) for k in range(10)], train=5000, test=1000)


def report(root) -> tuple[str, set[str]]:
    """The page, and the names of the tables and figures beside it."""
    assert main(["--results-dir", str(root)]) == 0
    folder = root / "report"
    return (folder / "index.html").read_text(), {path.stem for path in folder.glob("*/*")}


@pytest.mark.parametrize("data", [DIGITS, DIGITS | {"dataset": "imagefolder", "variant": "balanced_10"}])
def test_other_data_has_nothing_of_the_study(tmp_path, capsys, data):
    write_cells(tmp_path, OWN, ("stratified", "random", "margin"), (12, 34), **data)
    page, files = report(tmp_path)
    page = re.sub(r"base64,[^\"]*", "", page)
    for word in ("The study", "published", "Claims", "Figure 1", "Table 2", "C8"):
        assert word not in page, word
    assert not [name for name in files if name.startswith(("figure", "table", "claims"))]
    assert [name for name in files if name.startswith("confusion_")]
    assert [name for name in files if name.startswith("epochs_")]


@pytest.mark.parametrize("dataset", ["cifar10", "imagefolder"])
def test_the_studys_data_has_its_figures_and_tables_by_number(tmp_path, capsys, dataset):
    write_cells(tmp_path, World(), ("stratified", "margin"), (12,), variant="balanced_1", dataset=dataset)
    page, files = report(tmp_path)
    assert page.index("Learning curves</h2>") < page.index("The study&#39;s claims</h2>") < page.index("Classes</h2>")
    assert {"claims", "table1_variants", "table2_results", "figure1_accuracy", "figure6_zero_shot"} <= files
    assert [name for name in files if name.startswith("figure11_epochs_")]
    assert [name for name in files if name.startswith("figure12_confusion_")]
    assert not [name for name in files if name.startswith(("epochs_", "confusion_"))]


def test_beside_the_study_other_data_keeps_its_own_names(tmp_path, capsys):
    write_cells(tmp_path, World(), ("stratified", "margin"), (12,), variant="balanced_1")
    write_cells(tmp_path, OWN, ("stratified", "margin"), (12,), **DIGITS)
    _, files = report(tmp_path)
    assert [name for name in files if name.startswith("figure12_confusion_cifar10")]
    assert [name for name in files if name.startswith("confusion_digits")]
    assert "claims_2" not in files


def write_zero_shot(folder, labels: ZeroShot) -> None:
    folder.mkdir(parents=True)
    lines = ["true\\clip," + ",".join(labels.classes)]
    lines += [f"{name}," + ",".join(map(str, row)) for name, row in zip(labels.classes, labels.confusion)]
    (folder / "clip_transitions.csv").write_text("\n".join(lines))
    means = [f"{name},0.8" for name in labels.classes]
    (folder / "clip_statistics.csv").write_text("\n".join(["class,mean_confidence", *means]))
    (folder / "clip_confidences.csv").write_text("from,to,images\n0.0,0.5,10\n0.5,1.0,90\n")


def test_zero_shot_labels_stand_beside_the_published_where_they_are_of_its_classes(tmp_path, capsys):
    write_zero_shot(tmp_path / "clip" / "a", published_zero_shot())
    write_zero_shot(tmp_path / "clip" / "b", ZeroShot(("x", "y"), ((3, 1), (0, 4)), ()))
    write_cells(tmp_path, World(), ("margin",), (12,), variant="balanced_1")
    page, files = report(tmp_path)
    assert {"figure6_confidences", "figure7_transitions", "figure6_zero_shot"} <= files
    assert {"confidences", "transitions", "zero_shot"} <= files
    assert "87.5 % of 50,000 labels are right" in page
    assert "87.5 % of 8 labels are right" in page
