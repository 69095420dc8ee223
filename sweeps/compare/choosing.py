"""What to compare on a folder of images, and why: model, image size, label counts, strategies."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

from al.errors import UserError, nearest
from al.identity import FILE
from al.learning.hub import cached_model, model_folder
from al.strategies import REGISTRY

KNOWN_MODELS = (
    *("facebook/dinov2-small", "facebook/dinov2-base", "facebook/dinov2-large", "openai/clip-vit-base-patch32"),
    *("google/siglip-base-patch16-224", "google/vit-base-patch16-224", "microsoft/resnet-50"),
)
"""Models of the Hugging Face Hub whose embeddings serve, the preferred one first; it is the one to download."""
HUB_OFF = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
REMEDY = "name another model or folder with --features, or leave it out"

TINY = 24
"""Shorter side in pixels of images that a model trained on photographs makes little of."""
USUAL_INPUT = 224
NETWORK_SIDES = (32, 64)
FINEST = 0.9
"""Quantile of the shorter sides to which larger images are brought: few lose detail, and few are blown up."""

LABELS_A_CLASS = {"frozen": 100, "network": 50}
"""At the end of the curve."""
FIRST_A_CLASS = {"frozen": 1, "network": 5}
FEWEST_FIRST = {"frozen": 10, "network": 20}
MOST_OF_POOL = 0.5
"""Share of the training images that is labelled at the end: beyond, there is little left to choose from."""

BASIC = ("stratified", "random")
"""What every other strategy is compared with."""
CHOICES = {
    "frozen": ("typiclust_typical", "uherding", "margin", "dropquery"),
    "network": ("margin", "badge", "typiclust_typical", "entropy"),
}
"""Strategies besides, the most telling one first: where time is short the last ones go.

For frozen embeddings those that did best on `benchmarks/registry`, which `python -m benchmarks.registry` shows.
"""
FEWEST = len(BASIC) + 1
"""Strategies that stay in any case."""
BY_COST = ("badge", "dropquery", "typiclust", "typiclust_typical", "alfa_mix", "coreset", "probcover", "maxherding")
BY_COST += ("uherding", "bait", "cluster_margin")
"""Strategies whose selection takes noticeable time, the dearest last (`python -m benchmarks.selection`)."""
WHY = {
    "stratified": "as many labels, drawn evenly from all classes: a yardstick only, as it needs the classes known",
    "random": "what choosing must beat",
    "margin": "the closest two classes: the first to try once each class has some labels",
    "entropy": "the least certain predictions",
    "typiclust_typical": "the most typical image of each cluster without labels: for few labels",
    "uherding": "what covers most of the uncertain part of the pool: for any number of labels",
    "dropquery": "images whose prediction changes when features are dropped: for frozen embeddings",
    "badge": "large and diverse gradients: for large batches",
}


@dataclass(frozen=True)
class Images:
    """What choosing needs to know of a folder."""

    folder: Path
    counts: Mapping[str, tuple[int, int]]
    """Training and test images by class."""
    sizes: Mapping[tuple[int, int], int]
    """Images by width and height."""
    split_file: Path | None

    @property
    def train(self) -> int:
        return sum(train for train, _ in self.counts.values())

    @property
    def test(self) -> int:
        return sum(test for _, test in self.counts.values())

    @property
    def shorter_sides(self) -> list[int]:
        return [min(size) for size, images in self.sizes.items() for _ in range(images)]

    @property
    def one_square(self) -> int | None:
        """The side that all images have, where all are squares of one size."""
        (width, height), *others = self.sizes
        return width if not others and width == height else None


class Wishes(NamedTuple):
    """What the user has asked for; None and nothing leave the choice to this module."""

    features: str | None = None
    features_size: int | None = None
    strategies: tuple[str, ...] = ()
    variant: str | None = None
    """That of an earlier comparison on these images: as long as it gives as many labels, its runs count."""


class Reason(NamedTuple):
    """One choice in words."""

    what: str
    chosen: str
    why: str


@dataclass(frozen=True)
class Choice:
    """What every run has, what they differ in, and why."""

    parameters: Mapping[str, object]
    strategies: tuple[str, ...]
    labels: tuple[int, ...]
    """Along the curve: the first labels, and what each query makes of them."""
    reasons: tuple[Reason, ...]
    asked: bool = False
    """Whether the user has named the strategies: then none is left out."""

    @property
    def gauge(self) -> str:
        """The strategy that time is reckoned by: the dearest of those that stay in any case."""
        staying = self.strategies if self.asked else self.strategies[:FEWEST]
        acquiring = [name for name in staying if not REGISTRY[name].baseline]
        return max(reversed(acquiring), key=lambda name: BY_COST.index(name) if name in BY_COST else -1)


def choose(images: Images, wishes: Wishes) -> Choice:
    """Choose what to compare on these images.

    Raises:
        UserError: too few images, an unknown strategy, or a model that cannot be loaded.
    """
    model, model_reason = _model(images, wishes)
    kind = "frozen" if model["model"] == "frozen" else "network"
    size, size_reason = _image_size(images, model, kind)
    curve, labels_reason = _labels(images, kind)
    strategies, strategy_reasons = _strategies(kind, wishes.strategies)
    where = {"dataset": "imagefolder", "data_dir": str(images.folder)}
    where |= {"split_file": str(images.split_file)} if images.split_file else {}
    parameters = where | model | size | _acquisition(images, curve, wishes.variant)
    reasons = (model_reason, size_reason, labels_reason, *strategy_reasons)
    return Choice(parameters, strategies, curve, reasons, asked=bool(wishes.strategies))


# The model


def _model(images: Images, wishes: Wishes) -> tuple[dict[str, object], Reason]:
    if wishes.features is not None:
        return _frozen(wishes.features, wishes.features_size), Reason("model", _frozen_told(wishes), "as you asked")
    side = median(images.shorter_sides)
    if side < TINY:
        why = f"images of about {side:.0f} pixels are too small for a model trained on photographs"
        return _network(images), Reason("model", "small_cnn, from scratch", why)
    for name in KNOWN_MODELS:
        if cached_model(name) is not None:
            why = "in this machine's Hugging Face cache; frozen embeddings need few labels, and seconds a run"
            return _frozen(name, wishes.features_size), Reason("model", f"frozen {name}", why)
    wanted, why = KNOWN_MODELS[0], "no network is to be asked (HF_HUB_OFFLINE)"
    if not any(os.environ.get(name, "0").lower() not in ("0", "", "false") for name in HUB_OFF):
        try:
            model_folder("features", wanted, REMEDY)
        except UserError:
            why = f"{wanted} is not on this machine, and the Hugging Face Hub cannot be reached"
        else:
            why = "downloaded from the Hugging Face Hub; frozen embeddings need few labels, and seconds a run"
            return _frozen(wanted, wishes.features_size), Reason("model", f"frozen {wanted}", why)
    why += "; with --features=FOLDER of a pretrained model accuracies are much higher"
    return _network(images), Reason("model", "small_cnn, from scratch", why)


def _frozen_told(wishes: Wishes) -> str:
    size = f" at {wishes.features_size} pixels" if wishes.features_size else ""
    return f"frozen {wishes.features}{size}"


def _frozen(features: str, size: int | None) -> dict[str, object]:
    return {"model": "frozen", "features": features} | ({"features_size": size} if size else {})


def _network(images: Images) -> dict[str, object]:
    """As the demo trains its network; shifts and mirrors change what a tiny image shows."""
    return {
        "model": "small_cnn",
        "weights": "none",
        "schedule": "converge",
        "max_epochs": 25,
        "patience": 8,
        "lr": 0.003,
        "augment": median(images.shorter_sides) >= TINY,
    }


# The image size


def _image_size(images: Images, model: Mapping[str, object], kind: str) -> tuple[dict[str, int], Reason]:
    """The side that images are brought to; not set where they are stored as the model is to see them."""
    if kind == "frozen":
        limit, why = _input_side(model), "what the model sees"
    else:
        limit = next((side for side in NETWORK_SIDES if side >= median(images.shorter_sides)), NETWORK_SIDES[-1])
        why = "a size that a small network can be trained at on a processor"
    stored = images.one_square
    if stored and NETWORK_SIDES[0] <= stored <= limit:
        return {}, Reason("image size", f"{stored} pixels", "as they are stored")
    if kind == "network":
        return {"image_size": limit}, Reason("image size", f"{limit} pixels", why)
    sides = sorted(images.shorter_sides)
    fine = sides[0] if len(sides) == 1 else quantiles(sides, n=10, method="inclusive")[round(10 * FINEST) - 1]
    side = min(limit, round(fine))
    why = why if side == limit else "nine in ten images are no larger"
    return {"image_size": side}, Reason("image size", f"{side} pixels", f"{why}; the centre square of each is used")


def _input_side(model: Mapping[str, object]) -> int:
    """The side in pixels that a model's image processor brings images to, as its folder says."""
    if "features_size" in model:
        return int(model["features_size"])
    if str(model["features"]).startswith(FILE):
        return NETWORK_SIDES[-1]
    folder = Path(str(model["features"])).expanduser()
    folder = folder if folder.is_dir() else cached_model(str(model["features"])) or folder
    for name in ("preprocessor_config.json", "config.json"):
        try:
            sides = list(_sides(json.loads((folder / name).read_bytes())))
        except (OSError, ValueError):
            continue
        if sides:
            return sides[0]
    return USUAL_INPUT


def _sides(content: object) -> Iterator[int]:
    """Sides in pixels that a processor's or a model's description names, the most telling first."""
    if not isinstance(content, dict):
        return
    for key in ("crop_size", "size", "input_size", "image_size"):
        found = content.get(key)
        if isinstance(found, dict):
            found = found.get("height") or found.get("shortest_edge")
        if isinstance(found, list):
            found = found[-1] if found else None
        if isinstance(found, int) and not isinstance(found, bool) and found > 0:
            yield found
    yield from _sides(content.get("pretrained_cfg"))


# Labels


def _labels(images: Images, kind: str) -> tuple[tuple[int, ...], Reason]:
    """Label counts along the curve, doubling from a few a class; see the constants above for how far."""
    classes, most = len(images.counts), int(MOST_OF_POOL * images.train)
    first = max(FIRST_A_CLASS[kind] * classes, FEWEST_FIRST[kind])
    least = classes if kind == "frozen" else max(2 * classes, 4)
    if 2 * first > most:  # a small folder
        first = least
    last = min(LABELS_A_CLASS[kind] * classes, most)
    counts = [first]
    while 2 * counts[-1] <= last:
        counts.append(2 * counts[-1])
    if len(counts) == 1:
        counts.append(min(2 * first, images.train))
    if counts[-1] <= first:
        raise UserError(
            f"{images.folder}: {images.train:,} training images of {classes:,} classes leave nothing to choose from: "
            f"the first labels take {first:,}; add images, or take out the smallest classes"
        )
    share, each = counts[-1] / images.train, counts[-1] / classes
    end = f"{each:.3g} a class, {100 * share:.0f} % of the training images"
    why = f"doubling each round, from {first / classes:.3g} a class, drawn at random, to {end}"
    return tuple(counts), Reason("labels", f"{counts[0]:,} to {counts[-1]:,}", why)


def _acquisition(images: Images, curve: Sequence[int], earlier: str | None) -> dict[str, object]:
    """The parameters that give these label counts; stratified sampling gets as many as the last."""
    first, last = curve[0], curve[-1]
    return {
        "variant": _variant(images, last, earlier),
        "init": "random",
        "pool_scope": "full",
        "budget": last,
        "initial_min": first,
        "initial_fraction": _fraction(first, last),
        "batch_fraction": _fraction(first, last),
        "batch_growth": 2,
    }


def _variant(images: Images, labels: int, earlier: str | None) -> str:
    """The percentage, taken of each class, that comes nearest to so many labels, with as few decimals as will do."""
    around = 100 * labels / images.train
    found: list[tuple[int, int, float, str]] = []
    for decimals in (0, 1, 2, 4):
        shares = {round(around * (1 + step / 100), decimals) for step in range(-30, 31)}
        for share in (share for share in shares if 0 < share <= 100):
            short_of = abs(_variant_size(images, share) - labels)
            found.append((short_of, decimals, abs(share - around), f"balanced_{share:g}"))
    nearest_one = min(found)
    same = {variant for short_of, *_, variant in found if short_of == nearest_one[0]}
    return earlier if earlier in same else nearest_one[-1]


def _variant_size(images: Images, percent: float) -> int:
    return sum(max(1, int(train * percent / 100 + 0.5)) for train, _ in images.counts.values())


def _fraction(part: int, whole: int) -> float:
    """A short number that times `whole` rounds to `part`."""
    return next(
        share for digits in range(1, 18) if round((share := float(f"{part / whole:.{digits}g}")) * whole) == part
    )


# Strategies


def _strategies(kind: str, wanted: Sequence[str]) -> tuple[tuple[str, ...], tuple[Reason, ...]]:
    for name in wanted:
        if name not in REGISTRY:
            raise UserError(f"--strategies={name}: no such strategy; {nearest(name, REGISTRY)}")
    names = tuple(dict.fromkeys((*BASIC, *(wanted or CHOICES[kind]))))
    return names, tuple(Reason("strategy", name, WHY.get(name) or REGISTRY[name].summary) for name in names)
