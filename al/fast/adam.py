"""Adam (Kingma & Ba 2015) by torch's own fused kernel, without the optimiser class around it.

`torch.optim.Adam` imports torch's compiler at its first step: three seconds at the start of every run, for nothing
that a run uses.
"""

from collections.abc import Iterable

import torch
from torch.optim.adam import adam

from al.fast.switch import has

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


def new_adam(
    parameters: Iterable[torch.nn.Parameter],
    *,
    lr: float,
    weight_decay: float,
    fused: bool,
    lr_on: torch.device | None = None,
) -> "Adam | TorchAdam":
    """The one here, or torch's own where `AL_FAST` takes this one away; a checkpoint of either goes on in the other."""
    if has("adam"):
        return Adam(parameters, lr=lr, weight_decay=weight_decay, fused=fused, lr_on=lr_on)
    return TorchAdam(parameters, lr=lr, weight_decay=weight_decay)


class Adam:
    """Adam with L2 regularisation, step for step what `torch.optim.Adam` computes.

    Args:
        parameters: those to be optimised; one without a gradient stays as it is.
        weight_decay: added to the gradient, times the parameter.
        fused: whether the device has the kernel that takes all parameters at once.
        lr_on: where that kernel reads the learning rate, in float32, so that a recorded step sees it change; None: it
            gets a number.

    The tensors of a parameter's state never move: they are filled anew, not replaced, when a state is loaded or reset.
    """

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        *,
        lr: float,
        weight_decay: float,
        fused: bool,
        lr_on: torch.device | None = None,
    ):
        self.parameters = list(parameters)
        self.weight_decay, self.fused = weight_decay, fused
        self._read_lr = None if lr_on is None else torch.zeros((), dtype=torch.float32, device=lr_on)
        self.lr = lr
        self.state: dict[int, dict[str, torch.Tensor]] = {}

    @property
    def lr(self) -> float:
        return self._lr

    @lr.setter
    def lr(self, lr: float) -> None:
        self._lr = lr
        if self._read_lr is not None:
            self._read_lr.fill_(lr)

    def reset(self) -> None:
        """Forget all steps: the state is as before the first one."""
        for tensors in self.state.values():
            for tensor in tensors.values():
                tensor.zero_()

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def step(self) -> None:
        used = [number for number, parameter in enumerate(self.parameters) if parameter.grad is not None]
        states = [self.state.get(number) or self._begin(number) for number in used]
        with torch.no_grad():
            adam(
                [self.parameters[number] for number in used],  # all in one call, one kernel for many of them
                [self.parameters[number].grad for number in used],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=self.fused,
                amsgrad=False,
                beta1=BETA1,
                beta2=BETA2,
                lr=self.lr if self._read_lr is None else self._read_lr,
                weight_decay=self.weight_decay,
                eps=EPSILON,
                maximize=False,
            )

    def _begin(self, number: int) -> dict[str, torch.Tensor]:
        parameter = self.parameters[number]
        self.state[number] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device if self.fused else None),
            "exp_avg": torch.zeros_like(parameter, requires_grad=False),
            "exp_avg_sq": torch.zeros_like(parameter, requires_grad=False),
        }
        return self.state[number]

    def state_dict(self) -> dict[str, dict]:
        """The tensors of each parameter by its number, in the form of `torch.optim.Adam`."""
        return {"state": self.state}

    def load_state_dict(self, state: dict[str, dict]) -> None:
        """Take over a state of this class or of `torch.optim.Adam`, copied to the parameters' device."""
        self.reset()
        for number, tensors in state["state"].items():
            for name, tensor in (self.state.get(number) or self._begin(number)).items():
                tensor.copy_(tensors[name])


class TorchAdam(torch.optim.Adam):
    """`torch.optim.Adam` with the learning rate and the state as `Adam` has them."""

    @property
    def lr(self) -> float:
        return self.param_groups[0]["lr"]

    @lr.setter
    def lr(self, lr: float) -> None:
        self.param_groups[0]["lr"] = lr

    def reset(self) -> None:
        """Forget all steps: the state is as before the first one."""
        self.state.clear()

    def state_dict(self) -> dict[str, dict]:
        return {"state": super().state_dict()["state"]}

    def load_state_dict(self, state: dict[str, dict]) -> None:
        super().load_state_dict(super().state_dict() | {"state": state["state"]})
