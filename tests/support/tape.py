"""CUDA graphs on a CPU: records the operations of a step, carries out none of them, and repeats exactly those.

As a graph it freezes every number and every address, refuses what would wait for the device or copy from the host, and
leaves what it recorded undone. So a step that is right under it has read all that changes from tensors that stay.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITS = {
    *("_local_scalar_dense", "_unique2", "allclose", "bincount", "equal", "is_nonzero", "masked_select", "nonzero"),
    *("unique_consecutive", "unique_dim"),
}
"""Operations whose result the program needs before it can go on."""
HOST = {"lift_fresh": "torch.tensor"}
"""Operations that copy numbers of the program's to the device."""
UNDECLARED = {"native_batch_norm": slice(3, 5)}
"""Operations whose schema does not say which of their arguments they write to, here the running statistics."""


class TapeRecorder:
    """A `Recorder` for the CPU; counts what it has recorded and repeated."""

    def __init__(self):
        self.recorded = self.replayed = 0
        self.calls = 0
        """Operations of the last recording that compute something."""

    def stream(self) -> AbstractContextManager[None]:
        return nullcontext()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """As `al.fast.graphs.Recorder` has it.

        Raises:
            RuntimeError: as of CUDA, for what cannot be recorded.
        """
        tape = _Tape()
        with _undone(tape), tape:
            work()
        self.recorded += 1
        self.calls = sum(not call.is_view for call, *_ in tape.calls)

        def replay() -> None:
            self.replayed += 1
            tape.replay()

        return replay


class _Tape(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls: list[tuple[Any, tuple, dict[str, Any], Any]] = []
        self.before: dict[int, tuple[torch.Tensor, torch.UntypedStorage]] = {}
        """What was in memory that has been written to, by its address."""

    def __torch_dispatch__(self, call: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        _refuse(call, args)
        for tensor in _written(call, args, kwargs):
            storage = tensor.untyped_storage()
            self.before.setdefault(storage.data_ptr(), (tensor, storage.clone()))
        out = call(*args, **kwargs)
        self.calls.append((call, args, kwargs, out))
        return out

    def replay(self) -> None:
        with torch.no_grad():
            for call, args, kwargs, out in self.calls:
                for kept, found in zip(tree_leaves(out), tree_leaves(call(*args, **kwargs))):
                    if isinstance(kept, torch.Tensor) and kept.data_ptr() != found.data_ptr():
                        kept.copy_(found)


@contextmanager
def _undone(tape: _Tape) -> Iterator[None]:
    """Memory and random numbers as they were."""
    numbers = torch.get_rng_state()
    try:
        yield
    finally:
        for tensor, before in tape.before.values():
            tensor.untyped_storage().copy_(before)
        torch.set_rng_state(numbers)


def _refuse(call: Any, args: tuple) -> None:
    name = call._schema.name.split("::")[1]
    if name in WAITS or (name.startswith("index") and _has_mask(args)):
        raise RuntimeError(f"operation not permitted when stream is capturing: aten::{name}")
    if name in HOST:
        raise RuntimeError(f"operation not permitted when stream is capturing: {HOST[name]} copies from the host")


def _has_mask(args: tuple) -> bool:
    """Indexing by a mask waits to know how many are taken."""
    indices = tree_leaves(args[1:2])
    return any(isinstance(index, torch.Tensor) and index.dtype is torch.bool for index in indices)


def _written(call: Any, args: tuple, kwargs: dict[str, Any]) -> Iterator[torch.Tensor]:
    arguments = call._schema.arguments
    given = [*zip(arguments, args), *((spec, kwargs[spec.name]) for spec in arguments if spec.name in kwargs)]
    written = [value for spec, value in given if spec.alias_info is not None and spec.alias_info.is_write]
    written += args[UNDECLARED.get(call._schema.name.split("::")[1], slice(0))]
    return (leaf for leaf in tree_leaves(written) if isinstance(leaf, torch.Tensor))
