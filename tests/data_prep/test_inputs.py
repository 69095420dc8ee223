"""What a run is given by name is checked before anything heavy: no torch, no images, one line."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import launch
import numpy as np
import pytest
from tiny_data import data_set, image_folder, silent

from al.config import RunConfig
from al.errors import UserError
from al.storage.run_folder import RunFolder
from data_prep.embeddings import cache_dir as embeddings_dir
from data_prep.embeddings import embed
from data_prep.inputs import check_inputs, checked_data
from data_prep.zero_shot.labels import cache_dir, import_logits

CLIP = {"init": "clip", "initial_min": 30}
COLD = {"init": "typiclust_typical"}


def refused(results: Path, **parameters) -> str:
    config = RunConfig.from_mapping({"results_dir": str(results), "model": "resnet18", "weights": "none", **parameters})
    with pytest.raises(UserError) as error:
        check_inputs(config)
    assert "\n" not in str(error.value)
    assert not results.exists(), "something was written"
    return str(error.value)


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({**CLIP, "clip_model": "./nowhere"}, "clip_model='nowhere': no such folder"),
        ({**CLIP, "clip_model": "/no/such/folder"}, "no such folder and not a Hub id"),
        (
            {**CLIP, "clip_model": "no/such-model"},
            "clip_model='no/such-model': no such folder, and the Hugging Face Hub",
        ),
        ({**CLIP, "clip_model": "file:/nowhere.csv"}, "/nowhere.csv: No such file"),
        ({**COLD, "features": "/no/such/folder"}, "features='/no/such/folder': no such folder"),
        (
            {**COLD, "features": "no/such-model"},
            "features='no/such-model': no such folder, and the Hugging Face Hub",
        ),
        ({**COLD, "features": "file:/nowhere"}, "features=file:/nowhere: cannot be read"),
        ({"weights": "/nowhere.pth"}, "weights='/nowhere.pth': no such file"),
    ],
)
def test_what_is_not_there(tmp_path, parameters, words):
    assert words in refused(tmp_path / "results", **parameters)


def test_folders_and_files_of_another_kind(tmp_path, tiny_models):
    empty = tmp_path / "empty"
    empty.mkdir()
    results = tmp_path / "results"
    assert "config.json cannot be read" in refused(results, **CLIP, clip_model=str(empty))
    assert "config.json cannot be read" in refused(results, **COLD, features=str(empty))
    assert "config.json cannot be read" in refused(results, model=str(empty))
    assert "cannot be read" in refused(results, **COLD, features=f"file:{empty}")
    (empty / "config.json").write_text("[]")
    assert "no model's" in refused(results, **CLIP, clip_model=str(empty))
    assert "CLIP or SigLIP" in refused(results, **CLIP, clip_model=str(tiny_models["resnet"]))
    np.savez(tmp_path / "half.npz", train=np.zeros((3, 2), np.float32))
    assert "test.npy" in refused(results, **COLD, features=f"file:{tmp_path / 'half.npz'}")
    (tmp_path / "open.csv").write_text('cat,"dog\n1,2\n')
    assert "not CSV" in refused(results, **CLIP, clip_model=f"file:{tmp_path / 'open.csv'}")
    (tmp_path / "twice.csv").write_text("cat,dog,cat\n1,2,3\n")
    assert "'cat' is there twice" in refused(results, **CLIP, clip_model=f"file:{tmp_path / 'twice.csv'}")


def test_what_serves_is_taken(tmp_path, tiny_models):
    np.savez(tmp_path / "both.npz", train=np.zeros((3, 2), np.float32), test=np.zeros((3, 2), np.float32))
    (tmp_path / "p.csv").write_text("cat,dog\n1,2\n")
    for parameters in (
        {**CLIP, "clip_model": str(tiny_models["clip"])},
        {**CLIP, "clip_model": f"file:{tmp_path / 'p.csv'}"},
        {**COLD, "features": str(tiny_models["resnet"])},
        {**COLD, "features": f"file:{tmp_path / 'both.npz'}"},
        {"model": str(tiny_models["resnet"])},
        {"clip_model": "/never/used"},
        {"strategy": "stratified", **CLIP, "clip_model": "/never/used"},
    ):
        check_inputs(
            RunConfig.from_mapping({"results_dir": str(tmp_path / "results"), "weights": "none", **parameters})
        )
    assert not (tmp_path / "results").exists()


def test_a_model_whose_outputs_are_in_the_cache_is_not_asked_for(tmp_path, tiny_models, cpu):
    """Imported outputs have no model at all; and a Hub that is out of reach is not needed for what is computed."""
    (tmp_path / "p.csv").write_text("cat,dog,ship\n" + "1,0,0\n" * 6)
    import_logits(data_set(6), tmp_path / "p.csv", "mine", "{}", cache_dir(tmp_path))
    check_inputs(RunConfig.from_mapping({**CLIP, "clip_model": "mine", "results_dir": str(tmp_path)}))
    embed(data_set(), "train", str(tiny_models["resnet"]), 32, cpu, embeddings_dir(tmp_path), silent)
    (meta,) = embeddings_dir(tmp_path).glob("*/meta.json")
    known = json.loads(meta.read_text())
    known["description"]["model"] = "id an/other-one"
    meta.write_text(json.dumps(known))
    check_inputs(RunConfig.from_mapping({**COLD, "features": "an/other-one", "results_dir": str(tmp_path)}))


def test_columns_are_checked_once_the_classes_are_known(tmp_path):
    (tmp_path / "p.csv").write_text("cat,dog\n1,2\n")
    config = RunConfig.from_mapping({**CLIP, "clip_model": f"file:{tmp_path / 'p.csv'}"})
    with pytest.raises(UserError, match="no column for ship"):
        check_inputs(config, data_set())
    with pytest.raises(UserError, match=r"has no \{\}"):
        check_inputs(RunConfig.from_mapping({**CLIP, "clip_prompt": "a photo"}), data_set())


def test_no_torch_is_imported(tmp_path, tiny_models):
    code = (
        "import sys; from al.config import RunConfig; from data_prep.inputs import check_inputs\n"
        f"check_inputs(RunConfig(init='clip', clip_model={str(tiny_models['clip'])!r}, weights='none'))\n"
        "print(sorted({'torch', 'transformers', 'sklearn', 'matplotlib', 'PIL'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=launch.ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_run_finds_a_bad_clip_model_before_it_embeds(launcher, tmp_path, tiny_models):
    root = image_folder(tmp_path / "pictures", count=60)
    given = {"dataset": "imagefolder", "data_dir": root, "variant": "balanced_100", "init": "clip", "budget": 40}
    given |= {"strategy": "coreset", "features": tiny_models["resnet"], "clip_model": tmp_path / "nowhere"}
    outcome = launcher.run(launch.small(tmp_path / "results", **given))
    assert outcome.code == 2
    assert "clip_model=" in outcome.complaint
    assert not (tmp_path / "results").exists()
    assert not (root / ".cache-al").exists(), "not one image was decoded for it"


def test_a_folder_that_was_moved(tmp_path, tiny_models):
    model = tmp_path / "model"
    shutil.copytree(tiny_models["clip"], model)
    config = RunConfig.from_mapping({**CLIP, "clip_model": str(model), "results_dir": str(tmp_path / "r")})
    check_inputs(config)
    model.rename(tmp_path / "moved")
    with pytest.raises(UserError, match="no such folder"):
        check_inputs(config)


def test_a_complete_run_needs_its_models_no_more(tmp_path):
    parameters = {"dataset": "digits", "model": "frozen", "features": "file:/nowhere", "results_dir": str(tmp_path)}
    config = RunConfig.from_mapping(parameters)
    with pytest.raises(UserError, match="nowhere"):
        checked_data(config)
    folder = RunFolder.of(config).path
    folder.mkdir(parents=True)
    (folder / "performance_metrics.json").write_text("{}")
    assert checked_data(config).name == "digits"
