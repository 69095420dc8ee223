"""Tiny CLIP and SigLIP models in the Hub's format, with random weights, as a test saves them."""

from pathlib import Path

import numpy as np

SIDE = 24
LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
TEXT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**TEXT, "image_size": SIDE, "patch_size": 8}


def save_clip(folder: Path, seed: int = 0) -> Path:
    """Crops to a square after resizing the shorter side, as CLIP does; texts end at the end-of-text token."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    words = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), ".</w>", "<|startoftext|>", "<|endoftext|>"]
    vocab = {word: i for i, word in enumerate(words)}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=[], model_max_length=24)
    ids = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1}
    text = {**TEXT, "vocab_size": len(words), "max_position_embeddings": 24, **ids}
    torch.manual_seed(seed)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16, **ids))
    images = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    return _save(folder, model, CLIPProcessor(images, tokenizer))


def save_siglip(folder: Path, seed: int = 0) -> Path:
    """Resizes to a square; texts are padded to full length."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        PreTrainedTokenizerFast,
        SiglipConfig,
        SiglipImageProcessor,
        SiglipModel,
        SiglipProcessor,
    )

    vocab = {"<pad>": 0, "</s>": 1, "<unk>": 2} | {letter: i for i, letter in enumerate(LETTERS, start=3)}
    raw = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=24,
        model_input_names=["input_ids"],
    )  # fmt: skip
    text = {**TEXT, "vocab_size": len(vocab), "max_position_embeddings": 24, "projection_size": 32}
    torch.manual_seed(seed)
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=VISION))
    with torch.no_grad():
        model.logit_scale.fill_(3.0)
        model.logit_bias.fill_(-5.0)
    return _save(folder, model, SiglipProcessor(SiglipImageProcessor(size={"height": SIDE, "width": SIDE}), tokenizer))


def _save(folder: Path, model, processor) -> Path:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def plain_probs(folder: Path, images: np.ndarray, texts: list[str]) -> np.ndarray:
    """The textbook way: one forward pass of the whole model on what its own processor makes, image by image."""
    import torch
    from PIL import Image
    from transformers import AutoModel, AutoProcessor

    model, processor = AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    padding = "max_length" if model.config.model_type == "siglip" else True
    pictures = [Image.fromarray(image) for image in images]
    inputs = processor(
        text=texts, images=pictures, return_tensors="pt", padding=padding, max_length=24, truncation=True
    )
    with torch.inference_mode():
        return model(**inputs).logits_per_image.softmax(1).numpy()
