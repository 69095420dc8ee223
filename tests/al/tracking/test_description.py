"""What W&B is told of a run, from its configuration or from what it wrote down."""

import pytest

from al.config import RunConfig
from al.errors import UserError
from al.storage.files import write_json
from al.storage.run_folder import RunFolder
from al.tracking.description import Description


def test_a_run_of_split_seed_0_is_described(tmp_path):
    config = RunConfig.from_mapping({"dataset": "digits", "split_seed": 0, "results_dir": str(tmp_path)})
    folder = RunFolder.of(config)
    folder.path.mkdir(parents=True)
    written = {"config": config.model_dump(mode="json"), "digest": config.digest(), "cell": config.cell}
    write_json(folder.path / "config.json", written | {"data": {"fingerprint": "f"}})
    found, expected = Description.read(folder), Description.of(config, "f")
    assert found.config == expected.config
    assert found.folder.path == expected.folder.path


@pytest.mark.parametrize("lacking", ["dataset", "variant", "strategy", "split_seed"])
def test_a_configuration_without_what_places_the_run_is_one_line(tmp_path, lacking):
    parameters = {"dataset": "digits", "variant": "balanced_1", "strategy": "margin", "split_seed": 12}
    del parameters[lacking]
    written = {"config": parameters, "digest": "d", "cell": "c", "data": {"fingerprint": "f"}}
    write_json(tmp_path / "config.json", written)
    with pytest.raises(UserError, match="does not say what the run is"):
        Description.read(RunFolder(tmp_path))
