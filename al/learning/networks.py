"""Build networks: any torchvision or Hugging Face image classifier, and a small one for demos and tests.

Whatever the source, the result is a `Classifier`: one call gives logits and penultimate features.
"""

import pickle
import socket
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from al.errors import UserError, first_line, nearest
from al.fast.convolutions import layout
from al.learning.hub import existing_weights, model_folder

IMAGENET_CLASSES = 1000
PREFIXES = ("", "backbone.", "backbone.network.")
"""What names in a weights file lack: nothing in our own, else the place of torchvision's or Hugging Face's network."""
DOWNLOAD_TIMEOUT = 20  # seconds without an answer
HUB_REMEDY = "download it where there is a network and name its folder, model=FOLDER"
BROKEN = (OSError, RuntimeError, ValueError, LookupError, EOFError, pickle.UnpicklingError, SafetensorError)
"""What loading missing or damaged weights raises, library by library."""


class Classifier(nn.Module):
    """A backbone, images [N, 3, H, W] -> features [N, D], and a linear head with dropout before it."""

    def __init__(self, backbone: nn.Module, width: int, classes: int, dropout: float):
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, classes)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[N, 3, H, W] normalised -> logits [N, C], features [N, D] before dropout."""
        features = self.backbone(images)
        return self.head(self.dropout(features)), features


class _Logits(nn.Module):
    """A Hugging Face classifier as a plain function of images."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(pixel_values=images).logits


def build_model(name: str, classes: int, *, weights: str, dropout: float, image_size: int, seed: int) -> Classifier:
    """A classifier for `classes` classes, its random weights drawn from `seed`.

    Args:
        name: `small_cnn`, a torchvision classifier, or a Hugging Face Hub id or local folder.
        weights: `imagenet` (or what the Hub id or folder holds), `none`, or a file of the same network.
        image_size: side in pixels of the images it will see.

    Raises:
        UserError: unknown name, weights that cannot be loaded or belong to another network, or images of a
            size that the network does not take.
    """
    torch.manual_seed(seed)
    pretrained = weights == "imagenet"
    backbone = _source(name)(name, pretrained)
    _take_off_head(backbone, name)
    model = Classifier(backbone, _feature_width(backbone, name, image_size), classes, dropout)
    if not pretrained and weights != "none":
        _load_file(model, Path(weights), name)
    return model.to(memory_format=layout())


def _source(name: str) -> Callable[[str, bool], nn.Module]:
    """The function that builds the network called `name`, found from the name alone."""
    if name == "small_cnn":
        return _small_cnn
    if "/" in name or Path(name).is_dir():
        return _hugging_face
    return _torchvision


def _small_cnn(name: str, pretrained: bool) -> nn.Module:
    """Three convolutional blocks, 64 features, 0.1 million weights: learns digits in seconds on a CPU."""
    if pretrained:
        raise UserError("weights=imagenet: small_cnn has no ImageNet weights; use weights=none or weights=FILE")
    blocks: list[nn.Module] = []
    for inputs, outputs in ((3, 32), (32, 64), (64, 64)):
        blocks += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, IMAGENET_CLASSES))


def _torchvision(name: str, pretrained: bool) -> nn.Module:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise UserError(
            f"model={name!r}: no torchvision classifier of this name and no folder, "
            f"nor OWNER/NAME of the Hugging Face Hub; {nearest(name, ['small_cnn', *known])}"
        )
    if not pretrained:
        extra = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        return _main_output(models.get_model(name, weights=None, **extra))
    weights = models.get_model_weights(name).DEFAULT
    target = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name
    remedy = f"put {weights.url} at {target}, or use weights=none or weights=FILE"
    with _one_line_for(f"weights=imagenet for model={name}", remedy), _impatient():
        return _main_output(models.get_model(name, weights=weights))


def _main_output(network: nn.Module) -> nn.Module:
    """Take the auxiliary outputs off GoogLeNet and Inception: training here does not use them."""
    if hasattr(network, "aux_logits"):
        network.aux_logits = False
        network.AuxLogits = network.aux1 = network.aux2 = None
    return network


@contextmanager
def _impatient():
    """Make sockets give up on a silent network instead of waiting for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextmanager
def _one_line_for(what: str, remedy: str):
    """Turn whatever a library raises over weights that it cannot get or read into one line."""
    try:
        yield
    except BROKEN as error:
        raise UserError(f"{what}: cannot be downloaded or read ({first_line(error)}); {remedy}") from None


def _hugging_face(name: str, pretrained: bool) -> nn.Module:
    folder = model_folder("model", name, HUB_REMEDY)
    if not (folder / "config.json").is_file():
        raise UserError(f"model={name!r}: a folder without config.json; name a folder in the Hugging Face format")
    from transformers import AutoConfig, AutoModelForImageClassification
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with _one_line_for(f"model={name!r}", HUB_REMEDY):
        if not pretrained:
            network = AutoModelForImageClassification.from_config(AutoConfig.from_pretrained(folder))
        else:
            network = AutoModelForImageClassification.from_pretrained(
                folder, num_labels=IMAGENET_CLASSES, ignore_mismatched_sizes=True, local_files_only=True
            )
        return _Logits(network.float())  # a checkpoint of half precision comes as it is stored


def _take_off_head(network: nn.Module, name: str) -> None:
    """Replace the last linear layer by the identity, and switch off the dropout right before it."""
    linear = [path for path, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UserError(f"model={name!r}: has no linear classifier to replace; choose a network that ends in one")
    parent_path, _, child = linear[-1].rpartition(".")
    parent = network.get_submodule(parent_path)
    setattr(parent, child, nn.Identity())
    children = list(parent.named_children())
    before = [name for name, _ in children].index(child) - 1
    if before >= 0 and isinstance(children[before][1], nn.Dropout):
        children[before][1].p = 0.0


def _feature_width(backbone: nn.Module, name: str, image_size: int) -> int:
    """Find the width D of the features by showing the backbone two black images of the size it will see."""
    was_training = backbone.training
    try:
        with torch.no_grad():
            features = backbone.eval()(torch.zeros(2, 3, image_size, image_size))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise UserError(
            f"model={name!r}: does not take images of {image_size} pixels ({first_line(error)}); "
            "set image_size to what it takes"
        ) from None
    backbone.train(was_training)
    if features.ndim != 2:
        raise UserError(f"model={name!r}: its features have shape {tuple(features.shape)}; choose a plain classifier")
    return features.shape[1]


def _load_file(model: Classifier, path: Path, name: str) -> None:
    """Load weights of this suite's `best_model.safetensors`, or of the bare network without its classifier.

    Raises:
        UserError: no such file, not a weights file, or the weights of another network.
    """
    state = read_weights(path)
    target = model.state_dict()
    fitting = max((_fitting(state, target, prefix) for prefix in PREFIXES), key=len)
    lacking = [key for key in target if key not in fitting and not key.startswith("head.")]
    if lacking:
        raise UserError(
            f"weights={str(path)!r}: not the weights of {name}: {len(lacking)} of {len(target)} tensors are missing "
            f"or of another shape, {lacking[0].removeprefix('backbone.')} first; name a file of the same network"
        )
    model.load_state_dict(fitting, strict=False)


def _fitting(
    state: Mapping[str, torch.Tensor], target: Mapping[str, torch.Tensor], prefix: str
) -> dict[str, torch.Tensor]:
    """The tensors of `state` that have a place in `target`, by their name there."""
    named = {f"{prefix}{key}": tensor for key, tensor in state.items()}
    return {key: tensor for key, tensor in named.items() if key in target and tensor.shape == target[key].shape}


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a .safetensors or a .pth file, without running any code in it."""
    existing_weights(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except BROKEN:
        raise UserError(f"weights={str(path)!r}: not a whole file of tensors; name a weights file") from None
    state = state.get("state_dict", state) if isinstance(state, dict) else None
    if not state or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise UserError(f"weights={str(path)!r}: holds no weights by name; name a weights file")
    return state
