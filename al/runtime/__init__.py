"""Where a run computes: the only place that names devices, precisions and threads."""

from al.runtime.base import Runtime
from al.runtime.choosing import own_card, resolve_runtime
from al.runtime.memory import MEMORY, out_of_memory
from al.runtime.repeatability import exact_float32

__all__ = ["MEMORY", "Runtime", "exact_float32", "out_of_memory", "own_card", "resolve_runtime"]
