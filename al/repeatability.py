"""Operations that torch has no deterministic kernel for, noted as it warns of them: the same seed may end otherwise."""

import re
import warnings
from typing import TextIO

WARNING = (
    r"(?P<operation>.+?) (?:does not have a deterministic implementation|defaults to a non-deterministic algorithm)"
)
"""How torch's warning begins: the second form is that of attention, and comes once a process."""

_noted: set[str] = set()


def not_deterministic() -> tuple[str, ...]:
    """What torch has warned of so far in this process, by torch's name for it."""
    return tuple(sorted(_noted))


def note_warnings() -> None:
    """From now on note such warnings and do not show them; others are shown as before."""
    warnings.filterwarnings("always", message=WARNING)
    if not isinstance(warnings.showwarning, _Noting):
        warnings.showwarning = _Noting(warnings.showwarning)


class _Noting:
    """In the place of `warnings.showwarning`."""

    def __init__(self, usual):
        self._usual = usual

    def __call__(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if found := re.match(WARNING, str(message)):
            _noted.add(found["operation"])
        else:
            self._usual(message, category, filename, lineno, file, line)
