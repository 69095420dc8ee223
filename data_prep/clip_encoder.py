"""A CLIP-like model of the Hugging Face Hub or a folder: images and texts to one space of unit vectors.

Imports torch and transformers; `clip_labels` imports it only when something has to be computed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from al.errors import UserError, first_line
from al.hub import model_folder
from al.runtime import Runtime

REMEDY = (
    "download the model where there is a network and name its folder, clip_model=FOLDER, or bring its outputs with "
    "`python -m data_prep clip --from-logits FILE.csv`"
)
BATCH = 256
"""Images encoded at once; halved where the device has no memory for them."""


@dataclass
class Encoder:
    """A loaded model with the processor it was trained with, in float32 on the run's device.

    Float32 whatever the precision of scoring: the labels are computed once and shared by every machine that
    reads the cache, and the rounding of bfloat16 (0.4 % of a cosine, times CLIP's scale of 100) would change some.
    """

    network: Any
    tokenizer: Any
    image_processor: Any
    device: torch.device
    batch: int = BATCH

    @property
    def scale(self) -> float:
        """What a cosine is multiplied by to give a logit."""
        return float(self.network.logit_scale.detach().exp())

    @torch.inference_mode()
    def texts(self, prompts: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        """Unit vectors f32[C, D] of C classes, the mean over the templates of `prompts[template][class]`.

        Several templates are averaged as in Radford et al. 2021, section 3.1.4: each text's vector is
        normalised, then the mean.
        """
        mean = torch.stack([self._encode_texts(texts) for texts in prompts]).mean(0)
        return F.normalize(mean, dim=1).cpu().numpy()

    def _encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        config = self.network.config
        # SigLIP was trained on texts padded to full length and reads the last position.
        padding = "max_length" if config.model_type.startswith("siglip") else True
        length = config.text_config.max_position_embeddings
        tokens = self.tokenizer(list(texts), padding=padding, truncation=True, max_length=length, return_tensors="pt")
        return _unit(self.network.get_text_features(**tokens.to(self.device)))

    def images(self, images: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
        """Unit vectors [B, D] of images u8[N, H, W, 3], batch after batch."""
        start = 0
        while start < len(images):
            try:
                vectors = self._encode_images(images[start : start + self.batch])
            except torch.OutOfMemoryError:
                if self.batch == 1:
                    raise
                self.batch //= 2
            else:
                yield vectors
                start += len(vectors)

    @torch.inference_mode()
    def _encode_images(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        inputs = pixels(self.image_processor, images, self.device)
        return _unit(self.network.get_image_features(**inputs)).cpu().numpy()


def pixels(processor: Any, images: NDArray[np.uint8], device: torch.device) -> Any:
    """What the model's own image processor makes of images u8[N, H, W, 3], on the device.

    Its torchvision form resizes, crops and normalises the whole batch there; a model that has only the form
    for single images on the CPU gets that.
    """
    if getattr(processor, "backend", None) != "torchvision":
        return processor(images=list(images), return_tensors="pt").to(device)
    batch = torch.from_numpy(np.array(images)).to(device).permute(0, 3, 1, 2)
    return processor(
        images=batch, input_data_format="channels_first", device=device, disable_grouping=False, return_tensors="pt"
    )


def _unit(output: Any) -> torch.Tensor:
    """[N, D] of unit length, from the features or the output that holds them."""
    features = output if isinstance(output, torch.Tensor) else output.pooler_output
    return F.normalize(features.float(), dim=-1)


def load(model: str, runtime: Runtime) -> Encoder:
    """The model `OWNER/NAME` or `OWNER/NAME@REVISION` of the Hub, or of a folder in the Hub's format.

    Raises:
        UserError: it cannot be had, is not CLIP-like, or lacks weights, tokenizer or image processor.
    """
    folder = model_folder("clip_model", model, REMEDY)
    from transformers import AutoConfig, AutoModel, AutoProcessor
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    config = _attempt(model, "config.json", AutoConfig.from_pretrained, folder)
    if not (hasattr(config, "text_config") and hasattr(config, "vision_config")):
        raise _not_clip(model, config)
    processor = _attempt(model, "the processor", AutoProcessor.from_pretrained, folder)
    if not (hasattr(processor, "tokenizer") and hasattr(processor, "image_processor")):
        raise UserError(f"clip_model={model!r}: has no tokenizer with an image processor; save its processor beside it")
    network, loading = _attempt(
        model, "the weights", AutoModel.from_pretrained, folder, dtype=torch.float32, output_loading_info=True
    )
    if not all(hasattr(network, part) for part in ("get_text_features", "get_image_features", "logit_scale")):
        raise _not_clip(model, config)
    if missing := sorted(loading["missing_keys"]):
        raise UserError(
            f"clip_model={model!r}: its weights lack {len(missing)} tensors, {missing[0]} first; "
            "name a folder with the whole model"
        )
    return Encoder(network.eval().to(runtime.device), processor.tokenizer, processor.image_processor, runtime.device)


def _not_clip(model: str, config: Any) -> UserError:
    return UserError(
        f"clip_model={model!r}: a {config.model_type} model has no text and image features to compare; "
        "use a CLIP or SigLIP model"
    )


def _attempt(model: str, part: str, read: Any, folder: Path, **options: Any) -> Any:
    """`read(folder)` from the disk only, its failure as one line about `part` of the model."""
    try:
        return read(folder, local_files_only=True, **options)
    except ImportError as error:
        raise UserError(f"clip_model={model!r}: {part} cannot be read ({first_line(error)}); pip install it") from None
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(f"clip_model={model!r}: {part} cannot be read ({first_line(error)}); {REMEDY}") from None
