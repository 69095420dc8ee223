"""Encode images with a vision model of the Hugging Face Hub or a folder: vectors of unit length, in float32.

Imports torch and transformers; the modules that keep vectors import it only when something has to be computed.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from al.errors import UserError, first_line, out_of_memory
from al.fast.convolutions import layout
from al.fast.folding import conv_bn_pairs, fold
from al.learning.hub import model_folder
from al.runtime import Runtime, exact_float32
from data_prep.embeddings import REMEDY

BATCH = 256
"""Images encoded at once; halved where the device has no memory for them."""


@dataclass
class ImageEncoder(ABC):
    """A model and the image processor that it was trained with, in float32 on the run's device.

    Float32 whatever the precision of scoring: vectors are computed once and shared by every machine that reads
    the cache, and the rounding of bfloat16 (0.4 % of a cosine, times CLIP's scale of 100) would change some labels.
    """

    network: Any
    image_processor: Any
    runtime: Runtime
    remedy: ClassVar[str]
    """What to do where the device has no room for one image."""

    def __post_init__(self) -> None:
        self.batch = BATCH

    @property
    def device(self) -> torch.device:
        return self.runtime.device

    def images(self, images: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
        """Unit vectors [B, D] of images u8[N, H, W, 3], batch after batch.

        Raises:
            UserError: the device has no room for one image.
        """
        start = 0
        while start < len(images):
            part = images[start : start + self.batch]
            try:
                with exact_float32():
                    vectors = self._encode_images(part)
            except RuntimeError as error:
                if not out_of_memory(error) or len(part) == 1:
                    with self.runtime.room_for("the vector of one image", self.remedy):
                        raise
                self.batch = len(part) // 2
            else:
                yield vectors
                start += len(vectors)

    @abstractmethod
    def _encode_images(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Unit vectors [B, D] of images u8[B, H, W, 3]."""


@dataclass
class VisionEncoder(ImageEncoder):
    """A model of images alone (DINOv2, ViT, ConvNeXt, timm's), or the image half of a CLIP-like one."""

    remedy = "use a smaller model, or a smaller features_size"
    size: int | None = None
    """Side in pixels that images are resized to; None: what the image processor does."""

    @torch.inference_mode()
    def _encode_images(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self.size is None:
            inputs = pixels(self.image_processor, images, self.device)["pixel_values"]
        else:
            inputs = resized(self.image_processor, images, self.device, self.size)
        return self.network(inputs.to(memory_format=layout())).cpu().numpy()


class _Vectors(nn.Module):
    """Images [N, 3, H, W] -> unit vectors [N, D] of a Hugging Face model."""

    def __init__(self, network: nn.Module, pooled: bool):
        super().__init__()
        self.network, self.pooled = network, pooled

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if hasattr(self.network, "get_image_features"):
            return unit(self.network.get_image_features(pixel_values=images))
        output = self.network(pixel_values=images)
        return unit(output.pooler_output.flatten(1) if self.pooled else output.last_hidden_state[:, 0])


class _Paired(nn.Module):
    """The vectors as the second of two outputs, where `al.fast.folding` looks for them."""

    def __init__(self, vectors: nn.Module):
        super().__init__()
        self.vectors = vectors

    def forward(self, images: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, self.vectors(images)


def load_vision(model: str, runtime: Runtime, size: int | None) -> VisionEncoder:
    """Load the model `OWNER/NAME` or `OWNER/NAME@REVISION` of the Hub, or of a folder in the Hub's format.

    An image's vector is what a CLIP-like model compares with texts; else the pooled output; of a transformer
    saved without a pooler the first token.

    Args:
        size: side in pixels that images are resized to; None: what the model's image processor does.

    Raises:
        UserError: it cannot be loaded, has no image processor, lacks weights, does not take images of this size, or
            the device has no room for it.
    """
    folder = model_folder("features", model, REMEDY)
    from transformers import AutoImageProcessor, AutoModel

    quiet()
    reader = Reader("features", model, REMEDY)
    processor = reader("the image processor", AutoImageProcessor.from_pretrained, folder)
    network, loading = reader(
        "the weights", AutoModel.from_pretrained, folder, dtype=torch.float32, output_loading_info=True
    )
    missing = sorted(loading["missing_keys"])
    without_pooler = bool(missing) and all("pooler." in name for name in missing)
    if missing and not without_pooler:
        raise lacks_weights("features", model, missing)
    encoder = VisionEncoder(network, processor, runtime, size)
    with runtime.room_for(f"features={model!r}", encoder.remedy):
        encoder.network = _fastest(_Vectors(network.eval(), not without_pooler), encoder, model)
    return encoder


def _fastest(vectors: nn.Module, encoder: VisionEncoder, model: str) -> nn.Module:
    """Fold batch normalisation into the convolutions; two grey images show that the model works at all."""
    device = encoder.device
    paired = _Paired(vectors).to(device, memory_format=layout()).eval()
    grey = np.full((2, 64, 64, 3), 128, np.uint8)
    grey[1, ::2] = 90
    try:
        if encoder.size is None:
            example = pixels(encoder.image_processor, grey, device)["pixel_values"]
        else:
            example = resized(encoder.image_processor, grey, device, encoder.size)
        pairs = conv_bn_pairs(paired, example.to(memory_format=layout()))
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError, AssertionError) as error:
        if out_of_memory(error):
            raise
        raise UserError(
            f"features={model!r}: gives no vector of an image, or not of images of this size ({first_line(error)}); "
            "use a vision model, and features_size=SIDE that it takes"
        ) from None
    return fold(paired, pairs).vectors if pairs else paired.vectors


def unit(output: Any) -> torch.Tensor:
    """Scale features [N, D], or those in a model's output, to length 1."""
    features = output if isinstance(output, torch.Tensor) else output.pooler_output
    return F.normalize(features.float(), dim=-1)


def pixels(processor: Any, images: NDArray[np.uint8], device: torch.device) -> Any:
    """Resize, crop and normalise images u8[N, H, W, 3] with the model's own image processor, for the device.

    On the CPU whatever the device is: elsewhere torchvision resizes images of whole numbers another way, and vectors
    that machines share through the cache would differ by 0.003 to 0.02. Its torchvision form takes a whole batch; a
    model that has only the form for single images gets that.
    """
    if getattr(processor, "backend", None) != "torchvision":
        return processor(images=list(images), return_tensors="pt").to(device)
    batch = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)  # [N, 3, H, W]
    found = processor(images=batch, input_data_format="channels_first", disable_grouping=False, return_tensors="pt")
    return found.to(device)


def resized(processor: Any, images: NDArray[np.uint8], device: torch.device, size: int) -> torch.Tensor:
    """Resize images u8[N, H, W, 3] to [N, 3, size, size], uncropped, and normalise them as the processor does.

    For models that take several sizes: a small one is quicker, and small images gain little from a large one. On the
    CPU, as in `pixels`.
    """
    mean, std = (torch.tensor(three).view(3, 1, 1) for three in _mean_and_std(processor))
    batch = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255  # [N, 3, H, W]
    if batch.shape[-2:] != (size, size):
        batch = F.interpolate(batch, (size, size), mode="bicubic", antialias=True, align_corners=False).clamp_(0, 1)
    return ((batch - mean) / std).to(device)


def _mean_and_std(processor: Any) -> tuple[Any, Any]:
    """Mean and standard deviation of each channel; timm's processor keeps them elsewhere."""
    timm = getattr(processor, "data_config", None)
    return (timm["mean"], timm["std"]) if timm else (processor.image_mean, processor.image_std)


def quiet() -> None:
    """Silence transformers: it says by exceptions what goes wrong, and its bars would tear ours."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def lacks_weights(parameter: str, model: str, missing: list[str]) -> UserError:
    return UserError(
        f"{parameter}={model!r}: its weights lack {len(missing)} tensors, {missing[0]} first; "
        "name a folder with the whole model"
    )


@dataclass(frozen=True)
class Reader:
    """Reads a part of a model from disk, never from a network; a failure is one line about that part."""

    parameter: str
    model: str
    remedy: str

    def __call__(self, part: str, read: Callable[..., Any], folder: Path, **options: Any) -> Any:
        said = f"{self.parameter}={self.model!r}: {part} cannot be read"
        try:
            return read(folder, local_files_only=True, **options)
        except ImportError as error:
            raise UserError(f"{said} ({first_line(error)}); pip install it") from None
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise UserError(f"{said} ({first_line(error)}); {self.remedy}") from None
