"""Two runs are one only where configuration, images, files and revisions are."""

import pytest

from al.config import RunConfig
from al.identity import Identity, local_sources


def identity(**sources) -> Identity:
    return Identity("d", "f", sources)


def test_other_content_under_the_same_path_is_another_run(tmp_path):
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"one")
    config = RunConfig(weights=str(weights))
    before = Identity.of(config, "f")
    assert Identity.of(config, "f").differs(before) is None
    weights.write_bytes(b"other")
    assert "other weights" in Identity.of(config, "f").differs(before)
    assert "other images" in Identity.of(config, "g").differs(before)


def test_a_file_is_hashed_once_while_it_stays_the_same(tmp_path, monkeypatch):
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"large")
    hashed = []
    monkeypatch.setattr("al.identity.sha256", lambda file: hashed.append(file) or "digest")
    for _ in range(3):
        local_sources(RunConfig(weights=str(weights)))
    assert hashed == [weights]


def test_the_revision_of_a_model_of_the_hub_counts(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    config = RunConfig(model="google/efficientnet-b0")
    before = Identity.of(config, "f")
    refs = tmp_path / "models--google--efficientnet-b0" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("1111\n")
    first = Identity.of(config, "f")
    assert first.sources == {"model@revision": "1111"}
    assert first.differs(before) is None  # a run of before does not know it
    (refs / "main").write_text("2222\n")
    assert "other weights" in Identity.of(config, "f").differs(first)


@pytest.mark.parametrize(
    ("one", "other"), [({}, {"weights": "1"}), ({"weights": "1"}, {}), ({"model": "1"}, {"model": "2"})]
)
def test_a_file_that_only_one_of_them_had_is_a_difference(one, other):
    assert identity(**one).differs(identity(**other))
