"""Zero-shot labels: the class that a CLIP-like model gives every image before anybody has labelled one.

Radford et al. 2021, section 3.1: an image gets the class whose text its vector is nearest to. The labels are
computed once for a data set, a model and prompts, and cached; `clip_initial_pool` starts a run with them for free.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from al.data import DataSet, ImageSet
from al.errors import UserError
from al.identity import FILE, sha256
from data_prep.array_cache import Entry, model_identity
from data_prep.progress import Progress, show_progress
from data_prep.zero_shot.logits_file import Order, read_probs

if TYPE_CHECKING:
    from al.runtime import Runtime

WAITING_FOR = "computing these zero-shot labels"
WHAT, ARRAY = "the zero-shot labels", "probs"
log = logging.getLogger(__name__)
REMEDY = (
    "download the model where there is a network and name its folder, clip_model=FOLDER, or bring its outputs with "
    "`python -m data_prep clip --from-logits FILE.csv`"
)


@dataclass(frozen=True)
class ZeroShot:
    """A model's zero-shot outputs for the N images of one split, in the order of its rows."""

    probs: NDArray[np.float32]
    """[N, C] softmax over the classes."""
    features: NDArray[np.float32] | None
    """[N, D] image vectors of unit length; None where the outputs came from a file."""
    model: str
    prompt: str
    key: str
    """Identifies images, model, prompts and classes: 32 hex digits."""
    source: str
    """What made them, in words: the model, or the file with the digest of its content."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """[N] the most probable class; of equals the first."""
        return self.probs.argmax(1)

    @property
    def confidence(self) -> NDArray[np.float32]:
        """[N] the probability of that class."""
        return self.probs.max(1)

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Features [M, D] of images `rows`: their vectors, or their log probabilities where there are none."""
        if self.features is not None:
            return np.asarray(self.features[rows])
        return np.log(np.maximum(self.probs[rows], np.finfo(np.float32).tiny))


def cache_dir(results_dir: str | Path) -> Path:
    """Where runs and the command line keep zero-shot labels, so that one finds what the other computed."""
    return Path(results_dir) / "zero_shot"


def zero_shot(
    data: DataSet,
    model: str,
    prompt: str,
    runtime: "Runtime",
    cache_dir: Path,
    progress: Progress = show_progress,
    *,
    split: str = "train",
) -> ZeroShot:
    """Zero-shot outputs for every image of a split, from the cache or computed.

    Args:
        model: Hub id (`OWNER/NAME`, `OWNER/NAME@REVISION`), a folder in the Hub's format, or `file:FILE.csv`
            (see `logits_file.read_probs`; its line i is row i).
        prompt: text for a class, `{}` being its name with underscores as spaces; several, split by `|`, are averaged.
        runtime: says the device; the computation is float32 always, so that the labels do not depend on it.
        progress: shows how far the computation is.

    An interrupted call goes on after the last shard of images it wrote. Two calls at once compute once.

    Raises:
        UserError: no such model, not a CLIP-like one, a prompt without `{}`, classes without names, a bad file.
    """
    if (found := cached(data, model, prompt, cache_dir, split=split)) is not None:
        return found
    entry = _entry(data, model, prompt, cache_dir, split)
    with entry.locked(WAITING_FOR):
        if entry.load() is None:
            _compute(entry, getattr(data, split), model, prompt, runtime, progress)
    if (found := _found(entry, model, prompt)) is None:
        raise UserError(f"{entry.folder}: was changed while it was written; start again")
    return found


def cached(data: DataSet, model: str, prompt: str, cache_dir: Path, *, split: str = "train") -> ZeroShot | None:
    """Zero-shot outputs where they are in the cache or in a file, else None; imports no torch.

    Raises:
        UserError: as `zero_shot`, for the prompt, the classes and a file.
    """
    if model.startswith(FILE):
        return _from_file(data, Path(model.removeprefix(FILE)), split)
    return _found(_entry(data, model, prompt, cache_dir, split), model, prompt)


def import_logits(
    data: DataSet, file: Path, model: str, prompt: str, cache_dir: Path, *, split: str = "train", order: Order = "row"
) -> ZeroShot:
    """Put the zero-shot outputs of a CSV file into the cache as those of `model` with `prompt`.

    From then on a run with `clip_model` and `clip_prompt` of these values starts from them. `model` need not be
    at hand, nor on the Hub: any name will do.

    Raises:
        UserError: a file that does not fit the data set (see `logits_file.read_probs`), or other outputs are
            in that place.
    """
    images = getattr(data, split)
    probs = read_probs(file, images.labels, images.classes, order)
    entry = _entry(data, model, prompt, cache_dir, split)
    source = f"{file.name}, SHA-256 {sha256(file)}, order {order}"
    with entry.locked(WAITING_FOR):
        there = entry.load()
        if there is None:
            entry.finish({ARRAY: probs}, source)
        elif there.source != source:
            raise UserError(
                f"{file}: the cache holds other outputs of {model} with this prompt for these images, from "
                f"{there.source}; delete {entry.folder}, or give these another name with --clip-model"
            )
    return ZeroShot(probs, None, model, prompt, entry.key, source)


def _from_file(data: DataSet, file: Path, split: str) -> ZeroShot:
    images = getattr(data, split)
    probs = read_probs(file, images.labels, images.classes, "row")
    content = sha256(file)
    description = {"data": data.fingerprint, "split": split, "classes": images.classes, "file": content}
    key = Entry(Path(), description, WHAT, ARRAY, len(images)).key
    return ZeroShot(probs, None, f"{FILE}{file}", "", key, f"{file.name}, SHA-256 {content}, order row")


def _found(entry: Entry, model: str, prompt: str) -> ZeroShot | None:
    """The outputs that a complete entry of the cache holds."""
    if (found := entry.load()) is None:
        return None
    probs, features = np.array(found.arrays[ARRAY]), found.arrays.get("features")
    return ZeroShot(probs, features, model, prompt, entry.key, found.source)


def _entry(data: DataSet, model: str, prompt: str, cache_dir: Path, split: str) -> Entry:
    images = getattr(data, split)
    description = {
        "data": data.fingerprint,
        "split": split,
        "images": len(images.labels),
        "prompts": prompts(prompt, images.classes),
        "model": model_identity("clip_model", model, cache_dir),
    }
    return Entry(cache_dir, description, WHAT, ARRAY, len(images))


def not_clip(model: str, kind: str) -> UserError:
    return UserError(
        f"clip_model={model!r}: a {kind} model has no text and image features to compare; use a CLIP or SigLIP model"
    )


def prompts(prompt: str, classes: Sequence[str]) -> list[list[str]]:
    """The texts `[template][class]` of templates split by `|`; underscores in names of folders are spaces.

    Raises:
        UserError: a template without `{}`, or a class without a name.
    """
    if not classes or not all(name.strip() for name in classes):
        raise UserError("clip_prompt: the data set has classes without names, so there is no text for them; name them")
    templates = [template.strip() for template in prompt.split("|")]
    for template in templates:
        if "{}" not in template:
            raise UserError(
                f"clip_prompt={prompt!r}: {template!r} has no {{}} for the name of the class; use for example "
                "'a photo of a {}.'"
            )
    return [[template.replace("{}", name.replace("_", " ")) for name in classes] for template in templates]


def _compute(entry: Entry, images: ImageSet, model: str, prompt: str, runtime: "Runtime", progress: Progress) -> None:
    """Encode the images shard by shard and make the entry complete."""
    from data_prep.zero_shot.encoder import load

    _warn_of_numbers(images.classes)
    encoder = load(model, runtime)
    texts = encoder.texts(prompts(prompt, images.classes))  # [C, D]
    for _ in progress(entry.encode(images.images, encoder.images), len(images), f"zero-shot labels of {model}"):
        pass
    features = entry.join("features")  # [N, D]
    logits = encoder.scale * features @ texts.T  # [N, C]
    entry.finish({ARRAY: _softmax(logits)}, source=f"{model}, prompt {prompt!r}")


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax over the classes, for SigLIP too: they exclude each other here, and its bias cancels."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def _warn_of_numbers(classes: Sequence[str]) -> None:
    numbers = [name for name in classes if name.strip().lstrip("+-").isdigit()]
    if numbers:
        log.warning(
            "classes named %s: a number says little to a text encoder; give the classes names, or a prompt such as "
            "'a handwritten digit {}'",
            ", ".join(numbers[:3]) + (", ..." if len(numbers) > 3 else ""),
        )


def clip_initial_pool(
    probs: NDArray[np.float32], rows: NDArray[np.int64], size: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose the first labels for free: the most confident images, as evenly over the predicted classes as they go.

    The share of a class predicted too rarely, or never, is spread over the others, and the log says so. True
    labels play no part.

    Args:
        probs: f32[N, C] of the whole training set.
        rows: i64[M] the rows that may be taken.
        rng: decides only which classes get one more where `size` is no multiple of their number.

    Returns:
        i64[size] ascending rows and i64[size] their predicted labels. Equal confidences: the lower row first.

    Raises:
        UserError: `size` is more than there are rows.
    """
    if size > len(rows):
        raise UserError(f"initial pool of {size} images: only {len(rows)} to choose from; lower the budget")
    rows = np.sort(rows)
    predicted, confidence = probs[rows].argmax(1), probs[rows].max(1)  # [M], [M]
    available = np.bincount(predicted, minlength=probs.shape[1])  # [C]
    quotas = _even_quotas(available, size, rng)
    ranked = np.argsort(-confidence, kind="stable")  # [M] most confident first; stable: of equals the lower row
    taken = np.concatenate([ranked[predicted[ranked] == c][:quota] for c, quota in enumerate(quotas)])
    taken.sort()
    _say_rare(available, size)
    return rows[taken], predicted[taken].astype(np.int64)


def _even_quotas(available: NDArray[np.int64], size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Split `size` over the classes as evenly as what is `available` of each allows."""
    order = rng.permutation(len(available))
    quotas = np.zeros_like(available)
    while (left := size - int(quotas.sum())) > 0:
        unfilled = order[quotas[order] < available[order]]
        if share := left // len(unfilled):
            quotas[unfilled] += share
        else:
            quotas[unfilled[:left]] += 1
        quotas = np.minimum(quotas, available)  # what a rare class cannot take is spread in the next pass
    return quotas


def _say_rare(available: NDArray[np.int64], size: int) -> None:
    """Warn of classes that cannot fill an even share."""
    share = size // len(available)
    if rare := [f"class {c}: {n}" for c, n in enumerate(available) if n < share]:
        log.warning("zero-shot labels of fewer than %d images for %s; other classes fill up", share, ", ".join(rare))
