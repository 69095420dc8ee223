"""Bad input through the command line: one clear line, exit status 2 within seconds, and nothing written."""

import launch
import numpy as np
import pytest
import runs
import torch
from PIL import Image

import train


@pytest.fixture
def refused(launcher, tmp_path):
    """refused(environment, **parameters): the complaint of a small run that cannot start, with nothing written."""

    def complaint(env=None, **parameters):
        watched = tmp_path / "elsewhere"
        watched.mkdir()
        env = launch.environment(HF_HUB_OFFLINE="1", TORCH_HOME=str(tmp_path / "torch"), **env or {})
        before = runs.tree(watched)
        outcome = launcher.run(launch.small(**{"results_dir": watched / "results"} | parameters), env)
        assert outcome.code == 2, outcome.stdout + outcome.stderr
        assert outcome.seconds < 30
        assert runs.tree(watched) == before, "something was written"
        assert "Traceback" not in outcome.stderr
        return outcome.complaint

    return complaint


class TestCommandLine:
    """The command itself, as a user starts it."""

    @pytest.mark.parametrize(
        ("argument", "words"),
        [
            ("--strateg=margin", ["--strateg=margin", "strategy"]),
            ("--bach-size=8", ["--bach-size=8", "batch_size"]),
            ("margin", ["margin"]),
            ("--lr", ["--lr", "--help"]),
            ("--lr=0", ["lr=0", "learning rate"]),
            ("--strategy=best", ["strategy=best", "margin", "typiclust"]),
            ("--variant=half", ["variant=half", "balanced_10"]),
            ("--batch_fraction=0", ["batch_fraction=0", "greater than 0"]),
            ("--augment=perhaps", ["augment=perhaps"]),
        ],
    )
    def test_bad_argument(self, tmp_path, argument, words):
        outcome = launch.command(argument, cwd=tmp_path, env=launch.environment(tmp_path))
        assert outcome.code == 2
        assert outcome.stdout == ""
        for word in words:
            assert word in outcome.complaint.replace("'", "")
        assert not list(tmp_path.iterdir())

    def test_bad_data_from_any_folder(self, tmp_path):
        outcome = launch.command("--dataset=imagefolder", cwd=tmp_path, env=launch.environment(tmp_path / "home"))
        assert outcome.code == 2
        assert "train/<class>" in outcome.complaint
        assert not list(tmp_path.iterdir())

    def test_hyphens_and_separate_values_are_fine(self):
        from al.options import read_parameters

        config = read_parameters(["--split-seed", "34", "--batch_size=8", "--class-weights", "--augment", "false"], "")
        assert (config.split_seed, config.batch_size, config.class_weights, config.augment) == (34, 8, True, False)

    def test_what_is_shown_of_a_good_run(self, offline_run):
        """Plain lines in a log, one table, where the results are; nothing of W&B's, no warnings."""
        assert offline_run.stderr == ""
        assert str(offline_run.folder) in offline_run.stdout.splitlines()[-1]
        assert sum("epoch" in line and "labels" in line for line in offline_run.stdout.splitlines()) == 8
        assert offline_run.stdout.count("test accuracy") == 1
        assert "wandb:" not in offline_run.stdout
        assert "\x1b" not in offline_run.stdout


class TestNumbers:
    @pytest.mark.parametrize(
        ("parameters", "words"),
        [
            ({"budget": 5000}, ["budget=5000", "1258"]),
            ({"budget": 252, "pool_scope": "variant"}, ["budget=252", "250"]),
            ({"initial_min": 19}, ["19", "10 classes", "20"]),
            ({"initial_min": 60}, ["initial_min=60", "budget=60"]),
            ({"max_epochs": 3}, ["max_epochs=3", "3 acquisitions"]),
            ({"val_fraction": 0.01}, ["val_fraction=0.01"]),
            ({"variant": "balanced_0.1", "strategy": "stratified"}, ["10 classes"]),
            ({"variant": "imbalanced_20_5", "minority_classes": "eleven"}, ["eleven"]),
            ({"variant": "imbalanced_20_5", "minority_classes": "0,1,2,3,4,5,6,7,8,9"}, ["all"]),
        ],
    )
    def test_that_do_not_fit_the_data(self, refused, parameters, words):
        complaint = refused(**parameters)
        for word in words:
            assert word in complaint


class TestModels:
    @pytest.mark.parametrize(
        ("parameters", "words"),
        [
            ({"model": "resnet19"}, ["resnet19", "did you mean resnet1"]),
            ({"model": "vit_b_16"}, ["vit_b_16", "32 pixels", "image_size"]),
            ({"weights": "imagenet"}, ["small_cnn", "weights=none"]),
            ({"weights": "nowhere.pth"}, ["nowhere.pth", "no such file"]),
            ({"model": "owner/network"}, ["owner/network", "model=FOLDER"]),
            ({"device": "abacus"}, ["device=abacus", "device=auto"]),
        ],
    )
    def test_that_cannot_be_had(self, refused, parameters, words):
        complaint = refused(**parameters).replace("'", "")
        for word in words:
            assert word in complaint

    @pytest.mark.parametrize("kind", ["of another network", "cut short"])
    def test_weights_file(self, refused, tmp_path, offline_run, kind):
        from torchvision.models import mobilenet_v3_small

        path = tmp_path / "weights.pth"
        torch.save(mobilenet_v3_small().state_dict(), path)
        if kind == "cut short":
            path.write_bytes(path.read_bytes()[:100_000])
        assert str(path) in refused(weights=path)

    def test_imagenet_weights_without_network(self, launcher, tmp_path):
        """torch says beforehand what it downloads; the last line is the error."""
        env = launch.environment(
            TORCH_HOME=str(tmp_path / "torch"), http_proxy="http://127.0.0.1:9", https_proxy="http://127.0.0.1:9"
        )
        outcome = launcher.run(launch.small(tmp_path / "results", model="resnet18", weights="imagenet"), env)
        assert outcome.code == 2
        assert outcome.seconds < 20
        error = outcome.stderr.strip().splitlines()[-1]
        assert error.startswith("error: ")
        assert str(tmp_path / "torch" / "hub" / "checkpoints" / "resnet18-f37072fd.pth") in error
        assert not (tmp_path / "results").exists()


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """A data folder of three classes with four images each in train and test."""
    generator = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    for split in ("train", "test"):
        for name in ("ant", "bee", "cow"):
            (folder / split / name).mkdir(parents=True)
            for number in range(4):
                pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    return folder


class TestData:
    def test_missing_folder(self, refused, tmp_path):
        assert str(tmp_path / "none") in refused(dataset="imagefolder", data_dir=tmp_path / "none")

    def test_empty_folder(self, refused, tmp_path):
        (tmp_path / "empty").mkdir()
        assert str(tmp_path / "empty") in refused(dataset="imagefolder", data_dir=tmp_path / "empty")

    def test_cifar10_without_network_says_where_the_files_go(self, refused, tmp_path):
        env = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
        complaint = refused(env, dataset="cifar10", data_dir=tmp_path / "cifar")
        assert str(tmp_path / "cifar") in complaint
        assert "cifar-10" in complaint

    def test_class_without_test_images(self, refused, pictures):
        for path in (pictures / "test" / "bee").iterdir():
            path.unlink()
        assert "bee" in refused(dataset="imagefolder", data_dir=pictures)

    def test_class_without_test_folder(self, refused, pictures):
        for path in (pictures / "test" / "bee").iterdir():
            path.unlink()
        (pictures / "test" / "bee").rmdir()
        assert "bee" in refused(dataset="imagefolder", data_dir=pictures)

    def test_truncated_image(self, refused, pictures):
        broken = pictures / "train" / "cow" / "2.png"
        broken.write_bytes(broken.read_bytes()[:-300])
        assert str(broken) in refused(dataset="imagefolder", data_dir=pictures)

    def test_file_that_is_no_image(self, refused, pictures):
        broken = pictures / "test" / "ant" / "1.png"
        broken.write_text("no image")
        assert str(broken) in refused(dataset="imagefolder", data_dir=pictures)


class TestFolders:
    def test_results_folder_that_cannot_be_written(self, refused, tmp_path):
        (tmp_path / "file").touch()
        assert "results_dir" in refused(results_dir=tmp_path / "file" / "results")

    def test_missing_baseline_names_the_command_that_makes_it(self, refused, tmp_path):
        complaint = refused(stop="baseline", split_seed=34)
        assert "python train.py" in complaint
        assert "--strategy=stratified" in complaint
        assert "--split_seed=34" in complaint
        assert f"--results_dir={tmp_path}" in complaint


class TestEnvironment:
    def test_unknown_wandb_mode(self, refused):
        assert "WANDB_MODE=sometimes" in refused({"WANDB_MODE": "sometimes"}).replace("'", "")

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (None, ["WANDB_SWEEP_PARAM_PATH"]),
            ("a: [1", ["WANDB_SWEEP_PARAM_PATH"]),
            ("lr: 0.1", ["WANDB_SWEEP_PARAM_PATH"]),
            ("learning: {value: 0.1}", ["learning=0.1", "unknown parameter"]),
            ("lr: {value: -1}", ["lr=-1"]),
        ],
    )
    def test_sweep_parameters(self, refused, tmp_path, content, words):
        path = tmp_path / "parameters.yaml"
        if content is not None:
            path.write_text(content)
        complaint = refused({"WANDB_SWEEP_PARAM_PATH": str(path)})
        for word in words:
            assert word in complaint


@pytest.mark.parametrize("full", [True, False])
def test_a_device_that_fills_up_anywhere_is_one_line(monkeypatch, capsys, full):
    def run_once(*anything):
        raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED" if full else "a defect")

    monkeypatch.setattr(train, "run_once", run_once)
    if not full:
        with pytest.raises(RuntimeError, match="a defect"):
            train.main(["--dataset=digits"])
        return
    assert train.main(["--dataset=digits"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the device has no room left (cuDNN error")
    assert "use a smaller batch_size" in line
