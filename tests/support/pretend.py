"""A device called `pretend`: computes on the CPU, refuses to be mixed with it, counts what a GPU would wait for.

Its tensors are wrappers, outside of the device and with the strides of the CPU tensor inside. Every operation on one of
them comes to `_operation`, where devices and generators are checked, and launches, copies and waits are counted. It is
the backend in Python that torch has for experiments, and registering it lasts: so in a process of its own,

    python tests/support/pretend.py '[["--dataset=digits", ...], ...]'

runs `train.py` there once for each list of arguments and prints a line of JSON with the exit status and counts of each.
"steps MODEL" in place of a list measures single steps and batches, "mix" tries what must fail. It ends with status 77
where this torch has no such backend.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

NAME = "pretend"
MISSING = 77
COPIES = {"copy_": 1, "_copy_from": 0, "_to_copy": 0, "to": 0}
"""Operations that copy between devices, and which argument they read."""
VIEWS = {
    *("alias", "as_strided", "as_strided_", "chunk", "detach", "diagonal", "expand", "permute", "select", "slice"),
    *("split", "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unfold", "unsqueeze", "view"),
    *("_reshape_alias", "_unsafe_view", "empty", "empty_like", "empty_strided", "lift_fresh", "new_empty"),
    "new_empty_strided",
}
"""Operations that compute nothing."""
WAITS = {
    *("_local_scalar_dense", "_unique2", "allclose", "bincount", "equal", "is_nonzero", "masked_select", "nonzero"),
    *("unique_consecutive", "unique_dim"),
}
"""Operations whose result the program needs before it can go on."""
MASKS = (torch.bool, torch.uint8)
KINDS = ("launches", "uploads", "downloads", "waits")
counts: Counter[str] = Counter()
"""Of each of `KINDS` since the last `clear`."""


class PretendTensor(torch.Tensor):
    """A tensor on the device; `inner` [same shape and strides] has its numbers."""

    inner: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "PretendTensor":
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=0, dtype=inner.dtype, device=f"{NAME}:0"
        )
        made.inner = inner
        return made

    def __init__(self, inner: torch.Tensor):
        pass

    @classmethod
    def __torch_dispatch__(cls, call: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        return _operation(call, args, kwargs or {})

    def tolist(self) -> Any:
        counts["waits"] += 1
        return self.inner.tolist()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """As of a GPU's tensor, torch.save waits for a copy."""
        counts["downloads"] += 1
        return self.inner.detach().__reduce_ex__(protocol)


def _wrapped(value: Any) -> Any:
    plain = isinstance(value, torch.Tensor) and not isinstance(value, PretendTensor)
    return PretendTensor(value) if plain else value


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, PretendTensor) else value


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    return (leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor))


def _operation(call: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """One operation of torch with a tensor of the device among its arguments, or one that makes a tensor there."""
    name = call._schema.name.split("::")[1]
    if name in COPIES:
        return _copy(call, name, args, kwargs)
    _check_devices(name, args, kwargs)
    counts["launches"] += name not in VIEWS
    counts["waits"] += name in WAITS or _has_mask(name, args)
    kwargs = {key: value for key, value in kwargs.items() if key != "device"}
    kwargs, args = _with_generator(call, args, kwargs)
    out = call(*tree_map(_inner, args), **tree_map(_inner, kwargs))
    written = _written(call, args, kwargs)
    mine = [tensor for tensor in _tensors((args, kwargs)) if isinstance(tensor, PretendTensor)]
    a_view = name in VIEWS and mine and not mine[0].is_inference()  # of an ordinary tensor it is an ordinary one
    with torch.inference_mode(torch.is_inference_mode_enabled() and not a_view):
        return tree_map(lambda value: written.get(id(value)) if id(value) in written else _wrapped(value), out)


def _copy(call: Any, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Counted as an upload or a download where it goes from one device to the other."""
    source = args[COPIES[name]]
    place = next((arg for arg in args[1:] if isinstance(arg, torch.device)), kwargs.get("device"))
    if name in ("copy_", "_copy_from"):
        there = isinstance(args[0] if name == "copy_" else args[1], PretendTensor)
    else:
        there = isinstance(source, PretendTensor) if place is None else torch.device(place).type == NAME
    here = isinstance(source, PretendTensor)
    counts["uploads"] += there and not here
    counts["downloads"] += here and not there
    counts["launches"] += here and there
    kwargs = {key: value for key, value in kwargs.items() if key != "device"}
    inner = tuple(torch.device("cpu") if isinstance(arg, torch.device) else _inner(arg) for arg in args)
    if name == "_copy_from":
        inner[1].copy_(inner[0])
        return args[1]
    out = call(*inner, **kwargs)
    if name == "copy_":
        return args[0]
    if out.data_ptr() == inner[0].data_ptr() and here != there:
        out = out.clone()  # another device's memory is never the same memory
    return _wrapped(out) if there else out


def _check_devices(name: str, args: tuple, kwargs: dict[str, Any]) -> None:
    """Numbers [] of the CPU may go with tensors of any device, as on a GPU.

    Raises:
        RuntimeError: tensors of both devices.
    """
    tensors = list(_tensors((args, kwargs)))
    mine = any(isinstance(tensor, PretendTensor) for tensor in tensors)
    if mine and any(not isinstance(tensor, PretendTensor) and tensor.dim() for tensor in tensors) and name != "set_":
        raise RuntimeError(f"Expected all tensors to be on the same device, but found {NAME}:0 and cpu in aten::{name}")


def _has_mask(name: str, args: tuple) -> bool:
    """Indexing by a mask waits to know how many are taken."""
    return name.startswith("index") and len(args) > 1 and any(t.dtype in MASKS for t in _tensors(args[1]))


def _with_generator(call: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[dict[str, Any], tuple]:
    """The device draws from its own generator, and refuses that of another device."""
    position = [i for i, argument in enumerate(call._schema.arguments) if argument.name == "generator"]
    if not position:
        return kwargs, args
    given = kwargs.get("generator")
    if given is not None and OWNERS.get(given._cdata) != NAME:
        raise RuntimeError(f"Expected a '{NAME}' device type for generator but found 'cpu'")
    chosen = GENERATOR if given is None else given
    if position[0] < len(args):
        return kwargs, (*args[: position[0]], chosen, *args[position[0] + 1 :])
    return kwargs | {"generator": chosen}, args


def _written(call: Any, args: tuple, kwargs: dict[str, Any]) -> dict[int, PretendTensor]:
    """By the id of what is inside, the tensors that an operation wrote to: it returns them and no new ones."""
    given = [(spec, arg) for spec, arg in zip(call._schema.arguments, args)]
    written = [arg for spec, arg in given if spec.alias_info is not None and spec.alias_info.is_write]
    found = {id(t.inner): t for t in _tensors((written, kwargs)) if isinstance(t, PretendTensor)}
    for tensor in found.values():
        if tuple(tensor.shape) != tuple(tensor.inner.shape):
            raise NotImplementedError(f"aten::{call._schema.name} changed a shape in place")
    return found


OWNERS: dict[int, str] = {}
GENERATOR = torch.Generator()


class Generator(torch.Generator):
    """Knows the device that it was made for; its draws are the CPU's."""

    def __new__(cls, device: Any = "cpu") -> "Generator":
        made = super().__new__(cls)
        OWNERS[made._cdata] = torch.device(device).type
        return made

    def __init__(self, device: Any = "cpu"):
        pass


def install() -> Any:
    """Registers the device, for good; returns what must be kept alive.

    Raises:
        ImportError: this torch has no backends in Python.
    """
    from torch.utils import _device
    from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

    class Backend(_DummyBackendModule):
        def manual_seed_all(self, seed: int) -> None:
            GENERATOR.manual_seed(seed)

        def get_rng_state(self, device: Any = None) -> torch.Tensor:
            return GENERATOR.get_state()

        def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
            GENERATOR.set_state(state)

        def get_amp_supported_dtype(self) -> list[torch.dtype]:
            return [torch.bfloat16]

    _setup_privateuseone_for_python_backend(NAME, backend_module=Backend())
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # a wrapper cannot take another one's memory
    torch.Generator = Generator
    library = torch.library.Library("_", "IMPL")
    library.fallback(lambda call, *args, **kwargs: _operation(call, args, kwargs), "PrivateUse1")
    _device._device_constructors()  # a cache of functions, filled with torch's own before they are replaced
    plain = torch.tensor

    def tensor(data: Any, *, device: Any = None, **options: Any) -> torch.Tensor:
        """torch.tensor copies to the device below the level that a backend in Python sees."""
        made = plain(data, **options)
        return made if device is None else made.to(device)

    torch.tensor = tensor
    plain_range = torch.arange

    def arange(*bounds: Any, device: Any = None, **options: Any) -> torch.Tensor:
        """torch.arange gives the tensor that it writes to another size, which a wrapper cannot have."""
        made = plain_range(*bounds, **options)
        there = device is not None and torch.device(device).type == NAME
        counts["launches"] += there
        return PretendTensor(made) if there else made

    torch.arange = arange
    return library


def counted(work: Any) -> dict[str, int]:
    counts.clear()
    work()
    return {kind: counts[kind] for kind in KINDS}


def steps(name: str) -> dict[str, dict[str, int]]:
    """Counts of one training step, of an epoch around its steps, of one scored batch and a pass around them, of an
    evaluation and of a checkpoint, for the network called `name`."""
    import numpy as np

    from al.config import RunConfig
    from al.fast.convolutions import for_training
    from al.learning.networks import build_model
    from al.learning.scorer import Scorer
    from al.learning.trainer import Trainer
    from al.runtime import Runtime
    from al.storage.checkpoint import packed

    class SmallBatches(Runtime):
        fused_optimiser = True  # as on every GPU

        def scoring_batch(self, size: int) -> int:
            return 64

    runtime = SmallBatches(torch.device(NAME), torch.float32)
    config = RunConfig(model=name, weights="none", class_weights=True)
    model = build_model(name, 10, weights="none", dropout=0.3, image_size=32, seed=1).to(runtime.device)
    for_training(model, on_cpu=False)
    trainer, scorer = Trainer(model, runtime, image_size=32, settings=config, classes=10), Scorer(model, runtime, 32)
    rng = np.random.default_rng(0)
    images = runtime.place(rng.integers(0, 256, (400, 32, 32, 3), dtype=np.uint8))
    labels = np.arange(400) % 10
    rows = rng.permutation(400)
    trainer.epoch(images, labels, rows[:64], 1)
    scorer.predict(images, rows[:64])
    two, three = (counted(lambda n=n: trainer.epoch(images, labels, rows[: 32 * n], 2)) for n in (2, 3))
    one, four = (counted(lambda n=n: scorer.predict(images, rows[: 64 * n], features=True)) for n in (1, 4))
    step = {kind: three[kind] - two[kind] for kind in KINDS}
    batch = {kind: (four[kind] - one[kind]) / 3 for kind in KINDS}
    return {
        "step": step,
        "epoch": {kind: two[kind] - 2 * step[kind] for kind in KINDS},
        "batch": batch,
        "pass": {kind: one[kind] - batch[kind] for kind in KINDS},
        "evaluation": counted(lambda: scorer.predict(images, rows[:192], labels[rows[:192]])),
        "checkpoint": counted(lambda: packed(trainer.state_dict())),
    }


def mix() -> dict[str, list[str]]:
    """What is said of tensors and generators that are not where they should be."""
    here, there = torch.ones(3), torch.ones(3, device=NAME)
    mixed = {
        "two tensors": lambda: here + there,
        "weights": lambda: torch.nn.Linear(3, 2)(there),
        "in place": lambda: there.mul_(here),
        "an index": lambda: here[torch.zeros(2, dtype=torch.int64, device=NAME)],
        "a generator": lambda: torch.rand(3, device=NAME, generator=torch.Generator()),
    }
    said = []
    for name, work in mixed.items():
        try:
            work()
            said.append(f"{name}: nothing")
        except RuntimeError as error:
            said.append(f"{name}: {str(error).partition(',')[0].partition(' but found')[0]}")
    return {"said": said}


OTHERS = {"steps": steps, "mix": mix}
"""What can be asked for besides runs."""


def main(requests: list[Any]) -> None:
    try:
        kept = install()
    except (ImportError, AttributeError, RuntimeError) as error:
        print(error, file=sys.stderr)
        sys.exit(MISSING)
    from train import main as train

    for request in requests:
        counts.clear()
        with redirect_stdout(sys.stderr):
            if isinstance(request, str):
                what, *names = request.split()
                answer = OTHERS[what](*names)
            else:
                answer = {"code": train(request), **counts}
        print(json.dumps(answer), flush=True)
    del kept


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
