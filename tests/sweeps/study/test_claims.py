"""The study's claims and tables on synthetic runs whose truth is known."""

import numpy as np
import pytest
from report_results import World, write_cells, write_study

from sweeps.report.cells import organise
from sweeps.report.load import load_results
from sweeps.report.statistics import FAILS, HOLDS, UNKNOWN
from sweeps.report.zero_shot import ZeroShot
from sweeps.study.claims import claims
from sweeps.study.published import published_zero_shot, table2
from sweeps.study.tables import results_table


def families(tmp_path):
    return organise(load_results(tmp_path))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    write_study(root, World(noise=0.3, clip_cost=0.0))
    return root


@pytest.fixture(scope="module")
def family(study):
    (family,) = organise(load_results(study))
    return family


def verdicts(family, zero_shot=()):
    found = {}
    for claim in claims(family, zero_shot):
        found.setdefault(claim.id, []).append(claim.verdict)
    return found


def test_all_44_configurations_are_found(family):
    cells = {cell.name for cell in family.everyone}
    assert len(cells) == 44
    table = results_table(family)
    assert len(table.rows) == 44
    assert all(row[4] == 5 for row in table.rows)


def test_claims_on_a_world_with_known_effects(family):
    found = verdicts(family, [published_zero_shot()])
    assert found["C2"] == [HOLDS]  # 4 points at every budget
    assert found["C3"] == [HOLDS]  # no difference at all
    assert found["C4"] == [HOLDS]  # 1.3 to 1.45 times
    assert found["C7"] == [HOLDS]
    assert found["C8"][0] == HOLDS  # CLIP costs nothing
    assert found["C5"][2] == FAILS  # far more is saved at 3/1 than the claimed 20 %


def test_claims_turn_when_the_world_does(tmp_path):
    world = World(effects={"margin": 8.0}, clip_cost=8.0, weight_gain=6.0, slowness={"typiclust": 4.0})
    write_study(tmp_path, world, seeds=(12, 34, 56))
    (family,) = families(tmp_path)
    half_right = ZeroShot(("a", "b"), ((12_500, 12_500), (12_500, 12_500)), ())
    found = verdicts(family, [half_right])
    assert found["C3"] == [FAILS]
    assert found["C4"] == [FAILS]
    assert found["C6"] == [FAILS]
    assert found["C7"] == [FAILS]
    assert found["C8"] == [FAILS, FAILS]


def test_zero_shot_labels_are_judged_only_where_they_are_the_training_sets(family):
    paper = published_zero_shot()
    assert verdicts(family, [])["C7"] == [UNKNOWN]
    assert verdicts(family, [paper, paper])["C7"] == [UNKNOWN]  # two models: which of them is CLIP is not known
    test_set = paper._replace(confusion=tuple(tuple(n // 5 for n in row) for row in paper.confusion))
    assert verdicts(family, [test_set])["C7"] == [UNKNOWN]


def test_one_seed_tells_nothing(tmp_path):
    write_study(tmp_path, World(), seeds=(12,))
    (family,) = families(tmp_path)
    found = verdicts(family)
    assert {verdict for group in found.values() for verdict in group} == {UNKNOWN}


def test_published_values_stand_beside_ones_own(family):
    table = results_table(family)
    column = {name: k for k, name in enumerate(table.columns)}
    row = next(row for row in table.rows if row[:4] == ("balanced_10", "margin", False, False))
    own, paper, difference = row[column["test acc. (%)"] :][:3]
    cell = next(
        c for s in family.find(variant="balanced_10", init="stratified") for c in s.cells if c.label == "margin"
    )
    assert own == pytest.approx(cell.values(lambda run: run.test["accuracy"]).mean())
    assert paper == 73.41
    assert difference == pytest.approx(own - paper)
    assert len(table2()) == 44


def test_cifar_10_as_image_files_has_the_published_values_too(tmp_path):
    write_cells(tmp_path, World(), ("margin",), (12, 34), variant="balanced_10", dataset="imagefolder")
    (family,) = families(tmp_path)
    row = next(row for row in results_table(family).rows if row[:2] == ("balanced_10", "margin"))
    assert row[4] == 2
    assert 73.41 in row


def test_labels_used_under_imbalance_have_the_published_number_beside_them(family):
    table = results_table(family)
    row = next(row for row in table.rows if row[:4] == ("imbalanced_50_1", "margin", False, False))
    assert row[6] == 7437
    (setting,) = family.find(variant="imbalanced_50_1")
    assert row[5] == pytest.approx(setting.cell("margin").values(lambda run: run.labels).mean())


def test_a_strategy_that_never_beats_the_baseline_takes_nothing_from_what_the_others_save(tmp_path):
    variant = {"variant": "imbalanced_3_1"}
    write_cells(tmp_path, World(), ("stratified",), (12, 34, 56), **variant)
    write_cells(tmp_path, World(), ("uncertainty", "margin"), (12, 34, 56), **variant, stop="baseline")
    write_cells(tmp_path, World(loss_penalty=5.0), ("typiclust",), (12, 34, 56), **variant, stop="baseline")
    (family,) = families(tmp_path)
    (setting,) = family.settings
    whole = {run.seed: run.human_labels for run in setting.baseline.runs}
    shares = [
        100 * (1 - run.human_labels / whole[run.seed]) if run.result.reached_baseline else 0.0
        for cell in setting.cells
        for run in cell.runs
    ]
    assert np.mean(shares) > 20
    claim = next(claim for claim in claims(family) if claim.id == "C5" and "imbalanced_3_1" in claim.claim)
    assert claim.found.startswith(f"{np.mean(shares):.1f} % [")


def test_two_seeds_that_agree_do_not_make_a_claim_hold(tmp_path):
    for weights in (False, True):
        common = {"variant": "imbalanced_10_1", "class_weights": weights}
        write_cells(tmp_path, World(noise=0.0, seed_spread=0.0), ("stratified",), (12, 34), **common)
    (family,) = families(tmp_path)
    assert verdicts(family)["C6"] == [UNKNOWN]


def test_class_weights_at_one_imbalance_do_not_settle_the_claim_on_both(tmp_path):
    for weights in (False, True):
        common = {"variant": "imbalanced_3_1", "class_weights": weights}
        write_cells(tmp_path, World(noise=0.3), ("stratified",), **common)
    (family,) = families(tmp_path)
    assert verdicts(family)["C6"] == [UNKNOWN]
