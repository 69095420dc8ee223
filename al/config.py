"""The parameters of one run: declared, documented and validated in one place.

Every field of `RunConfig` is an option of `train.py` and a parameter that a W&B sweep may set.
A configuration is frozen; `digest()` identifies what can change its outcome.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from al.dataset_defaults import DATASETS, with_defaults
from al.errors import UserError, nearest
from al.identity import FILE
from al.learning.learner import LEARNERS, OUTPUTS, LearnerKind, learner_kind
from al.strategies import REGISTRY, Strategy, StrategySchedule, get_strategy, strategy_names
from al.values import (
    OptionalCount,
    OptionalNames,
    OptionalPath,
    OptionalSize,
    PathName,
    StrategyNames,
    as_argument,
    explained,
)
from al.variant import Shares, parse_variant

WHERE_IT_RUNS = (
    *("device", "images_on", "cache", "training_on", "data_dir", "results_dir", "strict"),
    *("checkpoint_seconds", "pictures"),
)
"""Fields that say where and under which checks a run happens, and cannot change what it finds."""

OWN_FEATURES = "model"
"""`features` of this value: strategies cluster in what the trained model itself makes of the images."""

DEFAULTS_VERSION = 2
"""Part of every digest; to be raised when the default of a field, or what a field means, changes."""

STARTERS = tuple(name for name, method in REGISTRY.items() if method.needs == ("features",))
"""Strategies that need no model, and so can choose the very first labels: values of `init` too."""

STARTS: dict[str, tuple[str, ...]] = {
    "stratified": (),
    "random": (),
    "clip": ("clip_model", "clip_prompt", "init_cleaning"),
    **{name: REGISTRY[name].options for name in STARTERS},
}
"""Ways to choose the first labels, and the fields that only they read."""

SCHEDULES: dict[str, tuple[str, ...]] = {"epoch": (), "converge": ("warm_start",)}
"""Training schedules, and the fields that only they read."""

ALWAYS_READ = frozenset({"dataset", "image_size", "variant", "strategy", "precision", "seed", "split_seed"})
ACQUISITION = frozenset({"pool_scope", "budget", "initial_fraction", "initial_min", "batch_fraction", "batch_growth"})
ACQUISITION |= {"pool_sample", "init", "stop"}
"""Fields of runs that query; a baseline does not."""


def _option(default: Any, description: str, **limits: Any) -> Any:
    return Field(default, description=description, **limits)


class RunConfig(BaseModel):
    """One run. Frozen, validated; see the fields for what each parameter means."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    # data
    dataset: Literal[*DATASETS] = _option(
        "cifar10", "images to learn from; digits ships with scikit-learn and needs no download"
    )
    data_dir: PathName = _option(
        "data",
        "folder with the images: for imagefolder {train,test}/<class>/*, or <class>/* with a split_file; for cifar10 "
        "the download's place",
    )
    split_file: OptionalPath = _option(
        None,
        "imagefolder: file of path,split lines that says which images are for training and which for testing; unset: "
        "those in the folders train and test",
    )
    image_size: OptionalCount = _option(None, "side in pixels that the model sees; unset: as stored")
    strict: bool = _option(False, "refuse data whose test images are training images too, pixel for pixel")
    variant: str = _option(
        "balanced_10", "share of each class that may be labelled: balanced_P or imbalanced_P_Q, in percent"
    )
    minority_classes: OptionalNames = _option(
        None, "comma-separated classes that an imbalanced variant keeps Q percent of; unset: the last two"
    )
    pool_scope: Literal["full", "variant"] = _option(
        "full", "images to acquire from. full: the whole training set, as in the study; variant: the variant only"
    )

    # acquisition
    strategy: StrategyNames = _option(
        "uncertainty",
        f"what to label next: {', '.join(REGISTRY)}; or two, such as typiclust_typical,margin, the second of which "
        "takes over after switch_after",
    )
    switch_after: int = _option(
        3, "two strategies: rounds in which the first chooses, before the second takes over", ge=1
    )
    budget: OptionalCount = _option(None, "labels to spend in all; unset: the variant's size")
    initial_fraction: float = _option(0.10, "share of the budget labelled before the first round", gt=0, le=1)
    initial_min: int = _option(150, "fewest labels before the first round", ge=1)
    batch_fraction: float = _option(0.05, "share of the budget acquired in each round", gt=0, le=1)
    batch_growth: float = _option(
        1.0, "how many times as many images each round acquires as the round before", ge=1, le=10
    )
    pool_sample: OptionalCount = _option(
        None, "score and choose from this many unlabelled images, drawn at random anew in each round; unset: from all"
    )
    init: str = _option(
        "stratified",
        "how the first labels are chosen: stratified, random, clip (the most confident zero-shot labels, right or "
        f"wrong), or on the embeddings that features names: {', '.join(STARTERS)}",
    )
    init_cleaning: float = _option(
        0.0,
        "init=clip: share of the budget spent on having people check the free labels that are most likely wrong",
        ge=0,
        lt=1,
    )
    stop: Literal["budget", "baseline"] = _option(
        "budget",
        "budget: end when the budget is spent; baseline: end as soon as the stratified baseline is beaten on the test "
        "set",
    )
    schedule: Literal[*SCHEDULES] = _option(
        "epoch", "epoch: train one epoch a round, as the study did; converge: train every round until early stopping"
    )
    warm_start: bool = _option(True, "schedule=converge only: start a round from the last round's weights")
    val_fraction: float = _option(0.15, "share of the labelled images held out for validation", gt=0, le=0.5)

    features: PathName = _option(
        OWN_FEATURES,
        "what strategies cluster in. model: the trained model's own activations; the name or folder of a Hugging Face "
        "vision model: its frozen embeddings; file:PATH: a folder of train.npy and test.npy, one .npz of both, or what "
        "`python -m data_prep embed` made",
    )
    features_size: OptionalCount = _option(
        None, "side in pixels that the embedding model sees; unset: what its image processor does"
    )

    # what single strategies take
    typiclust_max_clusters: int = _option(500, "typiclust_typical: most clusters to make", ge=1)
    typiclust_members: int = _option(
        20_000, "typiclust_typical: most images of a cluster to compare with each other", ge=1
    )
    probcover_delta: OptionalSize = _option(None, "probcover: radius of a ball; unset: found by purity")
    probcover_purity: float = _option(0.95, "probcover: share of balls that must be of one pseudo-class", gt=0, le=1)
    cluster_margin_candidates: int = _option(10, "cluster_margin: candidates with a small margin for each pick", ge=1)
    cluster_margin_size: int = _option(20, "cluster_margin: images of a cluster on average", ge=1)
    herding_candidates: int = _option(20_000, "maxherding, uherding: most images to cover and to choose from", ge=1)
    bait_ridge: float = _option(1.0, "bait: its lambda for activations of mean square 1; it grows with theirs", gt=0)
    batch_noise: Literal["none", "power", "softmax", "softrank"] = _option(
        "none", "strategies that rank scores: noise to add to them, so that a batch is not many copies of one image"
    )
    batch_beta: float = _option(
        1.0, "batch_noise: weight of the scores beside the noise; large: hardly any noise", gt=0
    )
    mc_passes: int = _option(10, "bald: passes with dropout", ge=2, le=1000)
    drop_passes: int = _option(3, "dropquery: passes with dropped features", ge=1, le=1000)

    # model and training
    class_weights: bool = _option(False, "weight the loss by inverse class frequency of the training labels")
    model: PathName = _option(
        "efficientnet_b0",
        "torchvision name, Hugging Face Hub id or local folder, small_cnn, or frozen: a linear head on features",
    )
    weights: PathName = _option("imagenet", "imagenet, none, or a .safetensors or .pth file of the same network")
    dropout: float = _option(0.3, "dropout before the classifier", ge=0, lt=1)
    lr: float = _option(0.001, "learning rate of Adam", gt=0, le=1)
    weight_decay: float = _option(0.001, "weight decay of Adam", ge=0, le=1)
    batch_size: int = _option(32, "images in a training step", ge=2, le=1_000_000)
    max_epochs: int = _option(50, "most epochs of the run (schedule=epoch) or of each round (converge)", ge=1)
    patience: int = _option(10, "epochs without a lower validation loss before training stops", ge=1)
    min_delta: float = _option(0.005, "fall in validation loss that counts as lower", ge=0)
    lr_factor: float = _option(0.5, "what the learning rate is multiplied by on a plateau", gt=0, lt=1)
    lr_patience: int = _option(2, "epochs without a lower validation loss before the learning rate falls", ge=0)
    augment: bool = _option(True, "random flips, 4-pixel shifts and rotations up to 15 degrees while training")

    # randomness
    seed: int = _option(42, "seed of weights, batches, augmentation and strategies", ge=0, lt=2**32)
    split_seed: int = _option(12, "seed of the variant, the first labels and the validation split", ge=0, lt=2**32)

    # zero-shot labels
    clip_model: PathName = _option(
        "openai/clip-vit-base-patch32",
        "init=clip: Hub id or folder of a CLIP-like model, or file:FILE.csv of its outputs",
    )
    clip_prompt: str = _option(
        "{}", "init=clip: text for a class, {} being its name; several, split by |, are averaged"
    )

    # where and how it runs
    device: str = _option("auto", "auto, or a torch device such as cpu")
    images_on: Literal["auto", "device", "host", "disk"] = _option(
        "auto",
        "where images are kept until they are used. device: on the device; host: in main memory; disk: in the "
        "memory-mapped cache of a folder; auto: on the device if they fit in half of its free memory. The outcome is "
        "the same",
    )
    cache: Literal["auto", "on", "off"] = _option(
        "auto",
        "imagefolder. on: decode the images once, into a file; off: decode them whenever they are read, in threads; "
        "auto: on, unless the disk has no room for the file. The outcome is the same",
    )
    training_on: Literal["one", "all"] = _option(
        "one",
        "under torchrun. one: one process trains; all: each process trains on its part of every batch, which gives the "
        "same curve up to rounding and pays where a batch can keep more than one device busy",
    )
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = _option(
        "auto",
        "number format of scoring and evaluation. auto: float32; bfloat16: quicker, but a tenth of the picks change; "
        "tf32 (NVIDIA cards): quicker in training too, but probabilities move by up to 0.02, and some picks with them",
    )
    results_dir: PathName = _option("results", "folder that gets the results")
    checkpoint_seconds: float = _option(
        30.0,
        "fewest seconds between two checkpoints. A run that is killed loses at most this much work, or one epoch where "
        "that is longer; 0: a checkpoint after every epoch",
        ge=0,
    )
    pictures: bool = _option(
        True, "draw the picks, curves and confusion matrices; without them a run takes a second or two less"
    )

    @field_validator("strategy")
    @classmethod
    def _known_strategy(cls, strategy: str) -> str:
        return ",".join(strategy_names(strategy))

    @field_validator("init")
    @classmethod
    def _known_init(cls, name: str) -> str:
        if name not in STARTS:
            raise ValueError(f"no such start; {nearest(name, STARTS)}")
        return name

    @field_validator("variant")
    @classmethod
    def _known_variant(cls, variant: str) -> str:
        return parse_variant(variant).name

    @model_validator(mode="after")
    def _dropout_for_bald(self) -> "RunConfig":
        if "mc_probs" in self.method.needs and self.dropout == 0:
            raise ValueError(f"strategy={self.strategy} compares passes with dropout; use dropout in (0, 1)")
        return self

    @model_validator(mode="after")
    def _embeddings_are_named(self) -> "RunConfig":
        if self.features == OWN_FEATURES and (self.learner.reads_embeddings or self._starts_on_embeddings):
            asks = f"model={self.model}" if self.learner.reads_embeddings else f"init={self.init}"
            raise ValueError(
                f"{asks} works on frozen embeddings, and none are named; use features=MODEL, a Hugging Face vision "
                f"model or its folder, or features={FILE}PATH"
            )
        return self

    @classmethod
    def from_mapping(cls, parameters: Mapping[str, Any]) -> "RunConfig":
        """A configuration from names and values, as a sweep or a command line gives them.

        Values are coerced: `"1e-3"` and `32.0` are what YAML and W&B make of numbers. Where no model is named, the
        defaults of the data set come before those of the fields.

        Raises:
            UserError: an unknown parameter, or a value against its rule; names value, rule and remedy.
        """
        for name in parameters:
            if name not in cls.model_fields:
                raise UserError(f"{name}={parameters[name]}: unknown parameter; {nearest(name, cls.model_fields)}")
        try:
            return cls(**with_defaults(parameters))
        except ValidationError as error:
            raise UserError("; ".join(explained(problem, cls.model_fields) for problem in error.errors())) from None

    @property
    def method(self) -> Strategy | StrategySchedule:
        return get_strategy(self.strategy, self.switch_after)

    @property
    def strategy_title(self) -> str:
        """As people read it: `margin`, or `typiclust_typical then margin`."""
        return self.strategy.replace(",", " then ")

    @property
    def learner(self) -> LearnerKind:
        return learner_kind(self.model)

    @property
    def _starts_on_embeddings(self) -> bool:
        return self.init in STARTERS and not self.method.baseline

    @property
    def uses_embeddings(self) -> bool:
        """Whether the outcome depends on what `features` names."""
        others = self.learner.reads_embeddings or self._starts_on_embeddings
        return self.features != OWN_FEATURES and (others or self.clusters_embeddings(self.method))

    def clusters_embeddings(self, strategy: Strategy | StrategySchedule) -> bool:
        """Whether a strategy reads what `features` names, in place of the model's own."""
        return self.features != OWN_FEATURES and "features" in strategy.needs and not strategy.baseline

    def options_of(self, strategy: Strategy) -> dict[str, object]:
        """What a strategy takes besides the pool, by name."""
        return {name: getattr(self, name) for name in strategy.options}

    @property
    def shares(self) -> Shares:
        return parse_variant(self.variant)

    def reads(self) -> frozenset[str]:
        """The fields that can change the outcome: those that the parts of this run declare."""
        read = ALWAYS_READ | self.learner.reads
        if self.dataset == "imagefolder":
            read |= {"split_file"}
        if not self.shares.balanced:
            read |= {"minority_classes"}
        if self.uses_embeddings:
            read |= {"features"} if self.features.startswith(FILE) else {"features", "features_size"}
        if self.method.baseline:
            return read - {"schedule"}
        read |= ACQUISITION | {*self.method.options, *STARTS[self.init]}
        read |= {option for array in self.method.needs for option in OUTPUTS[array].options}
        if self.batch_noise == "none":
            read -= {"batch_beta"}
        return read | {*SCHEDULES[self.schedule]} if "schedule" in read else read

    def outcome_fields(self) -> dict[str, object]:
        """The fields that can change the outcome, where they are not at their default.

        A field without effect here counts as at its default: a baseline is the same run whatever `batch_fraction`
        the sweep around it uses. And a parameter that a later version adds changes no older digest.
        """
        read = self.reads()
        return {
            name: value
            for name, value in self.model_dump(mode="json").items()
            if name in read and value != RunConfig.model_fields[name].default
        }

    def without_effect(self) -> list[str]:
        """`name=value` of the parameters that were changed and change nothing here."""
        changed = {name for name, value in self if value != RunConfig.model_fields[name].default}
        return [f"{name}={getattr(self, name)}" for name in sorted(changed - self.reads() - set(WHERE_IT_RUNS))]

    def digest(self, *, split_seed: bool = True) -> str:
        """64 hex digits that identify the outcome of this run, or with `split_seed=False` of its cell."""
        fields = self.outcome_fields() | {"defaults": DEFAULTS_VERSION} | self._versions()
        fields |= {"split_seed": self.split_seed if split_seed else None}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    def _folder_name(self) -> list[str]:
        """The data folder's name, where the images come from one: two folders do not share their runs."""
        name = re.sub(r"[^\w-]+", "_", Path(self.data_dir).resolve().name).strip("_")[:40]
        return [name] if self.dataset == "imagefolder" and name else []

    @property
    def data_name(self) -> str:
        """What a reader knows the images by: their folder's name, where they come from one."""
        return next(iter(self._folder_name()), self.dataset)

    def _versions(self) -> dict[str, int]:
        """Versions of the parts of this run, where they are not the first."""
        parts = {"strategy_version": self.method.version, "learner_version": self.learner.version}
        if self._starts_on_embeddings:
            parts["init_version"] = REGISTRY[self.init].version
        return {name: version for name, version in parts.items() if version > 1}

    @property
    def cell(self) -> str:
        """Folder name shared by the split seeds of one configuration: readable, unique, safe in a path."""
        parts = [self.dataset, *self._folder_name(), self.variant, self.strategy.replace(",", "-then-")]
        changed = self.outcome_fields()
        parts += [changed[name] for name in ("init", "schedule") if name in changed]
        parts += ["until-baseline"] if "stop" in changed else []
        parts += [self.model] if self.model in LEARNERS else []
        parts += ["weighted"] if "class_weights" in changed else []
        return "-".join([*parts, self.digest(split_seed=False)[:8]])

    def baseline_of(self) -> "RunConfig":
        """The stratified run on the same variant, with the same training, that this run is to beat."""
        return self.model_copy(update={"strategy": "stratified", "stop": "budget", "init": "stratified"})

    def command(self) -> str:
        """The command line that starts this run."""
        usual = {name: field.default for name, field in RunConfig.model_fields.items()}
        own = usual | dict(DATASETS[self.dataset])  # a value is left out only where both defaults agree with it
        changed = {name: value for name, value in self if not value == usual[name] == own[name]}
        return " ".join(["python train.py", *(f"--{name}={as_argument(value)}" for name, value in changed.items())])
