"""Small copies of images, to be put into pages and tasks."""

import base64
import io
from pathlib import Path

from PIL import Image

from data_prep.sources.decoding import upright_rgb


def small_copy(path: Path, side: int) -> str:
    """An image, upright and at most `side` pixels long, as a data URI of a JPEG."""
    with Image.open(path) as image:
        image.draft("RGB", (2 * side, 2 * side))
        small = upright_rgb(image)
        small.thumbnail((side, side))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
