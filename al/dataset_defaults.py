"""The data sets by name, each with the parameters that it runs with where nobody names a model.

`data_prep.datasets` has the function that loads each; they are named here, as the parameters of a run are.
"""

from collections.abc import Mapping
from types import MappingProxyType

Defaults = Mapping[str, object]

DATASETS: Mapping[str, Defaults] = MappingProxyType(
    {
        "cifar10": {},  # the study's: the parameters' own defaults are for it
        "digits": {
            "model": "small_cnn",
            "weights": "none",
            "lr": 0.003,
            "augment": False,  # a mirrored digit is another sign
            "variant": "balanced_20",  # 10 % of 1,258 images would be fewer than the first 150 labels
            "initial_min": 50,
        },
        "imagefolder": {},
    }
)


def with_defaults(parameters: Mapping[str, object]) -> dict[str, object]:
    """`parameters` with the defaults of their data set, unless they name a model.

    A default of the model's side, such as a learning rate, says nothing about another model. So they hold all
    together or not at all, and whoever names a model gets the parameters' own defaults.
    """
    if "model" in parameters:
        return dict(parameters)
    return {**DATASETS.get(str(parameters.get("dataset")), {}), **parameters}


def defaults_of(parameter: str) -> dict[str, object]:
    """The value that a parameter has on each data set that brings a default for it."""
    return {name: defaults[parameter] for name, defaults in DATASETS.items() if parameter in defaults}
