"""The environment variable AL_FAST: which of the parts that exist for speed a run uses. Imports nothing heavy.

Unset or `all`: every part. `none` or `0`: plain torch. `-folding,-slices`: all but these. For finding faults and for
measuring: results stay the same up to rounding, except that `sketch` changes which clusters k-means finds.
"""

import os

from al.errors import UserError

VARIABLE = "AL_FAST"
PARTS = {
    "adam": "Adam by torch's fused kernel, without the optimiser class around it",
    "allocator": "memory of activations kept by the C library for the next layer",
    "channels_last": "images and kernels stored channel by channel within each pixel",
    "folding": "batch normalisation folded into the convolutions before it, for scoring",
    "graphs": "training steps recorded once and launched again as a whole, on NVIDIA cards",
    "inplace": "activations after folded convolutions in place, for scoring",
    "launches": "no copies and no counters in a training step that nobody reads",
    "padding": "scored batches filled up to few sizes, on devices that plan for each size",
    "pointwise": "1x1 convolutions as matrix products",
    "pooling": "global pooling in half precision by a window of the whole map",
    "sketch": "k-means iterates in 32 directions of the features",
    "slices": "depthwise convolutions over a few pixels by slices of their kernels, for training",
}
ALL, NONE = ("", "all", "1", "true"), ("none", "0", "false")


def has(part: str) -> bool:
    """Whether this process uses `part`, one of `PARTS`.

    Raises:
        UserError: AL_FAST names what is no part.
    """
    said = os.environ.get(VARIABLE, "").strip().lower()
    if said in ALL:
        return True
    if said in NONE:
        return False
    absent = [name.strip() for name in said.split(",")]
    for name in absent:
        if name.removeprefix("-") not in PARTS or not name.startswith("-"):
            raise UserError(
                f"{VARIABLE}={said}: {name!r} is not a part that can be taken away; use all, none, or some of "
                f"{','.join('-' + part for part in PARTS)}"
            )
    return f"-{part}" not in absent
