"""Check what a run is given by name before any heavy work: folders of models, files, the header of a CSV file.

Imports no torch. What is wrong here would otherwise be found after minutes of embedding.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from al.data import DataSet
from al.errors import UserError
from al.identity import FILE
from al.learning.hub import existing_weights, model_folder
from al.storage.run_folder import RunFolder
from data_prep import embeddings as embedding_files
from data_prep.array_cache import META, model_identity
from data_prep.embeddings import REMEDY as FEATURES_REMEDY
from data_prep.embeddings import check_file
from data_prep.zero_shot import labels as zero_shot_labels
from data_prep.zero_shot.logits_file import check_columns, read_header

if TYPE_CHECKING:
    from al.config import RunConfig

BUILT_IN = ("imagenet", "none")
"""Values of `weights` that are no file."""


def checked_data(config: "RunConfig") -> DataSet:
    """The images of a configuration; what it names besides is checked before anything heavy is done.

    Raises:
        UserError: as `check_inputs` and `load_dataset`.
    """
    from data_prep.datasets import load_dataset

    wanted = not RunFolder.of(config).complete  # a run that is complete needs none of it any more
    if wanted:
        check_inputs(config)
    where = (config.dataset, config.data_dir, config.image_size)
    data = load_dataset(*where, split_file=config.split_file, cache=config.cache, strict=config.strict)
    if wanted:
        check_inputs(config, data)
    return data


def check_inputs(config: "RunConfig", data: DataSet | None = None) -> None:
    """Check the models and files that a configuration names, as far as their names, folders and headers tell.

    A model of the Hub is fetched, unless the cache has what it would compute.

    Args:
        data: once it is loaded, the columns of a CSV file and the texts for the classes are checked against it.

    Raises:
        UserError: one of them is not there, cannot be read, or is of another kind.
    """
    clip = config.init == "clip" and not config.method.baseline
    if data is not None:
        if clip:
            _check_classes(config, data)
        return
    if config.uses_embeddings and config.features.startswith(FILE):
        check_file(Path(config.features.removeprefix(FILE)))
    elif config.uses_embeddings:
        _check_model("features", config.features, embedding_files.cache_dir(config.results_dir), FEATURES_REMEDY)
    if clip and config.clip_model.startswith(FILE):
        read_header(Path(config.clip_model.removeprefix(FILE)))
    elif clip:
        cache = zero_shot_labels.cache_dir(config.results_dir)
        folder = _check_model("clip_model", config.clip_model, cache, zero_shot_labels.REMEDY)
        if folder is not None:
            _check_is_clip(config.clip_model, folder)
    if not config.learner.reads_embeddings and config.weights not in BUILT_IN:
        existing_weights(Path(config.weights))
    if not config.learner.reads_embeddings and Path(config.model).is_dir():
        _model_json("model", Path(config.model))


def _check_classes(config: "RunConfig", data: DataSet) -> None:
    if config.clip_model.startswith(FILE):
        path = Path(config.clip_model.removeprefix(FILE))
        check_columns(path, read_header(path), data.train.classes)
    else:
        zero_shot_labels.prompts(config.clip_prompt, data.train.classes)


def _check_model(parameter: str, model: str, cache: Path, remedy: str) -> Path | None:
    """The folder of a model; None where the cache has outputs of it, for which it is not needed."""
    folder = Path(model).expanduser()
    if not folder.is_dir():
        if _has_outputs(model_identity(parameter, model, cache), cache):
            return None
        folder = model_folder(parameter, model, remedy)
    _model_json(parameter, folder)
    return folder


def _has_outputs(identity: str, cache: Path) -> bool:
    for path in cache.glob(f"*/{META}"):
        try:
            if json.loads(path.read_bytes())["description"]["model"] == identity:
                return True
        except (OSError, ValueError, KeyError, TypeError):  # damaged: found and said when it is opened
            continue
    return False


def _model_json(parameter: str, folder: Path) -> dict[str, object]:
    """What a model's `config.json` says.

    Raises:
        UserError: there is none, or it is no JSON object.
    """
    path = folder / "config.json"
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not JSON"
        raise UserError(
            f"{parameter}={str(folder)!r}: config.json cannot be read ({reason}); name a folder in the Hub's format"
        ) from None
    if not isinstance(found, dict):
        raise UserError(f"{parameter}={str(folder)!r}: config.json is no model's; name a folder in the Hub's format")
    return found


def _check_is_clip(model: str, folder: Path) -> None:
    known = _model_json("clip_model", folder)
    kind = str(known.get("model_type"))
    if not {"text_config", "text_config_dict"} & set(known) and "clip" not in kind:
        raise zero_shot_labels.not_clip(model, kind)
