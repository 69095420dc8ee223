"""The name of a variant, which says what share of each class may be labelled."""

import re
from typing import NamedTuple

NUMBER = r"\d+(?:\.\d+)?"
VARIANT = re.compile(rf"balanced_(?P<all>{NUMBER})|imbalanced_(?P<major>{NUMBER})_(?P<minor>{NUMBER})", re.ASCII)


class Shares(NamedTuple):
    """Percent of each class that a variant keeps: of most classes, and of the minority classes."""

    majority: float
    minority: float

    @property
    def balanced(self) -> bool:
        return self.majority == self.minority

    @property
    def name(self) -> str:
        """`balanced_10` for balanced_10.0 and imbalanced_10_10 too: one variant, one name."""
        return f"balanced_{self.majority:g}" if self.balanced else f"imbalanced_{self.majority:g}_{self.minority:g}"


def parse_variant(variant: str) -> Shares:
    """`balanced_P` or `imbalanced_P_Q` as percentages.

    Raises:
        ValueError: not one of the two forms, or a percentage outside (0, 100].
    """
    match = VARIANT.fullmatch(variant)
    if match is None:
        raise ValueError(
            "a variant is balanced_P or imbalanced_P_Q, P and Q being percentages of each class; "
            "use for example balanced_10 or imbalanced_10_1"
        )
    shares = Shares(float(match["all"] or match["major"]), float(match["all"] or match["minor"]))
    if not all(0 < share <= 100 for share in shares):
        raise ValueError("the percentages of a variant must lie in (0, 100]")
    return shares
