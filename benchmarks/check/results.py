"""What a check found: the line that is printed, and what to do where it failed."""

from dataclasses import dataclass
from typing import Any

import numpy as np

TOLERANCE = 1e-3
"""Of probabilities, gradients and features, relative to the largest: float32 differs by order of summation only."""
USE_THE_CPU = "until this is understood, give runs device=cpu; please paste all of this into an issue"
"""What to do where a device computes something else, or not the same twice."""


@dataclass(frozen=True)
class Result:
    """A check: `passed` is None where something is measured and nothing can fail."""

    name: str
    said: str
    passed: bool | None = None
    value: float | None = None
    remedy: str = ""
    """What to do where it failed."""
    detail: str = ""
    """All of what an error said, for the file."""

    def __str__(self) -> str:
        verdict = {True: "ok  ", False: "FAIL", None: "    "}[self.passed]
        line = f"{verdict} {self.name:<34} {self.said}"
        return f"{line}\n     -> {self.remedy or USE_THE_CPU}" if self.passed is False else line


def close(name: str, found: Any, expected: Any, tolerance: float = TOLERANCE) -> Result:
    apart = largest_difference(found, expected)
    said = f"differ by at most {apart:.1e} of the largest value ({tolerance:.0e} is allowed)"
    return Result(name, said, apart <= tolerance, apart)


def largest_difference(found: Any, expected: Any) -> float:
    """Relative to the largest that is expected."""
    found, expected = np.asarray(found), np.asarray(expected)
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30))


def broken(name: str, said: str, detail: str) -> Result:
    """A check that could not be carried out; `detail` is all of what an error said, and goes to the file."""
    remedy = "this check did not come to its end; please paste this and the error, whole in the file named below"
    return Result(name, said, False, remedy=remedy, detail=detail)
