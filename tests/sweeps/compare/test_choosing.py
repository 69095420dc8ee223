"""What is chosen for a folder of images, and that a run can be made of it."""

from pathlib import Path

import numpy as np
import pytest

from al.budget import budget_of
from al.config import RunConfig
from al.errors import UserError
from data_prep.variants import draw_variant
from sweeps.compare import choosing
from sweeps.compare.choosing import BASIC, CHOICES, Images, Wishes, choose

FROZEN = Wishes(features="file:vectors.npz")


def folder(counts, sizes=None, split_file=Path("split.csv")):
    counts = {f"class {i}": count for i, count in enumerate(counts)}
    return Images(Path("/photos"), counts, sizes or {(640, 480): 5, (480, 640): 5}, split_file)


@pytest.fixture(autouse=True)
def nothing_to_be_had(monkeypatch):
    """No model on this machine, and no Hub."""

    def refused(parameter, model, remedy):
        raise UserError(f"{model}: not to be had")

    monkeypatch.setattr(choosing, "cached_model", lambda name: None)
    monkeypatch.setattr(choosing, "model_folder", refused)
    for name in choosing.HUB_OFF:
        monkeypatch.delenv(name, raising=False)


def told(choice, what):
    return next(reason for reason in choice.reasons if reason.what == what)


def config_of(choice, strategy):
    return RunConfig.from_mapping({**choice.parameters, "strategy": strategy})


FOLDERS = {
    "two classes": [(150, 60), (130, 60)],
    "very uneven": [(900, 300), (40, 15), (9, 3), (1, 1)],
    "tiny": [(4, 2), (4, 2)],
    "many classes": [(8, 3)] * 3000,
    "large": [(5000, 1000)] * 10,
    "odd": [(37, 11), (53, 20), (71, 30)],
}


class TestLabels:
    @pytest.mark.parametrize("wishes", [FROZEN, Wishes()], ids=["frozen", "network"])
    @pytest.mark.parametrize("name", FOLDERS)
    def test_a_run_gets_the_counts_that_were_told(self, name, wishes):
        images = folder(FOLDERS[name])
        choice = choose(images, wishes)
        config = config_of(choice, "random")
        labels = np.repeat(np.arange(len(images.counts)), [train for train, _ in images.counts.values()])
        variant = draw_variant(labels, list(images.counts), config.shares, None, np.random.default_rng(0))
        budget = budget_of(config, len(variant), images.train, len(images.counts))
        assert (budget.initial, *budget.milestones) == choice.labels
        budget_of(config_of(choice, "stratified"), len(variant), images.train, len(images.counts))

    @pytest.mark.parametrize("name", ["two classes", "large", "odd", "very uneven"])
    def test_stratified_sampling_gets_as_many_as_the_others(self, name):
        images = folder(FOLDERS[name])
        choice = choose(images, FROZEN)
        labels = np.repeat(np.arange(len(images.counts)), [train for train, _ in images.counts.values()])
        shares = config_of(choice, "stratified").shares
        variant = draw_variant(labels, list(images.counts), shares, None, np.random.default_rng(0))
        assert len(variant) == pytest.approx(choice.labels[-1], abs=2)

    def test_the_share_is_short_and_that_of_an_earlier_comparison_stays(self):
        images = folder([(126, 30)] * 8 + [(125, 30)] * 2)
        choice = choose(images, FROZEN)
        assert choice.labels[-1] == 320
        assert choice.parameters["variant"] == "balanced_25.4"
        earlier = choose(images, FROZEN._replace(variant="balanced_25.4372")).parameters["variant"]
        assert earlier == "balanced_25.4372"  # as many labels, so that its runs count
        other = choose(images, FROZEN._replace(variant="balanced_31.7965")).parameters["variant"]
        assert other == "balanced_25.4"

    @pytest.mark.parametrize("name", FOLDERS)
    def test_shares_have_two_decimals_at_most_where_that_is_as_near(self, name):
        share = choose(folder(FOLDERS[name]), FROZEN).parameters["variant"].removeprefix("balanced_")
        assert len(share.partition(".")[2]) <= 2

    def test_they_double(self):
        assert choose(folder([(5000, 1000)] * 10), FROZEN).labels == (10, 20, 40, 80, 160, 320, 640)

    @pytest.mark.parametrize("name", FOLDERS)
    def test_there_is_something_left_to_choose_from(self, name):
        images = folder(FOLDERS[name])
        choice = choose(images, FROZEN)
        assert len(images.counts) <= choice.labels[0] < choice.labels[-1] <= images.train

    def test_too_few_images_are_one_line(self):
        with pytest.raises(UserError, match="leave nothing to choose from"):
            choose(folder([(1, 1), (1, 1)]), FROZEN)


class TestModel:
    def test_the_one_asked_for(self):
        choice = choose(folder([(50, 20)] * 3), Wishes("/models/mine", 112))
        assert choice.parameters["model"] == "frozen"
        assert (choice.parameters["features"], choice.parameters["features_size"]) == ("/models/mine", 112)
        assert told(choice, "model").why == "as you asked"

    def test_one_in_the_cache(self, monkeypatch, tmp_path):
        (tmp_path / "preprocessor_config.json").write_text('{"crop_size": {"height": 196, "width": 196}}')
        monkeypatch.setattr(choosing, "cached_model", {"openai/clip-vit-base-patch32": tmp_path}.get)
        choice = choose(folder([(50, 20)] * 3), Wishes())
        assert choice.parameters["features"] == "openai/clip-vit-base-patch32"
        assert choice.parameters["image_size"] == 196
        assert "cache" in told(choice, "model").why

    def test_one_from_the_hub(self, monkeypatch):
        monkeypatch.setattr(choosing, "model_folder", lambda *_: Path("/cache"))
        assert choose(folder([(50, 20)] * 3), Wishes()).parameters["features"] == "facebook/dinov2-small"

    def test_else_a_network_from_scratch(self):
        choice = choose(folder([(50, 20)] * 3), Wishes())
        assert choice.parameters["model"] == "small_cnn"
        assert "cannot be reached" in told(choice, "model").why

    def test_the_hub_is_not_asked_where_it_is_switched_off(self, monkeypatch):
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.setattr(choosing, "model_folder", lambda *_: pytest.fail("the Hub was asked"))
        assert "HF_HUB_OFFLINE" in told(choose(folder([(50, 20)] * 3), Wishes()), "model").why

    def test_tiny_images_need_none(self, monkeypatch):
        monkeypatch.setattr(choosing, "cached_model", lambda name: Path("/cache"))
        choice = choose(folder([(50, 20)] * 3, {(8, 8): 210}), Wishes())
        assert choice.parameters["model"] == "small_cnn"
        assert choice.parameters["augment"] is False


class TestImageSize:
    @pytest.mark.parametrize(
        ("sizes", "expected"),
        [
            ({(64, 64): 10}, None),  # as stored
            ({(640, 480): 10}, 112),  # what the model sees
            ({(50, 40): 10, (40, 60): 10}, 40),  # no larger than the images
            ({(4000, 3000): 1, (50, 40): 99}, 40),
            ({(16, 16): 10}, 16),
        ],
    )
    def test_is_what_the_model_sees_and_the_images_have(self, sizes, expected):
        choice = choose(folder([(50, 20)] * 3, sizes), Wishes("/models/mine", 112))
        assert choice.parameters.get("image_size") == expected

    @pytest.mark.parametrize(
        ("name", "text", "side"),
        [
            ("preprocessor_config.json", '{"size": {"shortest_edge": 256}, "crop_size": 224}', 224),
            ("preprocessor_config.json", '{"size": {"height": 384, "width": 384}}', 384),
            ("config.json", '{"pretrained_cfg": {"input_size": [3, 192, 192]}}', 192),
            ("config.json", '{"image_size": 518}', 518),
            ("config.json", "not JSON", 224),
        ],
    )
    def test_is_read_from_the_folder_of_the_model(self, tmp_path, name, text, side):
        (tmp_path / name).write_text(text)
        choice = choose(folder([(50, 20)] * 3, {(2000, 2000): 210}), Wishes(str(tmp_path)))
        assert choice.parameters["image_size"] == side


class TestStrategies:
    def test_each_has_a_reason(self):
        for wishes, kind in ((FROZEN, "frozen"), (Wishes(), "network")):
            choice = choose(folder([(50, 20)] * 3), wishes)
            assert choice.strategies == (*BASIC, *CHOICES[kind])
            reasons = {reason.chosen: reason.why for reason in choice.reasons if reason.what == "strategy"}
            assert reasons.keys() == set(choice.strategies)
            assert all(reasons.values())

    def test_those_asked_for_come_with_what_they_are_compared_with(self):
        wishes = Wishes("file:vectors.npz", None, ("coreset", "random", "margin"))
        choice = choose(folder([(50, 20)] * 3), wishes)
        assert choice.strategies == ("stratified", "random", "coreset", "margin")
        assert choice.gauge == "coreset"

    @pytest.mark.parametrize(
        ("asked", "gauge"), [((), "typiclust_typical"), (("margin",), "margin"), (("random",), "random")]
    )
    def test_time_is_reckoned_by_one_that_stays_and_acquires(self, asked, gauge):
        assert choose(folder([(50, 20)] * 3), Wishes("file:vectors.npz", None, asked)).gauge == gauge

    def test_an_unknown_one_is_one_line(self):
        with pytest.raises(UserError, match="did you mean 'margin'"):
            choose(folder([(50, 20)] * 3), Wishes("file:vectors.npz", None, ("margn",)))
