"""Names in any script: the fonts that this machine has, behind the one that matplotlib brings along."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

OWN = "DejaVu Sans"
"""Latin, Greek, Cyrillic, Arabic, Hebrew; not Chinese, Japanese, Korean, nor the scripts of India."""
OTHERS = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Hiragino Sans", "PingFang SC", "Yu Gothic", "Microsoft YaHei"),
    *("Malgun Gothic", "WenQuanYi Zen Hei", "Droid Sans Fallback", "Noto Sans Devanagari", "Noto Sans Thai"),
    "Arial Unicode MS",
)


@cache
def _files() -> dict[str, str]:
    """The files of the fonts that are here, by name, `OWN` first."""
    from matplotlib import font_manager

    known = {font.name: font.fname for font in font_manager.fontManager.ttflist if font.style == "normal"}
    return {OWN: font_manager.findfont(OWN)} | {name: known[name] for name in OTHERS if name in known}


@cache
def _font(file: str, size: int) -> "FreeTypeFont":
    from PIL import ImageFont

    return ImageFont.truetype(file, size)


def font_for(text: str, size: int) -> "FreeTypeFont":
    """The first font that has every letter of a text, for Pillow, which looks in one font only; else `OWN`."""
    from matplotlib import font_manager

    for file in _files().values():
        face = font_manager.get_font(file)
        if all(face.get_char_index(ord(letter)) for letter in text):
            return _font(file, size)
    return _font(_files()[OWN], size)


@contextmanager
def any_script() -> Iterator[None]:
    """Draw with whatever has the letters; where nothing has them there is a box, and no warning for each of them."""
    from matplotlib import rc_context

    with rc_context({"font.family": list(_files())}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing")
        yield
