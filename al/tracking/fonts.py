"""Names in any script: the fonts that this machine has, behind the one that matplotlib brings along."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

OWN = "DejaVu Sans"
"""Latin, Greek, Cyrillic, Arabic, Hebrew; not Chinese, Japanese, Korean, nor the scripts of India."""
OTHERS = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Hiragino Sans", "PingFang SC", "Yu Gothic", "Microsoft YaHei"),
    *("Malgun Gothic", "WenQuanYi Zen Hei", "Droid Sans Fallback", "Noto Sans Devanagari", "Noto Sans Thai"),
    "Arial Unicode MS",
)


@contextmanager
def any_script() -> Iterator[None]:
    """Draw with whatever has the letters; where nothing has them there is a box, and no warning for each of them."""
    from matplotlib import font_manager, rc_context

    known = {font.name for font in font_manager.fontManager.ttflist}
    with rc_context({"font.family": [OWN, *(name for name in OTHERS if name in known)]}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing")
        yield
