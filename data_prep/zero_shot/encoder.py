"""Encode images and texts with a CLIP-like model of the Hugging Face Hub or a folder, as unit vectors.

Imports torch and transformers; `labels` imports it only when something has to be computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from al.errors import UserError
from al.learning.hub import model_folder
from al.runtime import Runtime, exact_float32
from data_prep.image_encoder import ImageEncoder, Reader, lacks_weights, pixels, quiet, unit
from data_prep.zero_shot.labels import REMEDY, not_clip


@dataclass
class Encoder(ImageEncoder):
    """A CLIP-like model and the processor that it was trained with."""

    tokenizer: Any
    remedy = "use a smaller clip_model"

    @property
    def scale(self) -> float:
        """The factor from a cosine to a logit, the inverse of the softmax temperature."""
        return float(self.network.logit_scale.detach().exp())

    @torch.inference_mode()
    def texts(self, prompts: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        """Encode each class as a unit vector, f32[C, D]: the mean over the templates of `prompts[template][class]`.

        Several templates are averaged as in Radford et al. 2021, section 3.1.4: each text's vector is
        normalised, then the mean.

        Raises:
            UserError: the device has no room for them.
        """
        with self.runtime.room_for("the texts of the classes", self.remedy), exact_float32():
            mean = torch.stack([self._encode_texts(texts) for texts in prompts]).mean(0)
        return F.normalize(mean, dim=1).cpu().numpy()

    def _encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        config = self.network.config
        # SigLIP was trained on texts padded to full length and reads the last position.
        padding = "max_length" if config.model_type.startswith("siglip") else True
        length = config.text_config.max_position_embeddings
        tokens = self.tokenizer(list(texts), padding=padding, truncation=True, max_length=length, return_tensors="pt")
        return unit(self.network.get_text_features(**tokens.to(self.device)))

    @torch.inference_mode()
    def _encode_images(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        inputs = pixels(self.image_processor, images, self.device)
        return unit(self.network.get_image_features(**inputs)).cpu().numpy()


def load(model: str, runtime: Runtime) -> Encoder:
    """Load the model `OWNER/NAME` or `OWNER/NAME@REVISION` of the Hub, or of a folder in the Hub's format.

    Raises:
        UserError: it cannot be loaded, is not CLIP-like, lacks weights, tokenizer or image processor, or the device has
            no room for it.
    """
    folder = model_folder("clip_model", model, REMEDY)
    from transformers import AutoConfig, AutoModel, AutoProcessor

    quiet()
    reader = Reader("clip_model", model, REMEDY)
    config = reader("config.json", AutoConfig.from_pretrained, folder)
    if not (hasattr(config, "text_config") and hasattr(config, "vision_config")):
        raise not_clip(model, config.model_type)
    processor = reader("the processor", AutoProcessor.from_pretrained, folder)
    if not (hasattr(processor, "tokenizer") and hasattr(processor, "image_processor")):
        raise UserError(f"clip_model={model!r}: has no tokenizer with an image processor; save its processor beside it")
    network, loading = reader(
        "the weights", AutoModel.from_pretrained, folder, dtype=torch.float32, output_loading_info=True
    )
    if not all(hasattr(network, part) for part in ("get_text_features", "get_image_features", "logit_scale")):
        raise not_clip(model, config.model_type)
    if missing := sorted(loading["missing_keys"]):
        raise lacks_weights("clip_model", model, missing)
    with runtime.room_for(f"clip_model={model!r}", Encoder.remedy):
        network.eval().to(runtime.device)
    return Encoder(network, processor.image_processor, runtime, processor.tokenizer)
