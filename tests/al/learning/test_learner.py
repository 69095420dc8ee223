"""What has an effect on a run is what its parts declare that they read; nothing undeclared can be read."""

from dataclasses import dataclass, fields

import numpy as np
import pytest

from al.config import ACQUISITION, ALWAYS_READ, SCHEDULES, STARTS, WHERE_IT_RUNS, RunConfig
from al.data import DataSet, ImageSet
from al.learning.learner import FITTING, LEARNERS, NETWORK, OUTPUTS, NetworkSettings
from al.learning.network_learner import NetworkLearner
from al.runtime import resolve_runtime
from al.strategies import REGISTRY


def test_every_parameter_is_read_by_somebody_who_says_so():
    declared = ALWAYS_READ | ACQUISITION | FITTING | {"features", "features_size", "minority_classes"}
    declared |= {"split_file", "switch_after"}
    declared |= {option for table in (SCHEDULES, STARTS) for options in table.values() for option in options}
    declared |= {option for method in REGISTRY.values() for option in method.options}
    declared |= {option for output in OUTPUTS.values() for option in output.options}
    for kind in (NETWORK, *LEARNERS.values()):
        declared |= kind.reads
    assert set(RunConfig.model_fields) == declared | set(WHERE_IT_RUNS)


@pytest.mark.parametrize("forgotten", ["lr", "batch_size", "dropout", "augment", "class_weights", "seed"])
def test_a_setting_that_is_not_declared_cannot_be_read(forgotten, tmp_path):
    kept = [(field.name, field.type) for field in fields(NetworkSettings) if field.name != forgotten]
    lacking = dataclass(frozen=True)(type("Lacking", (), {"__annotations__": dict(kept)}))
    config = RunConfig(dataset="digits", model="small_cnn", weights="none")
    images = ImageSet(np.zeros((8, 32, 32, 3), np.uint8), np.arange(8) % 2, ("a", "b"))
    data = DataSet("made", images, images, "f")
    settings = lacking(**{name: getattr(config, name) for name, _ in kept})

    def train():
        learner = NetworkLearner(
            settings, resolve_runtime("cpu"), data, embeddings=None, output_options={}, scratch=tmp_path
        )
        learner.trainer.epoch(learner.images, images.labels, np.arange(8), 1)

    with pytest.raises(AttributeError, match=forgotten):
        train()
